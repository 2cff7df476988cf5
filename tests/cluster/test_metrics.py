"""What two nodes count of what really happens, and that alerts and panels name nothing else."""

import re
import time
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from broker.mqtt import MQTT_5, Puback, Pubcomp, Publish, Pubrec, Pubrel, ReasonCode
from docs import dashboard
from docs.alerting import ALERTS
from tests.node.harness import NodeProcess
from tests.node.wire import HOUR, connected

WAIT_SECONDS = 10.0
Nodes = tuple[NodeProcess, NodeProcess]
OF_PARENT = {"moorline_worker_up"}


def _value(node: NodeProcess, name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(node.get("/metrics").text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def _wait_until(condition: Callable[[], bool]) -> None:
    """Counters are carried over twice a second."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_alerts_and_panels_name_what_a_node_has(nodes: Nodes) -> None:
    page = nodes[0].get("/metrics").text
    there = set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    there |= {name.removesuffix("_total") for name in there}
    panels = [expr for _, row in dashboard.ROWS for panel in row for expr in panel.expressions()]
    for expr in [*(alert.expr for alert in ALERTS), *panels]:
        for name in re.findall(r"\b(?:moorline|process)_[a-z0-9_]+", expr):
            plain = re.sub(r"_(total|bucket|sum|count)$", "", name)
            assert plain in there | OF_PARENT, expr


def test_packets_and_errors_by_type_and_reason(nodes: Nodes) -> None:
    first, _ = nodes
    packets = {
        kind: _value(first, "moorline_packets_received_total", type=kind)
        for kind in ("connect", "publish", "pingreq", "acknowledgement", "disconnect")
    }
    with connected(first.port, "reader") as reader, connected(first.port, "typist") as typist:
        reader.subscribe("typist/#", qos=1)
        typist.ping()
        typist.publish("typist/a", b"x", 1)
        reader.send(Puback(reader.expect(Publish).packet_id))
        assert typist.publish("$SYS/lie", b"x", 1) == ReasonCode.NOT_AUTHORIZED
        typist.disconnect()
        reader.disconnect()

    def has_counted() -> bool:
        found = {kind: _value(first, "moorline_packets_received_total", type=kind) for kind in packets}
        return {kind: found[kind] - packets[kind] for kind in packets} == {
            "connect": 2,
            "publish": 2,
            "pingreq": 1,
            "acknowledgement": 1,
            "disconnect": 2,
        }

    _wait_until(has_counted)
    _wait_until(
        lambda: _value(first, "moorline_error_packets_total", type="puback", reason="not_authorized") >= 1
    )


def test_latencies_are_sampled(nodes: Nodes) -> None:
    first, _ = nodes
    with (
        connected(first.port, "stored", MQTT_5, properties=HOUR) as stored,
        connected(first.port, "direct", MQTT_5) as direct,
        connected(first.port, "timer", MQTT_5) as publisher,
    ):
        for each in (stored, direct):
            each.subscribe("timed", qos=1)
        for number in range(5):
            publisher.publish("timed", b"%d" % number, 1)
            for each in (stored, direct):
                each.send(Puback(each.expect(Publish).packet_id))
            time.sleep(0.02)  # the next batch is timed, too
    for way in ("direct", "stored"):
        _wait_until(
            lambda way=way: _value(first, "moorline_delivery_latency_seconds_count", way=way) > 0  # type: ignore[misc]  # of a lambda's default
        )
    _wait_until(lambda: _value(first, "moorline_acknowledgement_latency_seconds_count") > 0)
    _wait_until(lambda: _value(first, "moorline_client_acknowledgement_latency_seconds_count") > 0)
    assert _value(first, "moorline_delivery_latency_seconds_sum") < 5


def test_qos_2_exchanges(nodes: Nodes) -> None:
    """One that is finished, one that is left open, and one that ends with its connection."""
    first, _ = nodes
    before = {way: _value(first, "moorline_qos2_completed_total", direction=way) for way in ("in", "out")}
    abandoned = _value(first, "moorline_qos2_abandoned_total", direction="out")
    with (
        connected(first.port, "taker", MQTT_5) as taker,
        connected(first.port, "giver", MQTT_5) as giver,
    ):
        taker.subscribe("exactly", qos=2)
        giver.publish("exactly", b"1", 2)
        one = taker.expect(Publish)
        taker.send(Pubrec(one.packet_id))
        taker.expect(Pubrel)
        taker.send(Pubcomp(one.packet_id))
        giver.publish("exactly", b"2", 2)
        taker.expect(Publish)
        _wait_until(lambda: _value(first, "moorline_qos2_open", direction="out", phase="sent") == 1)
        _wait_until(lambda: _value(first, "moorline_qos2_oldest_seconds", direction="out") > 0)
    _wait_until(lambda: _value(first, "moorline_qos2_completed_total", direction="in") == before["in"] + 2)
    assert _value(first, "moorline_qos2_completed_total", direction="out") == before["out"] + 1
    _wait_until(lambda: _value(first, "moorline_qos2_abandoned_total", direction="out") == abandoned + 1)
    _wait_until(lambda: _value(first, "moorline_qos2_oldest_seconds") == 0)


def test_queues_are_those_of_the_cluster(nodes: Nodes) -> None:
    """Each node has a part; the sum is all of it, wherever the client was."""
    first, second = nodes

    def entries() -> float:
        return sum(_value(node, "moorline_queue_entries") for node in nodes)

    _wait_until(lambda: all("\nmoorline_queue_entries " in node.get("/metrics").text for node in nodes))
    for name, node in (("away-1", first), ("away-2", second), ("away-3", first)):
        with connected(node.port, name, properties=HOUR) as client:
            client.subscribe("kept", qos=1)
            client.disconnect()
    with connected(first.port, "keeper") as publisher:
        for number in range(4):
            publisher.publish("kept", b"%d" % number, 1)
    _wait_until(lambda: entries() == 12)


def test_life_signs_and_the_server(nodes: Nodes) -> None:
    first, second = nodes
    assert _value(first, "moorline_beat_age_seconds") < 5
    _wait_until(lambda: "\nmoorline_others_beat_age_seconds " in second.get("/metrics").text)
    assert _value(second, "moorline_redis_memory_used_bytes") > 0
    assert _value(second, "moorline_listener_open", listener="listen") >= 0
