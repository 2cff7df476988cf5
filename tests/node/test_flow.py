"""Windows, slow readers, expiry in queues, and the order of messages."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.mqtt import (
    MQTT_3_1_1,
    MQTT_5,
    Packet,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)
from tests.node.conftest import Clients
from tests.node.harness import NodeProcess, running_node
from tests.node.model import Publisher, Subscriber, receive_no_more
from tests.node.wire import HOUR, WireClient, connected

LIVES = pytest.mark.parametrize("expiry", [0, 3600], ids=["direct", "stored"])
BRIEFLY_SECONDS = 0.02  # a message that has room comes sooner, and one that has none never


def _publish_many(client: WireClient, topic: str, count: int, qos: int) -> None:
    """All at once; the acknowledgements are taken in any order."""
    client.send(*[Publish(topic, b"%d" % i, qos, False, False, i + 1) for i in range(count)])
    completed = 0
    while completed < count:
        packet = client.next()
        if isinstance(packet, Pubrec):
            client.send(Pubrel(packet.packet_id))
        else:
            assert isinstance(packet, Puback | Pubcomp)
            completed += 1


@LIVES
def test_a_pubrel_before_pubrec_loses_nothing(client: Clients, name: str, expiry: int) -> None:
    """The client breaks the rules; its next message under the same identifier is another one all the same."""
    subscriber = client("subscriber", properties=HOUR)
    subscriber.subscribe(name, qos=1)
    publisher = client("publisher", properties=Properties(session_expiry_interval=expiry))
    publisher.send(Publish(name, b"first", 2, False, False, 1), Pubrel(1))
    while not isinstance(packet := publisher.next(), Pubcomp):
        assert isinstance(packet, Pubrec)
        publisher.send(Pubrel(1))
    publisher.send(Publish(name, b"second", 2, False, False, 1))
    assert isinstance(publisher.next(), Pubrec)
    for payload in (b"first", b"second"):
        received = subscriber.expect(Publish)
        assert received.payload == payload
        subscriber.send(Puback(received.packet_id))


# Windows


@LIVES
@pytest.mark.parametrize("maximum", [1, 2, 10])
@pytest.mark.parametrize("qos", [1, 2])
def test_receive_maximum_of_the_client(
    client: Clients, name: str, expiry: int, maximum: int, qos: int
) -> None:
    """[MQTT-3.3.4-9]: never more unsettled than this; each settled one makes room for one."""
    properties = Properties(receive_maximum=maximum, session_expiry_interval=expiry)
    subscriber = client("subscriber", properties=properties)
    subscriber.subscribe(name, qos=qos)
    count = 30
    _publish_many(client("publisher"), name, count, qos)
    unsettled: list[int] = []
    received: list[bytes] = []
    most = 0
    while len(received) < count or unsettled:
        while len(received) < count:
            packet = subscriber.poll(5.0 if len(unsettled) < maximum else BRIEFLY_SECONDS)
            if packet is None:
                break
            assert isinstance(packet, Publish)
            assert packet.packet_id not in unsettled
            unsettled.append(packet.packet_id)
            received.append(packet.payload)
        most = max(most, len(unsettled))
        assert len(unsettled) <= maximum
        first = unsettled.pop(0)
        if qos == 1:
            subscriber.send(Puback(first))
        else:
            subscriber.send(Pubrec(first))
            assert subscriber.expect(Pubrel) == Pubrel(first)
            assert subscriber.poll(BRIEFLY_SECONDS) is None, "PUBREC makes no room [4.9]"
            subscriber.send(Pubcomp(first))
    assert most == maximum
    assert received == [b"%d" % i for i in range(count)]


def test_window_of_311(tmp_path: Path) -> None:
    """A client that names no Receive Maximum gets our limit at once, and no more without acknowledgement."""
    environment = {
        "MOORLINE_SESSION__INFLIGHT_LIMIT": "20",
        "MOORLINE_SESSION__DIRECT_INFLIGHT_LIMIT": "30",
    }
    with running_node(tmp_path, environment=environment) as node:
        for client_id, limit in (("stored", 20), ("direct", 30)):
            with (
                connected(node.port, client_id, MQTT_3_1_1, clean_start=client_id == "direct") as subscriber,
                connected(node.port, "publisher") as publisher,
            ):
                subscriber.subscribe(client_id, qos=1)
                _publish_many(publisher, client_id, 2 * limit, 1)
                first = [subscriber.expect(Publish) for _ in range(limit)]
                subscriber.assert_silence(BRIEFLY_SECONDS)
                subscriber.send(*[Puback(publish.packet_id) for publish in first])
                second = [subscriber.expect(Publish) for _ in range(limit)]
                assert [publish.payload for publish in first + second] == [
                    b"%d" % i for i in range(2 * limit)
                ]


def test_resume_with_another_window(client: Clients, name: str) -> None:
    """The quota is anew at each connection; what was sent before comes again with DUP, the rest without."""
    with client("s", properties=HOUR) as stored:
        stored.subscribe(name, qos=1)
        _publish_many(client("publisher"), name, 50, 1)
        sent = [stored.expect(Publish) for _ in range(50)]
        stored.send(*[Puback(publish.packet_id) for publish in sent[:10]])
        stored.ping()
    narrow = Properties(session_expiry_interval=3600, receive_maximum=5)
    stored = client("s", clean_start=False, properties=narrow)
    again = [stored.expect(Publish) for _ in range(5)]
    assert [publish.payload for publish in again] == [b"%d" % i for i in range(10, 15)]
    assert all(publish.dup for publish in again)
    assert [publish.packet_id for publish in again] == [publish.packet_id for publish in sent[10:15]]
    assert stored.ping() == []
    stored.send(*[Puback(publish.packet_id) for publish in again])
    rest = [stored.message() for _ in range(35)]
    assert [publish.payload for publish in rest] == [b"%d" % i for i in range(15, 50)]
    assert all(publish.dup for publish in rest)


def test_never_sent_is_no_duplicate(client: Clients, name: str) -> None:
    """DUP is only for what an earlier connection may have got [MQTT-3.3.1-1]."""
    narrow = Properties(session_expiry_interval=3600, receive_maximum=2)
    with client("s", properties=narrow) as stored:
        stored.subscribe(name, qos=1)
        _publish_many(client("publisher"), name, 10, 1)
        assert [stored.expect(Publish).payload for _ in range(2)] == [b"0", b"1"]
        stored.disconnect()
    stored = client("s", clean_start=False, properties=narrow)
    dups = [stored.message().dup for _ in range(10)]
    assert dups == [True, True] + [False] * 8


def test_refused_messages_are_done_with(client: Clients, name: str) -> None:
    """PUBREC with an error ends the exchange and frees its place; it isn't sent again."""
    properties = Properties(session_expiry_interval=3600, receive_maximum=1)
    with client("s", properties=properties) as stored:
        stored.subscribe(name, qos=2)
        publisher = client("publisher")
        publisher.publish(name, b"refused", 2)
        publisher.publish(name, b"taken", 2)
        stored.send(Pubrec(stored.expect(Publish).packet_id, 0x83))
        assert stored.message().payload == b"taken"
        stored.ping()
    stored = client("s", clean_start=False, properties=properties)
    stored.assert_silence(0.2)


