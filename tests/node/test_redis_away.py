"""Redis is away, or full: nothing is acknowledged that is not stored, clients keep their connections for a
while, and everything goes on by itself afterwards."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.mqtt import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Packet,
    Pingresp,
    Puback,
    Publish,
    Pubrec,
    ReasonCode,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from tests.node.harness import NodeProcess, running_node
from tests.node.model import Publisher, Subscriber
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import HOUR, WireClient, connected

QUICK = {"MOORLINE_REDIS__EXCHANGE_TIMEOUT_SECONDS": "1", "MOORLINE_REDIS__AWAY_LIMIT_SECONDS": "30"}
IMPATIENT = {"MOORLINE_REDIS__EXCHANGE_TIMEOUT_SECONDS": "1", "MOORLINE_REDIS__AWAY_LIMIT_SECONDS": "1"}
HELD_SECONDS = 0.5
QUOTA_EXCEEDED = ReasonCode.QUOTA_EXCEEDED
SERVER_UNAVAILABLE_311 = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def node(tmp_path: Path, server: RedisServer) -> Iterator[NodeProcess]:
    with running_node(tmp_path, "--redis", server.url, environment=QUICK) as node:
        yield node
        server.thaw()  # a node waits for its Redis when it stops


def _freeze_and_thaw(server: RedisServer) -> Callable[[], None]:
    server.freeze()
    return server.thaw


def _kill_and_start(server: RedisServer) -> Callable[[], None]:
    server.kill()
    return server.start


AWAY = pytest.mark.parametrize("lose", [_freeze_and_thaw, _kill_and_start], ids=["frozen", "killed"])
Lose = Callable[[RedisServer], Callable[[], None]]


@AWAY
@pytest.mark.parametrize("qos", [1, 2])
def test_nothing_is_acknowledged(server: RedisServer, node: NodeProcess, lose: Lose, qos: int) -> None:
    """PINGREQ is answered, QoS 0 flows, `/readyz` fails; then all is stored and acknowledged."""
    with (
        Subscriber(node, "stored") as stored,
        connected(node.port, "direct") as direct,
        connected(node.port, "publisher", properties=HOUR) as publisher,
    ):
        stored.subscribe("t", qos)
        direct.subscribe("zero", qos=0)
        stored.sender_repeats = True
        come_back = lose(server)
        publisher.send(*[Publish("t", b"%d" % i, qos, False, False, i + 1) for i in range(100)])
        publisher.send(Publish("zero", b"still here", 0, False, False, 0))
        assert direct.message().payload == b"still here"
        assert publisher.ping() == []
        assert "redis" in node.wait_ready(503).text
        assert node.get("/healthz").status == 200
        assert publisher.ping() == []
        come_back()
        answers = [publisher.next() for _ in range(100)]
        assert [answer.packet_id for answer in answers if isinstance(answer, Puback | Pubrec)] == list(
            range(1, 101)
        )
        node.wait_ready(200)
        stored.receive(100)
        assert stored.received == [b"%d" % i for i in range(100)]


@AWAY
def test_who_comes_while_it_is_away_waits(server: RedisServer, node: NodeProcess, lose: Lose) -> None:
    come_back = lose(server)
    with WireClient(node.port) as early, WireClient(node.port) as subscriber:
        early.send(Connect("early", MQTT_5, True, 0))
        subscriber.send(
            Connect("subscriber", MQTT_5, True, 0, properties=HOUR),
            Subscribe(1, [SubscriptionRequest("t", 1)]),
        )
        assert early.poll(HELD_SECONDS) is None
        assert subscriber.poll(0.0) is None
        come_back()
        assert early.expect(Connack).reason_code == 0
        assert subscriber.expect(Connack).reason_code == 0
        assert subscriber.expect(Suback).reason_codes == [1]


def test_a_flood_is_held_back(server: RedisServer, node: NodeProcess) -> None:
    """A 3.1.1 client that sends on is no longer read from, and is not cut off for its keep-alive: nothing it
    sent is lost."""
    count = 3000
    with (
        Subscriber(node, "stored") as stored,
        connected(node.port, "publisher", MQTT_3_1_1, keep_alive=1) as publisher,
    ):
        stored.subscribe("t", 1)
        stored.lose()
        stored.sender_repeats = True
        server.freeze()
        publisher.send(*[Publish("t", b"%04d" % i, 1, False, False, i + 1) for i in range(count)])
        time.sleep(2.5)
        server.thaw()
        answers: list[Packet] = []
        while len(answers) < count:
            answers.append(publisher.expect(Puback))
        stored.receive(count)
        assert stored.received == [b"%04d" % i for i in range(count)]


def test_clients_are_told_after_a_while(tmp_path: Path, server: RedisServer) -> None:
    """DISCONNECT 0x89, then CONNACK 0x88, in 3.1.1 return code 3; it all works again afterwards."""
    with running_node(tmp_path, "--redis", server.url, environment=IMPATIENT) as node:
        with (
            connected(node.port, "five") as five,
            connected(node.port, "four", MQTT_3_1_1) as four,
            connected(node.port, "stored", properties=HOUR) as stored,
        ):
            stored.subscribe("t", qos=1)
            server.freeze()
            five.send(Publish("t", b"never acknowledged", 1, False, False, 1))
            assert five.wait_refused() == ReasonCode.SERVER_BUSY
            assert four.wait_closed() == []
            assert stored.wait_refused() == ReasonCode.SERVER_BUSY
        with WireClient(node.port) as late:
            assert late.connect("late").reason_code == ReasonCode.SERVER_UNAVAILABLE
            assert late.wait_closed() == []
        with WireClient(node.port, MQTT_3_1_1) as late:
            assert late.connect("late").reason_code == SERVER_UNAVAILABLE_311
            assert late.wait_closed() == []
        server.thaw()
        node.wait_ready(200)
        with Publisher(node, "publisher") as publisher, WireClient(node.port) as stored:
            assert stored.connect("stored", clean_start=False, properties=HOUR).session_present
            publisher.publish([("t", b"again")], 1)
            while stored.message().payload != b"again":  # what was held may have been stored, or not
                pass


def test_kills_of_redis_under_traffic(server: RedisServer, node: NodeProcess) -> None:
    """Five kills of an external server in a stream of QoS 2: nothing lost, nothing twice."""
    bursts = 0

    def strike(event: str) -> bool:
        nonlocal bursts
        bursts += event == "PUBLISH sent"
        if event == "PUBLISH sent" and bursts % 30 == 0:
            server.kill()
            server.start()
        return False

    messages = [("t", b"%d" % i) for i in range(300)]
    with Subscriber(node, "s") as subscriber, Publisher(node, "p", strike=strike) as publisher:
        subscriber.subscribe("t", 2)
        publisher.publish(messages, 2, window=40)
        subscriber.receive(300)
        subscriber.receive_no_more()
        assert subscriber.received == [payload for _, payload in messages]
        assert bursts >= 150


# Full


def _until_full(node: NodeProcess, server: RedisServer) -> None:
    server.fill()
    assert node.is_running()


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
def test_full_holds_or_refuses_qos1(server: RedisServer, node: NodeProcess, version: int) -> None:
    """Not acknowledged, or refused with 0x97; it recovers by itself when there is room."""
    with (
        Subscriber(node, "stored") as stored,
        connected(node.port, "publisher", version) as publisher,
    ):
        stored.sender_repeats = True
        stored.subscribe("t", 1)
        publisher.publish("t", b"before", 1)
        _until_full(node, server)
        publisher.send(Publish("t", b"while full", 1, False, False, 77))
        answer = publisher.poll(HELD_SECONDS)
        if answer is not None:
            assert version == MQTT_5
            assert answer == Puback(77, QUOTA_EXCEEDED)
        server.make_room()
        if answer is None:
            assert publisher.expect(Puback) == Puback(77)
        publisher.publish("t", b"after", 1)
        stored.receive(2 + (answer is None))
        assert stored.received == [b"before", *([b"while full"] if answer is None else []), b"after"]


def test_full_refuses_qos2(server: RedisServer, node: NodeProcess) -> None:
    """The first write is refused, so the message can be: PUBREC 0x97, and its identifier is free again."""
    with (
        Subscriber(node, "stored") as stored,
        connected(node.port, "publisher", properties=HOUR) as publisher,
    ):
        stored.subscribe("t", 2)
        publisher.publish("t", b"before", 2)
        _until_full(node, server)
        assert publisher.publish("t", b"refused", 2) == QUOTA_EXCEEDED
        server.make_room()
        assert publisher.publish("t", b"after", 2) == 0
        stored.receive(2)
        stored.receive_no_more()
        assert stored.received == [b"before", b"after"]


def test_full_holds_qos2_of_311(server: RedisServer, node: NodeProcess) -> None:
    with Subscriber(node, "stored") as stored, WireClient(node.port, MQTT_3_1_1) as publisher:
        publisher.connect("publisher", clean_start=False)
        stored.subscribe("t", 2)
        _until_full(node, server)
        publisher.send(Publish("t", b"held", 2, False, False, 5))
        assert publisher.poll(HELD_SECONDS) is None
        server.make_room()
        assert publisher.expect(Pubrec) == Pubrec(5)
        stored.receive(1)
        assert stored.received == [b"held"]


def test_full_lets_go_what_frees_memory(server: RedisServer, node: NodeProcess) -> None:
    """Subscribers fetch and acknowledge, QoS 0 flows, connections end: so that there can be room again."""
    with (
        connected(node.port, "direct") as direct,
        Subscriber(node, "stored") as stored,
        Publisher(node, "publisher") as publisher,
    ):
        direct.subscribe("zero")
        stored.subscribe("t", 1)
        publisher.publish([("t", b"%d" % i) for i in range(50)], 1)
        _until_full(node, server)
        stored.receive(50)
        publisher.connect().send(Publish("zero", b"flows", 0, False, False, 0))
        assert direct.message().payload == b"flows"
        deadline = time.monotonic() + 5.0
        with server.client() as client:
            while keys := list(client.scan_iter(match="mq:{*}:q:*")):
                assert time.monotonic() < deadline, keys
                time.sleep(0.05)
        with WireClient(node.port) as late:
            assert late.connect("late").reason_code in (0, QUOTA_EXCEEDED)
        server.make_room()
        with connected(node.port, "later", properties=HOUR) as later:
            assert later.subscribe("t", qos=1).reason_codes == [1]
            later.send_bytes(b"\xc0\x00")
            later.expect(Pingresp)


def test_full_refuses_subscriptions(server: RedisServer, node: NodeProcess) -> None:
    with connected(node.port, "stored", properties=HOUR) as stored:
        _until_full(node, server)
        assert stored.subscribe("t", qos=1).reason_codes == [QUOTA_EXCEEDED]
        server.make_room()
        assert stored.subscribe("t", qos=1).reason_codes == [1]
