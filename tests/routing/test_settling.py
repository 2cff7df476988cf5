"""Messages whose acknowledgement waits for a confirmation, and those that another primary may lack."""

import anyio
import pytest

from broker.mqtt import Puback, Publish, Pubrec
from broker.routing import Settling, TopicLevels
from broker.session import STORED, Confirmations, Promises, Reports, Session, make_level
from cluster.store.call import Request
from cluster.store.entry import pack_entry, pack_head
from cluster.store.identity import Identity
from tests.routing.room import NODE, appended, new_queue
from tests.routing.test_commit import Commit

pytestmark = pytest.mark.anyio

ONE, TWO = make_level(1, False), make_level(2, False)
A, B = Identity("a", "1", "0"), Identity("b", "2", "1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Levels(Commit):
    """A committer of a node where topics `one/...` are at ONE, and the rest is stored."""

    def __init__(self) -> None:
        super().__init__()
        self.room.index.version = self.lane.version
        self.lane.identity = A
        topics = TopicLevels({"one/#": ONE})
        self.confirmations = Confirmations(topics.of, ONE, lambda level: None)
        self.confirmations.when_kept = self.committer.note_kept
        self.room.router.settling = Settling(self.confirmations, self.room.router.spent)

    def client(self, name: str, *, is_direct: bool = False) -> Session:
        promises = Promises(self.confirmations, STORED)
        return self.room.connect(name, queue=None if is_direct else new_queue(), promises=promises)

    def confirm(self) -> None:
        confirmation = self.confirmations.take(ONE)
        assert confirmation is not None
        self.confirmations.keep(confirmation)

    async def cycle(self) -> None:
        """Works until nothing is left but what has to be confirmed."""
        self.committer.wake()
        async with self.running():
            await anyio.wait_all_tasks_blocked()


@pytest.fixture
def node() -> Levels:
    made = Levels()
    made.room.subscribe("away", "#")
    made.lane.replies["enqueue"] = [appended()]
    return made


# By topic


def test_the_strongest_of_all_filters_that_match_counts() -> None:
    levels = TopicLevels({"a/#": ONE, "+/b": make_level(0, True), "a/b/c": TWO})
    assert levels.of("a/b") == make_level(1, True)
    assert levels.of("a/b/c") == TWO
    assert levels.of("a") == levels.of("a/x") == ONE
    assert levels.of("x") == levels.of("$a/b/c") == STORED
    assert levels.of("x") == STORED  # as remembered
    assert levels.strongest == make_level(2, True)
    assert TopicLevels({}).of("a") == STORED


def test_topics_are_forgotten_before_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = TopicLevels({"#": ONE})
    for number in range(65_537):
        assert levels.of(str(number)) == ONE


# What waits


async def test_a_message_is_acknowledged_when_it_is_confirmed(node: Levels) -> None:
    publisher = node.client("p")
    node.room.publish(publisher, "one/t", b"x", packet_id=1)
    node.room.publish(publisher, "t", b"x", packet_id=2)
    await node.cycle()
    assert node.room.got("p") == []
    assert publisher.intake.count == 2
    node.confirm()
    assert node.room.got("p") == [Puback(1), Puback(2)]
    assert publisher.intake.count == 0
    node.room.publish(publisher, "t", b"x", packet_id=3)
    await node.cycle()
    assert node.room.got("p") == [Puback(3)]


async def test_others_do_not_wait(node: Levels) -> None:
    forward = node.room.connect("forward", queue=new_queue())  # owed nothing that waits
    node.room.publish(forward, "one/t", b"x")
    node.room.publish(None, "one/t", b"will", token=b"token")
    node.room.publish(node.client("q"), "one/t", b"retained", 0, retain=True)
    await node.cycle()
    assert node.room.got("forward") == [Puback(1)]
    assert not node.confirmations.is_waiting()


async def test_what_is_refused_waits_only_for_its_turn(node: Levels) -> None:
    publisher = node.client("p")
    node.room.publish(publisher, "one/t", b"x", packet_id=1)
    for packet_id in (2, 3):
        node.room.ingress.refuse(publisher, Publish("one/t", b"", 1, False, False, packet_id, None), 0x87)
    await node.cycle()
    assert node.confirmations.waiting(ONE) == 1
    node.confirm()
    assert node.room.got("p") == [Puback(1), Puback(2, 0x87), Puback(3, 0x87)]


async def test_idle_is_who_owes_nothing(node: Levels) -> None:
    node.room.publish(node.client("p"), "one/t", b"x")
    done = []

    async def until_idle() -> None:
        await node.group.until_idle()
        done.append(True)

    async with anyio.create_task_group() as tasks, node.running():
        node.committer.wake()
        tasks.start_soon(until_idle)
        await anyio.wait_all_tasks_blocked()
        assert not done
        node.confirm()
        await anyio.wait_all_tasks_blocked()
    assert done


def _subscriber(node: Levels) -> None:
    """A persistent one, in whose queue will be a message to `one/t` at QoS 2."""
    node.room.index.remove_row("away", "#", 1)
    node.room.subscribe(node.client("s"), "#", 2)
    node.lane.replies["enqueue"] = [appended(0, owner=NODE.encode())]
    packed = pack_entry(pack_head(2, False, ()), "one/t", b"x", b"", 0)
    node.lane.replies["page"] = [[1, 8, 1, [1, 1, packed], 0]]


async def test_a_message_at_qos_2_reaches_its_subscriber_when_it_is_confirmed(node: Levels) -> None:
    _subscriber(node)
    publisher = node.client("p")
    node.room.publish(publisher, "one/t", b"x", 2)
    await node.cycle()
    assert [each for each in node.lane.operations() if each] == [["enqueue"], ["page"]]
    assert node.room.got("s") == []
    node.confirm()
    assert node.room.got("s") == [Publish("one/t", b"x", 2, False, False, 1)]


async def test_it_is_read_again_from_another_primary(node: Levels) -> None:
    _subscriber(node)
    node.room.publish(node.client("p"), "one/t", b"x", 2)
    await node.cycle()
    node.lane.identity = B
    node.lane.asked.clear()
    await node.cycle()
    assert ["page", "enqueue"] in node.lane.operations()
    node.confirm()
    assert len(node.room.got("s")) == 1


async def test_a_page_that_can_not_be_sent_harms_only_its_session(node: Levels) -> None:
    def fail(*_: object) -> None:
        raise ValueError

    _subscriber(node)
    subscriber = node.room.index.subscribers["s"].session
    assert subscriber is not None
    assert subscriber.queued is not None
    subscriber.outbound.mount_point = "x/"  # the message is dropped
    subscriber.outbound.drops = Reports(fail, lambda taken: None)
    node.room.publish(node.client("p"), "one/t", b"x", 2)
    await node.cycle()
    node.confirm()
    assert [session for session, _ in node.room.writes.failed] == [subscriber]
    assert node.room.changed.is_urgent


@pytest.mark.parametrize(("topic", "qos"), [("one/t", 1), ("t", 2)])
async def test_other_messages_reach_it_at_once(node: Levels, topic: str, qos: int) -> None:
    _subscriber(node)
    node.room.publish(node.client("p"), topic, b"x", qos)
    await node.cycle()
    assert len(node.room.got("s")) == 1


# Another primary


async def test_what_is_not_confirmed_is_routed_again_before_what_was_under_way(node: Levels) -> None:
    publisher = node.client("p")
    node.room.publish(publisher, "one/t", b"first", packet_id=1)
    await node.cycle()
    node.room.publish(publisher, "one/t", b"second", packet_id=2)
    node.lane.is_lost, node.lane.next_identity = True, B
    node.lane.asked.clear()
    await node.cycle()
    assert node.lane.operations() == [["reassure"], ["settle_tokens"] * 2, ["enqueue"]]
    sent = repr(node.lane.asked[2][0])
    assert 0 < sent.index("first") < sent.index("second")
    assert node.room.got("p") == []
    node.confirm()
    assert node.room.got("p") == [Puback(1), Puback(2)]


async def test_a_batch_that_is_under_way_for_longer_is_begun_anew(node: Levels) -> None:
    """The primary changes while the log is read, when the batch has been answered already."""
    publisher = node.client("p")
    node.room.publish(publisher, "t", b"1", packet_id=1)
    node.lane.version = "1.1"
    node.lane.next_identity = B

    def lose(requests: list[Request]) -> None:
        node.lane.is_lost = requests[0][0] == "enqueue"

    node.lane.on_asked = lose
    await node.cycle()
    assert [each[0] for each in node.lane.operations()].count("enqueue") == 2
    assert node.room.got("p") == [Puback(1)]


async def test_the_same_primary_is_known_again(node: Levels) -> None:
    publisher = node.client("p")
    node.room.publish(publisher, "one/t", b"1", packet_id=1)
    await node.cycle()
    node.room.publish(publisher, "one/t", b"2", packet_id=2)
    node.lane.is_lost, node.lane.next_identity = True, Identity("a", "3", "0")
    node.lane.asked.clear()
    await node.cycle()
    assert node.lane.operations() == [["reassure"], ["enqueue"]]
    node.confirm()
    assert node.room.got("p") == [Puback(1), Puback(2)]


async def test_direct_subscribers_have_it_once_at_qos_2(node: Levels) -> None:
    publisher = node.client("p", is_direct=True)
    subscriber = node.room.connect("s")
    node.room.subscribe(subscriber, "one/#", 2)
    publisher.inbound.begin(1)
    node.room.publish(publisher, "one/t", b"x", 2, packet_id=1, token=b"token")
    await node.cycle()
    node.lane.identity = B
    await node.cycle()
    node.confirm()
    assert node.room.got("p") == [Pubrec(1)]
    assert len(node.room.got("s")) == 1


async def test_a_client_that_has_gone_sends_it_again_itself(node: Levels) -> None:
    publisher = node.client("p")
    node.room.publish(publisher, "one/t", b"1", packet_id=1)
    await node.cycle()
    assert publisher.promises is not None
    publisher.promises.abandon()
    node.lane.identity = B
    node.lane.asked.clear()
    await node.cycle()
    assert node.lane.operations() == []


async def test_whoever_doubts_has_the_lane_look_for_the_primary(node: Levels) -> None:
    node.committer.look_for_primary()
    await node.cycle()
    assert node.lane.drops == 1
    assert node.lane.operations()[-1] == ["log_since", "inbox_tail"]