# Expiry


def test_expiry_in_a_queue(client: Clients, name: str) -> None:
    """Expired ones are not sent; the others are told what is left [MQTT-3.3.2-5], [MQTT-3.3.2-6]."""
    with client("s", properties=HOUR) as stored:
        stored.subscribe(name, qos=2)
    publisher = client("publisher")
    for qos in (1, 2):
        for seconds, payload in ((1, b"short"), (60, b"long")):
            publisher.publish(name, payload, qos, properties=Properties(message_expiry_interval=seconds))
    publisher.publish(name, b"eternal", 1)
    time.sleep(1.6)
    stored = client("s", clean_start=False, properties=HOUR)
    received = [stored.message() for _ in range(3)]
    assert [publish.payload for publish in received] == [b"long", b"long", b"eternal"]
    for publish in received[:2]:
        assert publish.properties is not None
        assert publish.properties.message_expiry_interval in (57, 58, 59)
    assert received[2].properties is None
    stored.assert_silence()


def test_expiry_behind_the_window(client: Clients, name: str) -> None:
    """A message that waits for a place expires there; one that was sent does not."""
    for suffix, session in (("direct", 0), ("stored", 3600)):
        narrow = Properties(session_expiry_interval=session, receive_maximum=1)
        subscriber = client(suffix, properties=narrow)
        subscriber.subscribe(name, qos=1)
        publisher = client(f"{suffix}-publisher")
        for payload in (b"sent", b"waits"):
            publisher.publish(name, payload, 1, properties=Properties(message_expiry_interval=1))
        publisher.publish(name, b"last", 1)
        publish = subscriber.expect(Publish)
        time.sleep(1.3)
        subscriber.send(Puback(publish.packet_id))
        assert subscriber.message().payload == b"last"
        subscriber.unsubscribe(name)


# Slow readers


