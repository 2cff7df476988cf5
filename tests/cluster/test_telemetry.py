"""OpenTelemetry: the spans of a message on two nodes, as a collector gets them."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.mqtt import MQTT_3_1_1, Properties, Puback, Publish, Pubrec, Pubrel
from broker.observability.otlp import CONSUMER, INTERNAL, PRODUCER
from tests.cluster.conftest import running_nodes
from tests.cluster.following import following
from tests.cluster.test_watching import begin, end
from tests.node.harness import NodeProcess, refused_start
from tests.node.redis_server import RedisServer
from tests.node.wire import HOUR, connected
from tests.observability.collector import Collector, collecting, plain

Nodes = tuple[NodeProcess, NodeProcess]
PARENT = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def nodes(
    redis_of_cluster: RedisServer, tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[Nodes]:
    directory = tmp_path_factory.mktemp("nodes")
    (directory / "headers").write_text("Authorization: Bearer x\n")
    environment = {
        "MOORLINE_TELEMETRY__OTLP_URL": collector.url,
        "MOORLINE_TELEMETRY__HEADERS_FILE": str(directory / "headers"),
    }
    with running_nodes(directory, redis_of_cluster.url, 2, environment) as (first, second):
        yield first, second


def sampled(flags: str = "01") -> tuple[str, Properties]:
    """The id of a new trace, and the properties of a message in it."""
    trace_id = secrets.token_hex(16)
    pairs = (("a", "b"), ("traceparent", f"00-{trace_id}-{PARENT}-{flags}"), ("tracestate", "x=1"))
    return trace_id, Properties(user_property=pairs)


def names(spans: list[dict[str, Any]]) -> list[str]:
    return sorted(span["name"] for span in spans)


def test_from_publisher_to_subscriber(nodes: Nodes, collector: Collector, name: str) -> None:
    here, there = nodes
    trace_id, properties = sampled()
    with (
        connected(here.port, f"{name}-a") as publisher,
        connected(there.port, f"{name}-b", properties=HOUR) as subscriber,
        connected(there.port, f"{name}-c") as plain_one,
    ):
        subscriber.subscribe(f"{name}/#", qos=1)
        plain_one.subscribe(f"{name}/#")
        publisher.publish(f"{name}/x", b"hello", 1, properties=properties)
        publisher.publish(f"{name}/x", b"without", 1)
        got = subscriber.message()
        assert got.properties is not None
        assert got.properties.user_property == properties.user_property  # [MQTT-3.3.2-17]
        subscriber.message()
        subscriber.ping()
        collector.wait_until(lambda: len(collector.of(trace_id)) == 4)
    spans = {span["name"]: span for span in collector.of(trace_id)}
    assert names(collector.of(trace_id)) == ["deliver", "deliver", "receive", "store"]
    receive, store = spans["receive"], spans["store"]
    assert (receive["kind"], receive["parentSpanId"], receive["traceState"]) == (CONSUMER, PARENT, "x=1")
    assert plain(receive["attributes"]) == {
        "messaging.system": "mqtt",
        "messaging.operation.name": "receive",
        "messaging.operation.type": "receive",
        "messaging.destination.name": f"{name}/x",
        "messaging.client.id": f"{name}-a",
        "messaging.message.body.size": "5",
        "moorline.qos": "1",
        "moorline.retain": False,
        "moorline.dup": False,
    }
    assert (store["kind"], store["parentSpanId"]) == (INTERNAL, receive["spanId"])
    times = [
        int(span[f"{each}TimeUnixNano"])
        for span, each in ((receive, "start"), (store, "start"), (store, "end"), (receive, "end"))
    ]
    assert times == sorted(times)
    delivered = [span for span in collector.of(trace_id) if span["name"] == "deliver"]
    assert {span["parentSpanId"] for span in delivered} == {PARENT}
    assert {span["kind"] for span in delivered} == {PRODUCER}
    clients = {plain(span["attributes"])["messaging.client.id"] for span in delivered}
    assert clients == {f"{name}-b", f"{name}-c"}
    assert "status" not in str(collector.of(trace_id))
    instances = {resource["service.instance.id"] for resource in collector.resources}
    assert instances <= {"node-1", "node-2"}
    assert collector.headers[0]["authorization"] == "Bearer x"


def test_qos_2_and_what_goes_wrong(nodes: Nodes, collector: Collector, name: str) -> None:
    here, _ = nodes
    trace_id, properties = sampled()
    refused_id, refused = sampled()
    with connected(here.port, f"{name}-a") as publisher, connected(here.port, f"{name}-b") as subscriber:
        subscriber.subscribe(f"{name}/#", qos=2)
        publisher.publish(f"{name}/x", b"", 2, properties=properties)
        publish = subscriber.expect(Publish)
        subscriber.send(Pubrec(publish.packet_id))
        subscriber.expect(Pubrel)  # and no PUBCOMP
        assert publisher.publish("$SYS/x", b"", 1, properties=refused) == 0x87
    collector.wait_until(lambda: names(collector.of(trace_id)) == ["deliver", "receive", "store"])
    (deliver,) = [span for span in collector.of(trace_id) if span["name"] == "deliver"]
    assert deliver["status"]["message"] == "connection_closed"
    collector.wait_until(lambda: bool(collector.of(refused_id)))
    (receive,) = collector.of(refused_id)
    assert receive["status"] == {"code": 2, "message": "not_authorized"}


def test_others_have_none(nodes: Nodes, collector: Collector, name: str) -> None:
    here, _ = nodes
    unsampled_id, unsampled = sampled("00")
    trace_id, properties = sampled()
    with (
        connected(here.port, f"{name}-a") as publisher,
        connected(here.port, f"{name}-b", MQTT_3_1_1) as subscriber,
    ):
        subscriber.subscribe(f"{name}/#", qos=1)
        for each in (unsampled, Properties(user_property=(("traceparent", "broken"),))):
            publisher.publish(f"{name}/x", b"", 1, properties=each)
            subscriber.send(Puback(subscriber.expect(Publish).packet_id))
        # To MQTT 3 it can't be said; what is received has its spans all the same.
        publisher.publish(f"{name}/x", b"", 0, properties=properties)
        subscriber.expect(Publish)
        collector.wait_until(lambda: names(collector.of(trace_id)) == ["receive"])
    assert collector.of(unsampled_id) == []


def test_beside_a_live_trace(nodes: Nodes, collector: Collector, name: str) -> None:
    here, there = nodes
    trace_id, properties = sampled()
    trace = begin(here, client_id=f"{name}-a")
    with following(here, f"/traces/{trace}") as seen, connected(there.port, f"{name}-a") as client:
        client.subscribe(name)
        client.publish(name, b"", 0, properties=properties)
        collector.wait_until(lambda: names(collector.of(trace_id)) == ["deliver", "receive"])
        assert seen.wait_for("packet", packet="PUBLISH", direction="out")["topic"] == name
        assert end(here, trace) == 200
        after_id, properties = sampled()
        client.publish(name, b"", 0, properties=properties)
        collector.wait_until(lambda: names(collector.of(after_id)) == ["deliver", "receive"])


def test_a_node_that_can_not_read_its_headers(tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("no header\n")
    environment = {
        "MOORLINE_TELEMETRY__OTLP_URL": "http://127.0.0.1:1",
        "MOORLINE_TELEMETRY__HEADERS_FILE": str(tmp_path / "headers"),
    }
    code, output = refused_start(tmp_path / "node", environment=environment)
    assert code == 2
    assert "line 1: not a header" in output
