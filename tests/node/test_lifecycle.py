"""How a node stops; what can be seen of it from outside."""

import signal
import time
from pathlib import Path

from broker.mqtt import MQTT_5, Disconnect, Properties, Publish, ReasonCode
from tests.node.harness import NodeProcess, running_node
from tests.node.model import Publisher, Subscriber
from tests.node.redis_server import running_redis
from tests.node.wire import HOUR, WireClient, connected

AT_ONCE_SECONDS = 7.0  # a node that waits for something takes 10


# Stopping


def test_messages_in_flight_at_the_stop_are_answered_or_sent_again(tmp_path: Path) -> None:
    """SIGTERM in the middle of a stream of QoS 2: nothing lost, nothing twice."""
    with running_node(tmp_path) as node:
        sent = 0

        def strike(event: str) -> bool:
            nonlocal sent
            sent += event == "PUBLISH sent"
            if event != "PUBLISH sent" or sent not in (20, 40):
                return False
            assert node.stop() == 0
            node.start()
            return True

        messages = [("t", b"%d" % i) for i in range(300)]
        with Subscriber(node, "s") as subscriber, Publisher(node, "p", strike=strike) as publisher:
            subscriber.subscribe("t", 2)
            publisher.publish(messages, 2, window=50)
            subscriber.receive(300)
            subscriber.receive_no_more()
            assert subscriber.received == [payload for _, payload in messages]


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    """While Redis is away the node waits for it, to store what it has promised; a second signal ends that."""
    with (
        running_redis(tmp_path / "redis") as server,
        running_node(tmp_path, "--redis", server.url) as node,
        connected(node.port, "publisher") as publisher,
    ):
        server.freeze()
        publisher.send(Publish("t", b"", 1, True, False, 1))
        publisher.ping()
        node.send_signal(signal.SIGTERM)
        node.wait_for('"stopping"')
        time.sleep(0.3)
        assert node.is_running()
        start = time.monotonic()
        node.send_signal(signal.SIGTERM)
        assert node.wait() == 1
        assert time.monotonic() - start < AT_ONCE_SECONDS


def test_stop_while_redis_is_away(tmp_path: Path) -> None:
    """It doesn't wait for ever."""
    environment = {"MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS": "1"}
    with (
        running_redis(tmp_path / "redis") as server,
        running_node(tmp_path, "--redis", server.url, environment=environment) as node,
        connected(node.port, "client") as client,
    ):
        server.freeze()
        node.send_signal(signal.SIGTERM)
        assert client.wait_refused() == ReasonCode.SERVER_SHUTTING_DOWN
        start = time.monotonic()
        node.wait()
        assert time.monotonic() - start < 1.0 + AT_ONCE_SECONDS


# Outside


def test_external_redis(tmp_path: Path) -> None:
    """Nothing is kept at the node: another one, with another data directory, goes on."""
    with running_redis(tmp_path / "redis") as server:
        (tmp_path / "second").mkdir()
        with running_node(tmp_path, "--redis", server.url, "--prefix", "x:") as first:
            assert "redis  Redis" in first.output() or "redis  Valkey" in first.output()
            assert not first.data_dir.exists()
            with connected(first.port, "s", properties=HOUR) as subscriber:
                subscriber.subscribe("t", qos=1)
            with connected(first.port, "p") as publisher:
                publisher.publish("t", b"stored", 1)
            first.kill()
        with (
            running_node(tmp_path / "second", "--redis", server.url, "--prefix", "x:") as second,
            WireClient(second.port) as subscriber,
        ):
            assert subscriber.connect("s", clean_start=False, properties=HOUR).session_present
            assert subscriber.message().payload == b"stored"
        with server.client() as client:
            assert all(key.startswith(b"x:") for key in client.scan_iter())


def test_settings_of_redis_that_lose_messages_are_told_once(tmp_path: Path) -> None:
    with running_redis(tmp_path / "redis") as server:
        with server.client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        with running_node(tmp_path, "--redis", server.url) as node:
            assert node.output().count("maxmemory-policy allkeys-lru") == 1