def test_slow_reader_loses_only_qos0(client: Clients, node: NodeProcess, name: str) -> None:
    """Beyond its buffer QoS 0 is dropped, QoS 1 waits; the publisher and others don't notice."""
    other = client("other")
    other.subscribe(name)
    slow = client("slow")
    slow.shrink_buffer()
    slow.subscribe(name, qos=1)
    publisher = client("publisher")
    payload = bytes(16_384)
    count = 800
    received = 0
    for _ in range(count // 50):
        publisher.send(*[Publish(name, payload, 0, False, False, 0)] * 50)
        received += sum(isinstance(other.next(), Publish) for _ in range(50))
    assert received == count
    publisher.publish(name, b"at last", 1)
    got = 0
    while slow.message().payload != b"at last":
        got += 1
    assert 0 < got < count
    assert slow.ping() == []
    assert node.is_running()


def test_slow_reader_of_a_queue(client: Clients, name: str) -> None:
    """What doesn't fit into its buffer stays in the queue, whole and in order."""
    slow = client("slow", properties=HOUR)
    slow.shrink_buffer()
    slow.subscribe(name, qos=1)
    payload = bytes(16_384)
    publisher = client("publisher")
    for number in range(400):
        publisher.publish(name, b"%03d" % number + payload, 1)
    assert [slow.message().payload[:3] for _ in range(400)] == [b"%03d" % number for number in range(400)]


def test_direct_queue_limit(tmp_path: Path) -> None:
    """Behind the window of a session in memory, too, is a bound, and its policy."""
    for policy, kept in (("drop_oldest", [0, *range(21, 31)]), ("drop_new", range(11))):
        directory = tmp_path / policy
        directory.mkdir()
        environment = {
            "MOORLINE_SESSION__DIRECT_QUEUE_LIMIT": "10",
            "MOORLINE_SESSION__QUEUE_POLICY": policy,
        }
        with (
            running_node(directory, environment=environment) as node,
            connected(node.port, "slow", properties=Properties(receive_maximum=1)) as slow,
            connected(node.port, "publisher") as publisher,
        ):
            slow.subscribe("t", qos=1)
            _publish_many(publisher, "t", 31, 1)
            assert slow.payloads(11) == [b"%d" % number for number in kept]
            slow.assert_silence()


# Order


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("kill", [None, "restart", "kill_redis"], ids=["calm", "node", "redis"])
def test_order(tmp_path: Path, qos: int, kill: str | None) -> None:
    """One publisher, several subscribers, some of which come and go: each gets all, in order [4.6]."""
    messages = [(f"order/{i % 3}", b"%04d" % i) for i in range(600)]
    with running_node(tmp_path) as node:
        subscribers = [Subscriber(node, f"s{number}", MQTT_5 - number % 2) for number in range(4)]
        for subscriber in subscribers:
            subscriber.sender_repeats = True
            subscriber.subscribe("order/#", qos)
        stop = threading.Event()
        threads = [
            threading.Thread(target=_receive_all, args=(subscriber, len(messages), number))
            for number, subscriber in enumerate(subscribers)
        ]
        for thread in threads:
            thread.start()
        with Publisher(node, "publisher") as publisher:
            for first in range(0, len(messages), 200):
                publisher.publish(messages[first : first + 200], qos, window=50)
                if kill is not None and first == 200:
                    _call(node, kill)
        for thread in threads:
            thread.join()
        stop.set()
        receive_no_more(*subscribers)
        for subscriber in subscribers:
            assert subscriber.received == [payload for _, payload in messages]


def _call(node: NodeProcess, method: str) -> None:
    action: Callable[[], None] = getattr(node, method)
    action()


def _receive_all(subscriber: Subscriber, count: int, restlessness: int) -> None:
    """Takes everything; a restless one breaks the connection off again and again."""
    step = count // (restlessness * 5 + 1)
    for target in range(step, count, step):
        subscriber.receive(target)
        if restlessness:
            subscriber.lose()
    subscriber.receive(count)


def test_qos1_and_qos2_of_one_publisher(client: Clients, name: str) -> None:
    """Both arrive in their own order."""
    stored = client("stored", properties=HOUR)
    direct = client("direct")
    for subscriber in (stored, direct):
        subscriber.subscribe(name, qos=2)
    publisher = client("publisher")
    publisher.send(
        *[Publish(name, b"%d %d" % (1 + i % 2, i), 1 + i % 2, False, False, i + 1) for i in range(100)]
    )
    answers: list[Packet] = [publisher.next() for _ in range(100)]
    assert {type(answer) for answer in answers} == {Puback, Pubrec}
    for subscriber in (stored, direct):
        payloads = [payload.split() for payload in subscriber.payloads(100)]
        for qos in (b"1", b"2"):
            numbers = [int(number) for of_qos, number in payloads if of_qos == qos]
            assert numbers == sorted(numbers)
            assert len(numbers) == 50


def test_same_topic_of_two_publishers_and_none_lost(client: Clients, name: str) -> None:
    """Several publishers at once, to one session: each one's own order."""
    stored = client("stored", properties=HOUR)
    stored.subscribe(name, qos=1)
    publishers = [client(f"publisher-{number}") for number in range(5)]
    for number, publisher in enumerate(publishers):
        publisher.send(*[Publish(name, b"%d %d" % (number, i), 1, False, False, i + 1) for i in range(100)])
    received = [payload.split() for payload in stored.payloads(500)]
    for number in range(5):
        assert [int(i) for who, i in received if int(who) == number] == list(range(100))
