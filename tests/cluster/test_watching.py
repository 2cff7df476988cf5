"""Live traces and events, of two nodes: the one that is asked is not the one with the client."""

import re
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from broker.auth.admin_tokens import Role, make_token
from broker.mqtt import MQTT_3_1_1, MQTT_5, Connack, Connect, Disconnect, Properties, Puback, Publish, Will
from cluster.store import keys
from tests.cluster.conftest import running_nodes
from tests.cluster.following import following, packets, wait_until
from tests.listeners.subscribed import subscribed
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import RedisServer
from tests.node.wire import WireClient, connected
from tests.tools import NO_TLS, make_certificate

Nodes = tuple[NodeProcess, NodeProcess]
Guarded = tuple[NodeProcess, dict[str, dict[str, str]]]

RECORDS_AT_ONCE = 200


@pytest.fixture(scope="module")
def nodes(redis_of_cluster: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    directory = tmp_path_factory.mktemp("nodes")
    environment = {"MOORLINE_SESSION__TAKEOVERS_PER_MINUTE": "0"}
    with running_nodes(directory, redis_of_cluster.url, 2, environment) as (first, second):
        yield first, second


def begin(node: NodeProcess, **body: object) -> str:
    """A trace; its id."""
    answer = node.post("/api/v1/traces", body)
    assert answer.status == 201, answer.text
    begun: dict[str, Any] = httpx.Response(200, text=answer.text).json()
    assert begun["silent"] == {}
    return str(begun["id"])


def end(node: NodeProcess, trace_id: str) -> int:
    """The status of the answer."""
    url = f"http://127.0.0.1:{node.admin_port}/api/v1/traces/{trace_id}"
    return int(httpx.delete(url, trust_env=False, verify=NO_TLS).status_code)


def test_a_client_from_its_connect_to_its_end(nodes: Nodes, name: str) -> None:
    here, there = nodes
    trace = begin(here, client_id=name)
    with following(here, f"/traces/{trace}") as seen:
        with WireClient(there.port) as other, WireClient(there.port) as client:
            other.connect("somebody-else")
            will = Will("gone", b"secret will", 1, False)
            client.send(Connect(name, MQTT_5, True, 30, "ann", b"secret", will))
            client.expect(Connack)
            client.subscribe("a/+", qos=1)
            told = Properties(user_property=(("k", "secret"),))
            client.send(Publish("a/b", b"secret payload", 1, False, False, 1, told))
            published = client.expect(Publish)
            client.expect(Puback)
            client.send(Puback(published.packet_id))
            other.publish("a/c", b"", 0)
            client.disconnect()
        seen.wait_for("packet", packet="closed")
    assert seen.headers["content-type"].startswith("text/event-stream")
    assert seen.headers["cache-control"] == "no-store"
    assert seen.headers["x-accel-buffering"] == "no"
    assert [(each["direction"], each["packet"]) for each in seen.of("packet")] == [
        ("in", "CONNECT"),
        ("out", "CONNACK"),
        ("in", "SUBSCRIBE"),
        ("out", "SUBACK"),
        ("in", "PUBLISH"),
        ("out", "PUBLISH"),
        ("out", "PUBACK"),
        ("in", "PUBACK"),
        ("out", "PUBLISH"),
        ("in", "DISCONNECT"),
        ("out", "closed"),
    ]
    connect, *_ = seen.of("packet")
    assert connect["client_id"] == name
    assert connect["node"] == "node-2"
    assert (connect["username"], connect["password"], connect["keep_alive_seconds"]) == ("ann", True, 30)
    assert connect["will"] == {"topic": "gone", "qos": 1, "retain": False, "bytes": 11}
    publish = seen.wait_for("packet", packet="PUBLISH", direction="in")
    assert (publish["topic"], publish["qos"], publish["bytes"]) == ("a/b", 1, 14)
    assert publish["properties"] == {"user_property": [["k"]]}
    assert "secret" not in str(seen.events)
    moments = [each["at"] for each in seen.of("packet")]
    assert moments == sorted(moments)
    end(there, trace)


def test_one_that_is_connected_already(nodes: Nodes, name: str) -> None:
    """Topic Aliases that were set before are known; a packet of which a part has come is whole."""
    here, there = nodes
    topic = f"{name}/with/a/name/that/is/long"
    with (
        connected(there.port, name, properties=Properties(topic_alias_maximum=4)) as client,
        connected(there.port, f"{name}-other") as other,
    ):
        client.subscribe(topic)
        for number in range(3):
            other.publish(topic, b"%d" % number)
            assert client.expect(Publish).payload == b"%d" % number
        whole = bytes([0x30, 2 + len(topic), 0, len(topic)]) + topic.encode() + b"\0"
        whole = bytes([0x30, len(whole) - 2]) + whole[2:]
        client.send_bytes(whole[:7])
        trace = begin(here, client_id=name, payloads=True)
        client.send_bytes(whole[7:])
        client.expect(Publish)
        other.publish(topic, b'{"on": 1}')
        received = client.expect(Publish)
        assert received.topic == ""  # it is an alias on the wire
        with following(there, f"/traces/{trace}") as seen:  # which does not know it but from Redis
            sent = seen.wait_for("packet", packet="PUBLISH", payload='{"on": 1}')
            assert sent["topic"] == topic
            assert seen.wait_for("packet", packet="PUBLISH", direction="in")["topic"] == topic
    assert end(here, trace) == 200


def test_messages_of_a_topic(nodes: Nodes, name: str) -> None:
    here, there = nodes
    trace = begin(here, topic=f"{name}/+")
    with (
        following(here, f"/traces/{trace}") as seen,
        connected(here.port, f"{name}-a", MQTT_3_1_1) as publisher,
        connected(there.port, f"{name}-b") as subscriber,
    ):
        subscriber.subscribe(f"{name}/#", qos=2)
        publisher.publish(f"{name}/x/y", b"no", 1)
        publisher.publish(f"{name}/x", b"yes", 2)
        assert subscriber.payloads(2) == [b"no", b"yes"]
        seen.wait_until(lambda: len(seen.of("packet")) == 2)
        come, gone = sorted(seen.of("packet"), key=lambda each: str(each["direction"]))
        assert (come["direction"], come["client_id"], come["node"]) == ("in", f"{name}-a", "node-1")
        assert (gone["direction"], gone["client_id"], gone["node"]) == ("out", f"{name}-b", "node-2")
        assert end(there, trace) == 200
        seen.wait_until(lambda: seen.has_ended)
        assert seen.events[-1] == ("end", {})
        publisher.publish(f"{name}/x", b"unseen", 1)
        assert subscriber.payloads(1) == [b"unseen"]
        assert len(seen.of("packet")) == 2
    assert end(here, trace) == 404
    assert here.get(f"/api/v1/traces/{trace}").status == 404


def test_an_address_and_those_whom_we_name(nodes: Nodes, name: str) -> None:
    here, there = nodes
    trace = begin(here, address="127.0.0.0/8")
    elsewhere = begin(here, address="192.0.2.0/24")
    prefix = begin(here, client_id="auto-*")
    with (
        following(here, f"/traces/{trace}") as seen,
        following(here, f"/traces/{elsewhere}") as nothing,
        following(here, f"/traces/{prefix}") as named,
    ):
        with WireClient(there.port) as client:
            client.connect("")
            client.disconnect()
        named.wait_for("packet", packet="closed")
        assert packets(named) == [
            ("in", "CONNECT"), ("out", "CONNACK"), ("in", "DISCONNECT"), ("out", "closed")
        ]  # fmt: skip
        assert named.of("packet")[0]["client_id"].startswith("auto-")
        with WireClient(there.port, MQTT_3_1_1) as broken:
            broken.send_bytes(b"\0\0\0\0")
            broken.wait_closed()
        seen.wait_until(lambda: packets(seen, "closed") == [("out", "closed")] * 2)
        assert packets(seen)[:2] == [("in", "opened"), ("in", "CONNECT")]
        assert "protocol_error" in seen.of("packet")[-1]["reason"]
        assert nothing.of("packet") == []
    for each in (trace, elsewhere, prefix):
        assert end(here, each) == 200


def test_what_goes_on_by_last_event_id(nodes: Nodes, name: str) -> None:
    here, there = nodes
    trace = begin(here, client_id=name)
    with connected(there.port, name) as client:
        with following(here, f"/traces/{trace}") as first:
            first.wait_for("packet", packet="CONNACK")
        client.ping()
        with following(there, f"/traces/{trace}", {"Last-Event-ID": first.ids[-1]}) as second:
            second.wait_for("packet", packet="PINGRESP")
        assert packets(second) == [("in", "PINGREQ"), ("out", "PINGRESP")]
        assert second.of("left_out") == []
    assert end(here, trace) == 200


def test_more_than_may_be_told_is_counted(nodes: Nodes, name: str) -> None:
    here, there = nodes
    trace = begin(here, client_id=name)
    count = 3 * RECORDS_AT_ONCE
    with connected(there.port, name) as client, following(here, f"/traces/{trace}") as seen:
        for _ in range(count):
            client.send(Publish("nowhere", b"", 0, False, False, 0))
        client.ping()
        expected = count + 4  # CONNECT, CONNACK, PINGREQ, PINGRESP

        def total() -> int:
            left_out: int = sum(each["records"] for each in seen.of("left_out"))
            return len(seen.of("packet")) + left_out

        seen.wait_until(lambda: total() == expected)
        assert RECORDS_AT_ONCE <= len(seen.of("packet")) < count
        assert {each["node"] for each in seen.of("left_out")} == {"node-2"}
    assert end(here, trace) == 200


def test_a_trace_ends_by_itself_and_leaves_nothing(
    nodes: Nodes, redis_of_cluster: RedisServer, name: str
) -> None:
    here, there = nodes
    trace = begin(here, client_id=name, seconds=0.5)
    with following(here, f"/traces/{trace}") as seen, connected(there.port, name):
        seen.wait_until(lambda: seen.has_ended)
    with redis_of_cluster.client() as redis:
        prefix = "mq:"
        wait_until(lambda: not redis.exists(keys.tap(prefix, trace), keys.trace(prefix, trace)))


def test_no_more_than_eight_at_a_time(nodes: Nodes, name: str) -> None:
    here, there = nodes
    traces = [begin(here, client_id=f"{name}-{number}") for number in range(8)]
    refused = there.post("/api/v1/traces", {"client_id": name})
    assert refused.status == 503
    assert "8 others watch already" in refused.text
    for trace in traces:
        assert end(there, trace) == 200
    assert end(here, begin(here, client_id=name)) == 200


def test_what_makes_no_sense(nodes: Nodes) -> None:
    here, _ = nodes
    bodies: list[tuple[dict[str, object], str]] = [
        ({}, "one of client_id, topic and address"),
        ({"client_id": "a", "topic": "b"}, "one of client_id, topic and address"),
        ({"topic": "a/#/b"}, "not a Topic Filter"),
        ({"address": "somewhere"}, "neither an address nor a network"),
        ({"client_id": "a", "seconds": 601}, "seconds"),
        ({"client_id": ""}, "client_id"),
    ]
    for body, reason in bodies:
        answer = here.post("/api/v1/traces", body)
        assert answer.status == 422, body
        assert reason in answer.text
    for path in ("/traces/0123", f"/traces/{'0' * 32}"):
        assert here.get(f"/api/v1{path}").status == 404
    assert here.get(f"/api/v1/events?kinds={'x' * 300}").status == 422


# Events


def test_events_of_both_nodes(nodes: Nodes, name: str) -> None:
    here, there = nodes
    with following(here, f"/events?client_id={name}*") as seen:
        with connected(here.port, f"{name}-a") as first, connected(there.port, f"{name}-b") as second:
            first.subscribe("x", "y", qos=1)
            first.unsubscribe("x")
            with connected(here.port, f"{name}-b"):
                assert second.wait_refused() == 0x8E
            first.disconnect()
        seen.wait_for("event", event="disconnected", client_id=f"{name}-a")
        seen.wait_for("event", event="disconnected", client_id=f"{name}-b", node="node-1")
        assert seen.wait_for("event", event="taken_over")["node"] == "node-2"
    subscribed = seen.wait_for("event", event="subscribed")
    assert subscribed["filters"] == [{"filter": "x", "qos": 1}, {"filter": "y", "qos": 1}]
    assert seen.wait_for("event", event="unsubscribed")["filters"] == ["x"]
    assert {each["client_id"] for each in seen.of("event")} == {f"{name}-a", f"{name}-b"}


def test_events_of_some_kinds(nodes: Nodes, name: str) -> None:
    here, there = nodes
    with following(here, f"/events?kinds=refused,disconnected&client_id={name}") as seen:
        with WireClient(there.port) as refused:
            refused.send(Connect(name, MQTT_5, True, 0, None, None, Will("$SYS/x", b"", 0, False)))
            assert refused.wait_refused() == 0x87
        with connected(there.port, name) as client:
            client.send(Disconnect())
        seen.wait_for("event", event="disconnected")
        assert [each["event"] for each in seen.of("event")] == ["refused", "disconnected"]
        assert seen.of("event")[0]["reason_code"] == 0x87


def test_an_event_has_the_time_at_which_it_happened(nodes: Nodes, name: str) -> None:
    """Also where nothing else has happened for some time."""
    here, there = nodes
    with following(here, f"/events?client_id={name}") as seen:
        with connected(there.port, name):
            time.sleep(0.5)  # from CONNACK on; the event may be later, and its time is in whole ms
        seen.wait_for("event", event="disconnected")
        begun, ended = (datetime.fromisoformat(each["at"]) for each in seen.of("event"))
        assert ended - begun >= timedelta(seconds=0.45)


def test_nothing_is_left_when_whoever_followed_has_gone(
    nodes: Nodes, redis_of_cluster: RedisServer, name: str
) -> None:
    here, there = nodes
    with following(here, f"/events?client_id={name}") as seen, connected(there.port, name):
        seen.wait_for("event", event="connected")
    with redis_of_cluster.client() as redis:
        wait_until(lambda: not redis.keys("mq:{m}:tap:*"))
    # All places are free again, as the nodes were told.
    traces = [begin(here, client_id=f"{name}-{number}") for number in range(8)]
    for trace in traces:
        assert end(here, trace) == 200


# Other ways in, other roles


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A node with TLS whose admin address asks for tokens; and headers by role."""
    directory = tmp_path_factory.mktemp("guarded")
    made = {str(role): make_token(str(role), role) for role in Role}
    (directory / "tokens").write_text("".join(token.to_line() for _, token in made.values()))
    certificate = make_certificate(directory)
    environment = {
        "MOORLINE_ADMIN__TOKENS_FILE": str(directory / "tokens"),
        "MOORLINE_LISTENERS__SAFE__ADDRESS": "mqtts://127.0.0.1:0",
        "MOORLINE_LISTENERS__SAFE__CERTIFICATE": str(certificate.file),
        "MOORLINE_LISTENERS__SAFE__KEY": str(certificate.key),
        "MOORLINE_LISTENERS__WEB__ADDRESS": "ws://127.0.0.1:0",
    }
    with running_node(directory, environment=environment) as node:
        yield node, {role: {"Authorization": f"Bearer {text}"} for role, (text, _) in made.items()}


def test_payloads_are_for_the_role_admin(guarded: Guarded) -> None:
    node, headers = guarded

    def post(role: str, **body: object) -> httpx.Response:
        url = f"http://127.0.0.1:{node.admin_port}/api/v1/traces"
        return httpx.post(url, json=body, headers=headers[role], trust_env=False, verify=NO_TLS)

    assert post("read", client_id="x").status_code == 403
    assert post("operate", client_id="x").status_code == 201
    refused = post("operate", client_id="x", payloads=True)
    assert (refused.status_code, "role admin" in refused.json()["error"]) == (403, True)
    allowed = post("admin", client_id="x", payloads=True)
    url = f"http://127.0.0.1:{node.admin_port}/api/v1/traces/{allowed.json()['id']}"
    for call in (httpx.get, httpx.delete):
        assert call(url, headers=headers["operate"], trust_env=False, verify=NO_TLS).status_code == 403
    assert httpx.delete(url, headers=headers["admin"], trust_env=False, verify=NO_TLS).status_code == 200


def begin_with_payloads(guarded: Guarded, client_id: str) -> str:
    """A trace; its id."""
    node, headers = guarded
    url = f"http://127.0.0.1:{node.admin_port}/api/v1/traces"
    body = {"client_id": client_id, "payloads": True}
    return str(
        httpx.post(url, json=body, headers=headers["admin"], trust_env=False, verify=NO_TLS).json()["id"]
    )


def port_of(node: NodeProcess, kind: str) -> int:
    """That of its listener of this kind."""
    found = re.search(rf"^  {kind} +\S+:(\d+)", node.output(), re.MULTILINE)
    assert found, node.output()
    return int(found[1])


def test_over_tls(guarded: Guarded, name: str) -> None:
    node, headers = guarded
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    port = port_of(node, "mqtts")
    trace = begin_with_payloads(guarded, name)
    with following(node, f"/traces/{trace}", headers["admin"]) as seen:
        carrier = context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
        with WireClient(port, carrier=carrier) as client:
            client.connect(name)
            client.publish("x", b"\xff\0", 1)
        assert seen.wait_for("packet", packet="PUBLISH")["payload"] == "0xff00"
        seen.wait_for("packet", packet="closed")


def test_over_websocket(guarded: Guarded, name: str) -> None:
    node, headers = guarded
    trace = begin_with_payloads(guarded, name)
    with (
        following(node, f"/traces/{trace}", headers["admin"]) as seen,
        subscribed(name, name, "127.0.0.1", port_of(node, "ws"), transport="websockets") as client,
    ):
        client.echo(name, b"over the web")
        seen.wait_for("packet", packet="PUBCOMP", direction="in")
        said = [(each["direction"], each["payload"]) for each in seen.of("packet") if "payload" in each]
        assert sorted(said) == [("in", "over the web")] * 3 + [("out", "over the web")] * 3