def test_admin_off(tmp_path: Path) -> None:
    with running_node(tmp_path, "--admin", "off") as node:
        assert "  admin" not in node.output()
        with connected(node.port, "client") as client:
            assert client.ping() == []


def test_log_lines(tmp_path: Path) -> None:
    """One line for each connect, disconnect and takeover, with its fields; no payloads, no passwords."""
    with running_node(tmp_path, "--node-name", "alpha") as node:
        with connected(node.port, "first", properties=HOUR) as first:
            first.subscribe("t")
            first.send(Publish("t", b"secret payload", 0, False, False, 0))
            assert first.message().payload == b"secret payload"
            first.disconnect()
        with connected(node.port, "same"), connected(node.port, "same") as winner:
            winner.send(Disconnect(0x82, Properties(reason_string="my own reason")))
            winner.wait_closed()
        bad = WireClient(node.port)
        connect = b"\x00\x04MQTT\x05\xc2\x00\x00\x00\x00\x03bad\x00\x04user\x00\x08password"
        bad.send_bytes(bytes([0x10, len(connect)]) + connect)
        bad.next()
        bad.send_bytes(b"\xff\xff")
        bad.wait_closed()
        bad.close()
        node.stop()
        text = node.output()
        assert "secret payload" not in text
        assert "password" not in text
        events = node.events("connected")
        assert [event["client_id"] for event in events] == ["first", "same", "same", "bad"]
        for event in events:
            assert event["node_id"] == "alpha"
            assert event["level"] == "info"
            assert str(event["peer"]).startswith("127.0.0.1:")
            assert event["protocol"] == MQTT_5
        reasons = [(event["client_id"], str(event["reason"])) for event in node.events("disconnected")]
        assert [client_id for client_id, _ in reasons] == ["first", "same", "same", "bad"]
        assert "session_taken_over" in reasons[1][1]
        assert "malformed" in reasons[3][1]


def test_metrics(tmp_path: Path) -> None:
    """What the node counts on its own account."""
    with (
        running_node(tmp_path) as node,
        Subscriber(node, "subscriber") as subscriber,
        Publisher(node, "publisher") as publisher,
    ):
        subscriber.subscribe("t", 1)
        publisher.publish([("t", b"%d" % i) for i in range(30)], 1)
        with connected(node.port, "bad") as bad:
            bad.send_bytes(b"\xff\xff")
            bad.wait_closed()
        _wait_for_metrics(
            node,
            "moorline_connections 2.0",
            "moorline_sessions 2.0",
            "moorline_subscriptions 1.0",
            'moorline_connects_total{result="success"} 3.0',
            'moorline_messages_received_total{qos="1"} 30.0',
            'moorline_malformed_total{reason="malformed_packet"} 1.0',
            "moorline_redis_away 0.0",
        )


def test_metrics_of_what_is_sent_and_dropped(tmp_path: Path) -> None:
    """Nothing is dropped in silence."""
    with (
        running_node(tmp_path, environment={"MOORLINE_SESSION__QUEUE_LIMIT": "10"}) as node,
        Subscriber(node, "away") as away,
        Publisher(node, "publisher") as publisher,
    ):
        away.subscribe("t", 1)
        away.lose()
        publisher.publish([("t", b"%d" % i) for i in range(30)], 1)
        away.receive(10)
        _wait_for_metrics(
            node,
            'moorline_messages_sent_total{qos="1"} 10.0',
            'moorline_messages_dropped_total{qos="1-2",reason="queue_full"} 20.0',
        )


def _wait_for_metrics(node: NodeProcess, *expected: str) -> None:
    """Waits until `/metrics` has these lines: some are brought up to date twice a second."""
    deadline = time.monotonic() + 20.0
    while missing := set(expected) - set(node.get("/metrics").text.splitlines()):
        assert time.monotonic() < deadline, missing
        time.sleep(0.1)
