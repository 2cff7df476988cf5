"""Another primary of Redis comes that lacks the newest writes: a replica that was behind and is promoted,
or the same server after a restart that lost its tail. No number is given twice, nothing undelivered is
skipped, nothing comes twice at QoS 2 to sessions whose node lived on, and what the new one lacks of
sessions is there again."""

import signal
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from broker.mqtt import Properties, Puback, Pubcomp, Publish, Pubrec, Pubrel, ReasonCode, Will
from cluster.store import keys
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import RedisServer
from tests.node.wire import HOUR, WireClient, connected

QUICK = {
    "MOORLINE_REDIS__EXCHANGE_TIMEOUT_SECONDS": "1",
    "MOORLINE_NODE__LOG_FORMAT": "json",
    "MOORLINE_TOPICS__EXCLUSIVE": "true",
}
SECONDS = 10.0
RENEWED = "this node has renewed itself on another primary"
TO_SUBSCRIBER = ["PUBLISH", "PUBREC", "PUBREL", "PUBCOMP", "end"]
TO_BROKER = ["PUBLISH", "PUBREC", "PUBREL", "end"]


class Pair:
    """A primary, and a replica that may fall behind and take its place, on its port."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self.is_behind = False
        self.primary = self._server()
        self.replica = self._server()
        self.url = self.primary.url

    def _server(self) -> RedisServer:
        self._count += 1
        return RedisServer(self._directory / str(self._count))

    def start(self) -> None:
        """A replica that follows, of what is the primary now."""
        if not self.primary.is_running():
            self.primary.start()
        elif self.replica is not self.primary and not self.is_behind:
            return
        else:
            self.replica = self._server()
        self.is_behind = False
        self.replica.start()
        with self.replica.client() as replica:
            replica.replicaof("127.0.0.1", self.primary.port)
        self._wait_for_replica()

    def fall_behind(self) -> None:
        """What is written from now on the other one will not have."""
        self._wait_for_replica()
        self.is_behind = True
        with self.replica.client() as replica:
            replica.replicaof("NO", "ONE")

    def fail_over(self) -> None:
        """The primary is killed, and the other one takes its place."""
        self.primary.kill()
        with self.replica.client() as replica:
            replica.config_set("port", self.primary.port)
        self.replica.port = self.primary.port
        self.primary = self.replica

    def close(self) -> None:
        self.primary.close()
        self.replica.close()

    def _wait_for_replica(self) -> None:
        deadline = time.monotonic() + SECONDS
        with self.primary.client() as primary:
            while True:
                primary.incr("marked")
                if primary.wait(1, 100) == 1:
                    return
                assert time.monotonic() < deadline, "the replica does not follow"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, NodeProcess]]:
    directory = tmp_path_factory.mktemp("another")
    pair = Pair(directory)
    try:
        pair.start()
        with running_node(directory, "--redis", pair.url, environment=QUICK) as node:
            yield pair, node
    finally:
        pair.close()


@pytest.fixture
def pair(running: tuple[Pair, NodeProcess]) -> Pair:
    """With a replica that follows."""
    pair, _ = running
    pair.start()
    return pair


@pytest.fixture
def node(running: tuple[Pair, NodeProcess]) -> NodeProcess:
    return running[1]


def times_renewed(node: NodeProcess) -> int:
    return len(node.events(RENEWED))


def fail_over(pair: Pair, *nodes: NodeProcess) -> None:
    """Returns when the nodes have renewed themselves."""
    before = [times_renewed(node) for node in nodes]
    pair.fail_over()
    for node, times in zip(nodes, before, strict=True):
        wait_until_renewed(node, times)


def wait_until_renewed(node: NodeProcess, times: int) -> None:
    deadline = time.monotonic() + SECONDS
    while times_renewed(node) <= times:
        assert time.monotonic() < deadline, node.output()
        time.sleep(0.02)


def renewed(node: NodeProcess, name: str) -> object:
    return node.events(RENEWED)[-1][name]


def subscriber(node: NodeProcess, qos: int, *, client_id: str = "s") -> WireClient:
    client = connected(node.port, client_id, properties=HOUR)
    client.subscribe("t", qos=qos)
    return client


def back(node: NodeProcess, client_id: str = "s") -> WireClient:
    """The same client on another connection."""
    client = WireClient(node.port)
    assert client.connect(client_id, clean_start=False, properties=HOUR).session_present
    return client


def publish(client: WireClient, first: int, count: int, qos: int = 1, *, topic: str = "t") -> list[bytes]:
    payloads = [b"%d" % number for number in range(first, first + count)]
    for payload in payloads:
        assert client.publish(topic, payload, qos) in (0, 0x10)
    return payloads


# Messages to a subscriber


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_settled_does_not_come_again_and_nothing_new_is_skipped(
    pair: Pair, node: NodeProcess, qos: int
) -> None:
    with subscriber(node, qos) as client, connected(node.port, "p", properties=HOUR) as publisher:
        old = publish(publisher, 0, 5, qos)
        assert client.payloads(5) == old
        waiting = publish(publisher, 5, 3, qos)
        in_queue = [client.expect(Publish) for _ in range(3)]
        assert [each.payload for each in in_queue] == waiting
        pair.fall_behind()
        for each in in_queue:
            settle(client, each)
        assert publish(publisher, 100, 100, qos) == client.payloads(100)
        publisher.ping()
        fail_over(pair, node)
        assert publish(publisher, 300, 20, qos) == client.payloads(20)
        client.assert_silence(0.2)
    assert renewed(node, "sessions_kept") == 2
    assert renewed(node, "entries_settled") == 3
    with back(node) as client:
        client.assert_silence(0.2)
        with connected(node.port, "p2") as publisher:
            assert publish(publisher, 400, 3, qos) == client.payloads(3)


def settle(client: WireClient, message: Publish) -> None:
    if message.qos == 1:
        client.send(Puback(message.packet_id))
    else:
        client.send(Pubrec(message.packet_id))
        client.expect(Pubrel)
        client.send(Pubcomp(message.packet_id))
    client.received[:0] = client.ping()  # what comes as there is room again is kept


def test_what_waits_for_a_client_that_is_away_is_not_skipped(pair: Pair, node: NodeProcess) -> None:
    """It has had numbers that the new primary does not know to be given."""
    with connected(node.port, "p", properties=HOUR) as publisher:
        with subscriber(node, 2) as client:
            old = publish(publisher, 0, 5, 2)
            assert client.payloads(5) == old
            client.unsubscribe("none")  # answered once the store has that, and the last PUBCOMP
            pair.fall_behind()
            assert publish(publisher, 10, 10, 2) == client.payloads(10)
            client.disconnect()
        fail_over(pair, node)
        new = publish(publisher, 20, 10, 2)
        with back(node) as client:
            assert client.payloads(10) == new
            client.assert_silence(0.2)


@pytest.mark.parametrize(("behind", "change"), [*combinations(TO_SUBSCRIBER, 2)])
def test_an_exchange_with_a_subscriber_goes_on(
    pair: Pair, node: NodeProcess, behind: str, change: str
) -> None:
    """The replica falls behind before one packet, and takes over before another."""
    with subscriber(node, 2) as client, connected(node.port, "p") as publisher:
        assert publish(publisher, 0, 2, 2) == client.payloads(2)
        message = Publish("", b"", 2, False, False, 0, None)
        for step in TO_SUBSCRIBER:
            if step == behind:
                pair.fall_behind()
            if step == change:
                fail_over(pair, node)
            match step:
                case "PUBLISH":
                    publish(publisher, 2, 1, 2)
                    message = client.expect(Publish)
                case "PUBREC":
                    client.send(Pubrec(message.packet_id))
                case "PUBREL":
                    assert client.expect(Pubrel) == Pubrel(message.packet_id)
                case "PUBCOMP":
                    client.send(Pubcomp(message.packet_id))
                    client.ping()
        client.assert_silence(0.1)
        assert publish(publisher, 10, 2, 2) == client.payloads(2)
    with back(node) as client:
        client.assert_silence(0.2)


# Messages of a publisher


@pytest.mark.parametrize(("behind", "change"), [*combinations(TO_BROKER, 2)])
def test_an_exchange_with_a_publisher_goes_on(
    pair: Pair, node: NodeProcess, behind: str, change: str
) -> None:
    """It sends the PUBLISH, and the PUBREL, once more after the change; the message comes once. The next one
    under the same identifier is another."""
    packet = Publish("t", b"1", 2, False, False, 7, None)
    again = Publish("t", b"1", 2, False, True, 7, None)
    with subscriber(node, 2) as client, connected(node.port, "p", properties=HOUR) as publisher:
        for step in TO_BROKER:
            if step == behind:
                pair.fall_behind()
            if step == change:
                fail_over(pair, node)
                if change == "PUBREL":
                    publisher.send(again)
                    assert publisher.expect(Pubrec).packet_id == 7
            match step:
                case "PUBLISH":
                    publisher.send(packet)
                    if change != "PUBREC":
                        assert publisher.expect(Pubrec).packet_id == 7
                case "PUBREC":
                    if change == "PUBREC":
                        assert publisher.expect(Pubrec).packet_id == 7
                case "PUBREL":
                    publisher.send(Pubrel(7))
                    assert publisher.expect(Pubcomp).packet_id == 7
        assert client.message().payload == b"1"
        publisher.send(Publish("t", b"2", 2, False, False, 7, None))
        assert publisher.expect(Pubrec).packet_id == 7
        assert client.message().payload == b"2"
        client.assert_silence(0.1)


@pytest.mark.parametrize("behind", ["routing", "release"])
def test_another_message_under_an_identifier_that_it_takes_for_used(
    pair: Pair, node: NodeProcess, behind: str
) -> None:
    """The client comes back over a new connection. The new message has DUP 0, what is sent again has not."""
    with subscriber(node, 2) as client:
        with connected(node.port, "p", properties=HOUR) as publisher:
            for packet_id in (7, 8, 9):
                publisher.send(Publish("t", b"%d" % packet_id, 2, False, False, packet_id, None))
                assert publisher.expect(Pubrec).packet_id == packet_id
            assert client.payloads(3) == [b"7", b"8", b"9"]
            publisher.ping()
            pair.fall_behind()
            for packet_id in (7, 8):
                publisher.send(Pubrel(packet_id))
                assert publisher.expect(Pubcomp).packet_id == packet_id
            publisher.disconnect()
        fail_over(pair, node)
        if behind == "routing":
            with pair.primary.client() as redis:  # as if PUBREC had left, and the mark not been stored
                name = keys.receiving("mq:", keys.bucket_of("p"), "p")
                for packet_id, value in redis.hgetall(name).items():
                    redis.hset(name, packet_id, b"0" + value[1:])
        for number in range(2):
            with back(node, "p") as publisher:  # the doubt does not end with a connection
                publisher.send(Publish("t", b"new%d" % number, 2, False, False, 7 + number, None))
                assert publisher.expect(Pubrec).packet_id == 7 + number
                publisher.send(Pubrel(7 + number))
                publisher.expect(Pubcomp)
                publisher.send(Publish("t", b"9", 2, False, True, 9, None))
                assert publisher.expect(Pubrec).packet_id == 9
            assert client.message().payload == b"new%d" % number
        client.assert_silence(0.1)


# What the other one lacks


def test_sessions_and_subscriptions_are_there_again(pair: Pair, node: NodeProcess) -> None:
    with connected(node.port, "p") as publisher, subscriber(node, 1) as client:
        pair.fall_behind()
        client.subscribe("u", qos=1)
        client.unsubscribe("t")
        with (
            subscriber(node, 1, client_id="new") as new,
            connected(node.port, "direct") as direct,
        ):
            direct.subscribe("t", "u", qos=1)
            fail_over(pair, node)
            assert renewed(node, "sessions_made_again") == 2
            publisher.publish("t", b"1", 1)
            publisher.publish("u", b"2", 1)
            assert new.message().payload == b"1"
            assert client.message().payload == b"2"
            assert direct.payloads(2) == [b"1", b"2"]
            for each in (new, client, direct):
                each.assert_silence()
        publisher.publish("t", b"3", 1)
        with back(node, "new") as new:
            assert new.message().payload == b"3"
    with pair.primary.client() as redis:
        for client_id, filters in (("s", {b"f:u"}), ("new", {b"f:t"})):
            fields = redis.hkeys(keys.session("mq:", keys.bucket_of(client_id), client_id))
            assert isinstance(fields, list)
            assert {field for field in fields if field.startswith(b"f:")} == filters


def test_a_replay_that_it_lacks_goes_on_and_one_that_is_over_does_not_come_again(
    pair: Pair, node: NodeProcess
) -> None:
    one_at_a_time = Properties(session_expiry_interval=3600, receive_maximum=1)
    topics = ["r/1", "r/2", "r/3"]
    with (
        connected(node.port, "p") as publisher,
        connected(node.port, "over", properties=one_at_a_time) as over,
        connected(node.port, "lost", properties=one_at_a_time) as lost,
    ):
        for topic in topics:
            publisher.publish(topic, topic.encode(), 1, retain=True)
        over.subscribe("r/#", qos=2)
        first = over.expect(Publish)
        pair.fall_behind()
        settle(over, first)
        assert sorted([first.payload, *over.payloads(2)]) == [topic.encode() for topic in topics]
        lost.subscribe("r/#", qos=2)
        first = lost.expect(Publish)
        fail_over(pair, node)
        settle(lost, first)
        assert sorted([first.payload, *lost.payloads(2)]) == [topic.encode() for topic in topics]
    with back(node, "over") as over, back(node, "lost") as lost:
        over.assert_silence(0.1)
        lost.assert_silence(0)


def test_a_member_of_a_group_keeps_what_it_has_and_not_what_it_has_settled(
    pair: Pair, node: NodeProcess
) -> None:
    group = keys.share("mq:", keys.bucket_of("g/shared"), "g/shared")
    with connected(node.port, "m", properties=HOUR) as member:
        member.subscribe("$share/g/shared", qos=1)
        with connected(node.port, "p") as publisher:
            publisher.publish("shared", b"settled", 1)
            settled = member.expect(Publish)
            member.disconnect()
            with back(node, "m") as again:
                settled = again.expect(Publish)
                again.ping()
                pair.fall_behind()
                settle(again, settled)
                fail_over(pair, node)
                wait_for_length(pair, group, 0)
                again.disconnect()
            publisher.publish("shared", b"given", 1)
            pair.start()
            pair.fall_behind()
            with back(node, "m") as again:
                given = again.expect(Publish)
                assert given.payload == b"given"
                again.ping()
                fail_over(pair, node)
                again.assert_silence(0.2)
                settle(again, given)
                wait_for_length(pair, group, 0)


def test_a_member_of_a_group_ends_its_exchanges_at_qos_2(pair: Pair, node: NodeProcess) -> None:
    """One of a queue that it has settled, and two that it does not know to be given."""
    group = keys.share("mq:", keys.bucket_of("g/twice"), "g/twice")
    with connected(node.port, "m2", properties=HOUR) as member, connected(node.port, "p") as publisher:
        member.subscribe("$share/g/twice", qos=2)
        publisher.publish("twice", b"settled", 2)
        member.expect(Publish)
        wait_for_length(pair, group, 0)
        member.disconnect()
        for payload in (b"sent", b"received"):
            publisher.publish("twice", payload, 2)
        pair.fall_behind()
        with back(node, "m2") as again:
            found = {message.payload: message for message in (again.expect(Publish) for _ in range(3))}
            settle(again, found[b"settled"])
            again.send(Pubrec(found[b"received"].packet_id))
            again.expect(Pubrel)
            wait_for_length(pair, group, 0)
            fail_over(pair, node)
            again.send(Pubcomp(found[b"received"].packet_id))
            settle(again, found[b"sent"])
            wait_for_length(pair, group, 0)
            assert publish(publisher, 0, 3, topic="twice") == again.payloads(3)
    with back(node, "m2") as again:
        again.assert_silence(0.1)


def wait_for_length(pair: Pair, stream: str, length: int) -> None:
    deadline = time.monotonic() + SECONDS
    with pair.primary.client() as redis:
        while redis.xlen(stream) != length:
            assert time.monotonic() < deadline, redis.xlen(stream)
            time.sleep(0.02)


@pytest.mark.parametrize("properties", [None, HOUR], ids=["direct", "stored"])
def test_what_is_exclusive_stays_so(pair: Pair, node: NodeProcess, properties: Properties | None) -> None:
    with (
        connected(node.port, "x", properties=properties) as holder,
        connected(node.port, "y", properties=properties) as other,
    ):
        pair.fall_behind()
        assert holder.subscribe("$exclusive/e", qos=1).reason_codes == [1]
        fail_over(pair, node)
        assert other.subscribe("$exclusive/e", qos=1).reason_codes == [ReasonCode.QUOTA_EXCEEDED]


@pytest.mark.parametrize("properties", [None, HOUR], ids=["direct", "stored"])
def test_what_is_exclusive_is_not_of_who_has_given_it_up(
    pair: Pair, node: NodeProcess, properties: Properties | None
) -> None:
    """The other primary says that the first one has it still."""
    with (
        connected(node.port, "x", properties=properties) as first,
        connected(node.port, "y", properties=properties) as second,
        connected(node.port, "p") as publisher,
    ):
        first.subscribe("$exclusive/e", qos=1)
        pair.fall_behind()
        first.unsubscribe("$exclusive/e")
        assert second.subscribe("$exclusive/e", qos=1).reason_codes == [1]
        fail_over(pair, node)
        assert first.subscribe("$exclusive/e", qos=1).reason_codes == [ReasonCode.QUOTA_EXCEEDED]
        assert publish(publisher, 0, 2, topic="e") == second.payloads(2)
        first.assert_silence()
        second.unsubscribe("$exclusive/e")
        assert first.subscribe("$exclusive/e", qos=1).reason_codes == [1]


def test_a_will_that_it_lacks_is_published(pair: Pair, node: NodeProcess) -> None:
    will = Will("t", b"gone", 1, False, None)
    with subscriber(node, 1) as client:
        pair.fall_behind()
        for name, properties in (("direct", None), ("stored", HOUR)):
            with connected(node.port, name, will=will, properties=properties):
                if name == "direct":
                    fail_over(pair, node)
            assert client.message().payload == b"gone"
        client.assert_silence(0.2)


def test_a_session_whose_end_it_lacks_is_given_back(pair: Pair, node: NodeProcess) -> None:
    with connected(node.port, "gone") as gone, subscriber(node, 1) as client:
        pair.fall_behind()
        gone.disconnect()
        client.disconnect()
    fail_over(pair, node)
    assert renewed(node, "sessions_given_back") == 2
    with pair.primary.client() as redis:
        assert redis.hget(keys.session("mq:", keys.bucket_of("s"), "s"), "owner") is None
        assert not redis.exists(keys.session("mq:", keys.bucket_of("gone"), "gone"))


def test_the_newer_of_two_connections_has_the_session(pair: Pair, node: NodeProcess, tmp_path: Path) -> None:
    """The older node does not even know that it has lost it. An exclusive subscription can't be taken from
    either of two clients that have been told that they have it: so that is told, and nobody else gets it."""
    exclusive = "$exclusive/contested"
    (tmp_path / "other").mkdir()
    with (
        running_node(tmp_path / "other", "--redis", pair.url, environment=QUICK) as other,
        subscriber(node, 1) as old,
        connected(node.port, "x", properties=HOUR) as first,
        connected(other.port, "y", properties=HOUR) as second,
        connected(other.port, "p") as publisher,
    ):
        pair.fall_behind()
        assert first.subscribe(exclusive, qos=1).reason_codes == [1]
        node.freeze()
        with back(other) as new:
            before = times_renewed(node)
            fail_over(pair, other)
            assert second.subscribe(exclusive, qos=1).reason_codes == [1]
            node.send_signal(signal.SIGCONT)
            wait_until_renewed(node, before)
            assert old.wait_refused() == ReasonCode.SESSION_TAKEN_OVER
            node.wait_for("two clients have an exclusive subscription", SECONDS)
            refused = publisher.subscribe(exclusive, qos=1)
            assert refused.reason_codes == [ReasonCode.QUOTA_EXCEEDED]
            publisher.publish("contested", b"both", 1)
            assert (first.message().payload, second.message().payload) == (b"both", b"both")
            assert publish(publisher, 0, 3) == new.payloads(3)
            new.assert_silence()


def test_a_restart_that_lost_its_tail(pair: Pair, node: NodeProcess) -> None:
    """The append-only file is cut where it was before."""
    (file,) = (pair.primary.directory / "appendonlydir").glob("*.incr.aof")
    with subscriber(node, 2) as client, connected(node.port, "p", properties=HOUR) as publisher:
        assert publish(publisher, 0, 5, 2) == client.payloads(5)
        size = file.stat().st_size
        assert publish(publisher, 10, 20, 2) == client.payloads(20)
        pair.primary.kill()
        with file.open("r+b") as written:
            written.truncate(size)
        before = times_renewed(node)
        pair.primary.start()
        wait_until_renewed(node, before)
        assert publish(publisher, 50, 20, 2) == client.payloads(20)
        client.assert_silence(0.1)


def test_a_node_that_is_killed_while_it_renews_itself(pair: Pair, node: NodeProcess) -> None:
    """Its clients come back to the next one."""
    with subscriber(node, 1) as client, connected(node.port, "p", properties=HOUR) as publisher:
        pair.fall_behind()
        assert publish(publisher, 0, 5) == client.payloads(5)
        pair.fail_over()
        node.wait_for("another primary has come", SECONDS)
        node.kill()
    node.start()
    with back(node) as client, connected(node.port, "p2") as publisher:
        assert publish(publisher, 20, 5) == client.payloads(5)
