"""Something dies after each packet of a handshake in turn: at QoS 2 each message arrives exactly once, at
QoS 1 at least once, always in order.

What dies: the connection alone, the node (kill -9; its Redis is then asked to end by the kernel), the private
Redis alone (kill -9; the node starts it again), or both in the same moment.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.mqtt import MQTT_3_1_1, MQTT_5
from tests.node.harness import NodeProcess, running_node
from tests.node.model import Publisher, Strike, Subscriber, receive_no_more
from tests.node.wire import connected

QOS2_PUBLISHER = ["PUBLISH sent", "PUBREC received", "PUBREL sent", "PUBCOMP received"]
QOS2_SUBSCRIBER = ["PUBLISH received", "PUBREC sent", "PUBREL received", "PUBCOMP sent"]
QOS1_PUBLISHER = ["PUBLISH sent", "PUBACK received"]
QOS1_SUBSCRIBER = ["PUBLISH received", "PUBACK sent"]
MESSAGES = 12
HALF = 6
SETTLE_SECONDS = 0.05  # so that a packet that is on its way arrives, or has every chance to


def _cut(_node: NodeProcess) -> bool:
    return True


def _kill_node(node: NodeProcess) -> bool:
    node.restart()
    return True


def _kill_redis(node: NodeProcess) -> bool:
    node.kill_redis()
    return False


def _kill_both(node: NodeProcess) -> bool:
    node.kill_all()
    node.start()
    return True


KILLS = {"connection": _cut, "node": _kill_node, "redis": _kill_redis, "both": _kill_both}
EACH_KILL = pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS.keys())


class Striker:
    """Kills once, at one occurrence of an event after it was armed."""

    def __init__(self, node: NodeProcess, kill: Callable[[NodeProcess], bool], event: str) -> None:
        self._node = node
        self._kill = kill
        self._event = event
        self._left = 0
        self._wait_seconds = 0.0

    def arm(self, occurrence: int, wait_seconds: float = 0.0) -> None:
        """To kill at this occurrence, counted from now, after waiting that long."""
        self._left = occurrence
        self._wait_seconds = wait_seconds

    def __call__(self, event: str) -> bool:
        if event != self._event or not self._left:
            return False
        self._left -= 1
        if self._left:
            return False
        time.sleep(self._wait_seconds)
        return self._kill(self._node)

    def assert_struck(self) -> None:
        """A test in which nothing was killed proves nothing."""
        assert self._left == 0, f"{self._event!r} was still to come {self._left} times"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running_node(tmp_path_factory.mktemp("node")) as node:
        yield node


def _messages(topic: str) -> list[tuple[str, bytes]]:
    return [(topic, b"%s %03d" % (topic.encode(), i)) for i in range(MESSAGES)]


def _check_publisher(
    node: NodeProcess,
    name: str,
    qos: int,
    kill: Callable[[NodeProcess], bool],
    event: str,
    version: int = MQTT_5,
) -> None:
    messages = _messages(name)
    striker = Striker(node, kill, event)
    with (
        Subscriber(node, f"{name}-away") as away,
        Subscriber(node, f"{name}-there") as there,
        Publisher(node, f"{name}-publisher", version, striker) as publisher,
    ):
        away.sender_repeats = there.sender_repeats = True
        away.subscribe(name, qos)
        away.lose()
        there.subscribe(name, qos)
        for half, wait_seconds in ((messages[:HALF], 0.0), (messages[HALF:], SETTLE_SECONDS)):
            striker.arm(2, wait_seconds)
            publisher.publish(half, qos, window=3)
            striker.assert_struck()
        _check_received(messages, away, there)


def _check_received(messages: list[tuple[str, bytes]], *subscribers: Subscriber) -> None:
    expected = [payload for _, payload in messages]
    for subscriber in subscribers:
        subscriber.receive(len(messages))
    receive_no_more(*subscribers)
    for subscriber in subscribers:
        assert subscriber.received == expected


@EACH_KILL
@pytest.mark.parametrize("event", QOS2_PUBLISHER)
def test_qos2_publisher(
    node: NodeProcess, name: str, kill: Callable[[NodeProcess], bool], event: str
) -> None:
    """[MQTT-4.3.3-1] to [MQTT-4.3.3-13], [MQTT-4.4.0-1]"""
    _check_publisher(node, name, 2, kill, event)


@EACH_KILL
@pytest.mark.parametrize("event", QOS1_PUBLISHER)
def test_qos1_publisher(
    node: NodeProcess, name: str, kill: Callable[[NodeProcess], bool], event: str
) -> None:
    _check_publisher(node, name, 1, kill, event)


@EACH_KILL
@pytest.mark.parametrize("event", QOS2_SUBSCRIBER)
def test_qos2_subscriber(
    node: NodeProcess, name: str, kill: Callable[[NodeProcess], bool], event: str
) -> None:
    _check_subscriber(node, name, 2, kill, event)


@EACH_KILL
@pytest.mark.parametrize("event", QOS1_SUBSCRIBER)
def test_qos1_subscriber(
    node: NodeProcess, name: str, kill: Callable[[NodeProcess], bool], event: str
) -> None:
    _check_subscriber(node, name, 1, kill, event)


def _check_subscriber(
    node: NodeProcess,
    name: str,
    qos: int,
    kill: Callable[[NodeProcess], bool],
    event: str,
    version: int = MQTT_5,
) -> None:
    messages = _messages(name)
    striker = Striker(node, kill, event)
    with (
        Subscriber(node, f"{name}-subscriber", version, striker) as subscriber,
        Publisher(node, f"{name}-publisher") as publisher,
    ):
        subscriber.subscribe(name, qos)
        publisher.publish(messages[:HALF], qos)  # handed over in memory
        striker.arm(2)
        subscriber.receive(HALF)
        striker.assert_struck()
        subscriber.lose()
        publisher.publish(messages[HALF:], qos)  # read from the queue
        striker.arm(3, SETTLE_SECONDS)
        _check_received(messages, subscriber)
        striker.assert_struck()


@pytest.mark.parametrize("event", QOS2_PUBLISHER)
def test_qos2_publisher_of_311(node: NodeProcess, name: str, event: str) -> None:
    _check_publisher(node, name, 2, _kill_both, event, MQTT_3_1_1)


@pytest.mark.parametrize("event", QOS2_SUBSCRIBER)
def test_qos2_subscriber_of_311(node: NodeProcess, name: str, event: str) -> None:
    _check_subscriber(node, name, 2, _kill_both, event, MQTT_3_1_1)


@pytest.mark.parametrize("delay_ms", [0, 1, 2, 4, 8, 16])
@pytest.mark.parametrize("kill", [_kill_node, _kill_both, _kill_redis], ids=["node", "both", "redis"])
def test_qos2_kill_under_traffic(
    node: NodeProcess, name: str, kill: Callable[[NodeProcess], bool], delay_ms: int
) -> None:
    """The kill comes some milliseconds after a burst was sent: somewhere in its storing and routing."""

    bursts = 0

    def strike(event: str) -> bool:
        nonlocal bursts
        if event != "PUBLISH sent":
            return False
        bursts += 1
        if bursts != 2:
            return False
        time.sleep(delay_ms / 1000)
        return kill(node)

    messages = [(name, b"%s %03d" % (name.encode(), i)) for i in range(150)]
    with (
        Subscriber(node, f"{name}-away") as away,
        Subscriber(node, f"{name}-there") as there,
        Publisher(node, f"{name}-publisher", strike=strike) as publisher,
    ):
        away.subscribe(name, 2)
        away.lose()
        there.subscribe(name, 2)
        publisher.publish(messages, 2, window=60)
        _check_received(messages, away, there)


def test_qos2_publisher_is_cut_off_again_and_again(node: NodeProcess, name: str) -> None:
    """A subscriber whose session ends with its connection gets each message once, too: it stays connected
    while the publisher comes back before its message has been routed."""
    expected = [b"%d" % number for number in range(60)]
    with connected(node.port, f"{name}-direct") as direct:
        direct.subscribe(name, qos=2)
        _publish_cut_off(node, name, expected)
        received = direct.payloads(len(expected))
        direct.assert_silence(0.2)
        assert received == expected


def test_qos2_publisher_is_cut_off_again_and_again_stored(node: NodeProcess, name: str) -> None:
    """The same for a session in Redis."""
    expected = [b"%d" % number for number in range(60)]
    with Subscriber(node, f"{name}-stored") as stored:
        stored.subscribe(name, 2)
        _publish_cut_off(node, name, expected)
        stored.receive(len(expected))
        stored.receive_no_more()
        assert stored.received == expected


def _publish_cut_off(node: NodeProcess, topic: str, payloads: list[bytes]) -> None:
    """Each PUBLISH is followed by the end of the connection, at once."""
    with Publisher(node, f"{topic}-publisher", strike=_each_first("PUBLISH sent")) as publisher:
        for payload in payloads:
            publisher.publish([(topic, payload)], 2)


def _each_first(event: str) -> Strike:
    """Cuts the connection at each occurrence of an event."""
    return lambda happened: happened == event


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """When all handshakes are over, Redis holds no entry, no identifier and no PUBREL of them."""
    with (
        running_node(tmp_path) as node,
        Subscriber(node, "subscriber") as subscriber,
        Publisher(node, "publisher") as publisher,
    ):
        subscriber.subscribe("t", 2)
        messages = [("t", b"%d" % i) for i in range(200)]
        publisher.publish(messages[:100], 2)
        subscriber.lose()
        node.restart()
        publisher.publish(messages[100:], 2)
        subscriber.receive(200)
        subscriber.connect().ping()
        publisher.connect().ping()
        deadline = time.monotonic() + 5.0
        with node.redis() as store:
            while left := [
                key
                for kind in ("q", "rel", "rx")
                for key in store.scan_iter(match=f"mq:{{*}}:{kind}:*", count=1000)
            ]:
                assert time.monotonic() < deadline, left
                time.sleep(0.05)
