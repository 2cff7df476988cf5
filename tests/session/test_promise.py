"""What is owed to clients until it is confirmed: its order, and what becomes of it on another primary."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from broker.mqtt import MQTT_5, Puback, Pubcomp, Publish, Pubrec, Pubrel, Unsuback, encode
from broker.session import (
    STORED,
    ActionPromise,
    Confirmation,
    Confirmations,
    Delivery,
    Promises,
    QueuedOutbound,
    QueueState,
    Session,
    make_level,
)
from tests.session.wire import Link, entry, payloads, published

ONE, TWO, DISK = make_level(1, False), make_level(2, False), make_level(0, True)
UNSUBACK = encode(Unsuback(1, [0]), MQTT_5)
NEW = QueueState(1, 0, 0, 8, (), (), True)


class Promising:
    """A link, and a session on it whose acknowledgements may have to wait. Topics `one/...` are at ONE."""

    def __init__(self, level: int = STORED, queue: QueueState | None = NEW) -> None:
        self.wanted: list[int] = []
        self.confirmations = Confirmations(
            lambda topic: ONE if topic.startswith("one/") else STORED, TWO, self.wanted.append
        )
        self.promises = Promises(self.confirmations, level)
        self.link = Link()
        self.session: Session = self.link.session(queue, promises=self.promises)

    def confirm(self, level: int) -> None:
        """What waits at this level is confirmed."""
        confirmation = self.confirmations.take(level)
        assert confirmation is not None
        self.confirmations.keep(confirmation)

    def owe(self, level: int, keep: Callable[[], None]) -> None:
        self.promises.owe(ActionPromise(self.promises.confirmation(level), keep, _nothing))


def _nothing() -> None:
    pass


# Confirmations


def test_what_gathers_meanwhile_shares_the_next_confirmation() -> None:
    node = Promising()
    confirmations = node.confirmations
    first = confirmations.at(ONE)
    assert node.wanted == [ONE]
    assert confirmations.at(ONE) is first
    assert confirmations.take(ONE) is first
    second = confirmations.at(ONE)
    assert second is not first
    assert confirmations.at(DISK) is not second
    assert node.wanted == [ONE, ONE, DISK]
    assert confirmations.take(TWO) is None
    assert repr(second) == "Confirmation(level=2, count=0, done=False)"


def test_others_wait_too_and_may_give_up() -> None:
    node = Promising()
    told: list[str] = []
    node.confirmations.when_kept = lambda: told.append("kept")
    node.confirmations.wait(ONE, "a", lambda: told.append("a"))
    give_up = node.confirmations.wait(ONE, "b", lambda: told.append("b"))
    assert node.confirmations.waiting(ONE) == 2
    assert node.confirmations.waiting(TWO) == 0
    give_up()
    assert (told, node.confirmations.waiting(ONE)) == (["b"], 1)
    node.confirm(ONE)
    assert told == ["b", "a", "kept", "kept"]
    assert not node.confirmations.is_waiting()


def test_who_waits_goes_on_waiting_for_another_primary() -> None:
    node = Promising()
    told: list[str] = []
    node.confirmations.wait(ONE, "a", lambda: told.append("a"))
    void = node.confirmations.take(ONE)
    assert void is not None
    node.confirmations.turn_over("B")
    node.confirmations.keep(void)  # the answer of the old one means nothing
    assert told == []
    assert node.confirmations.at(ONE).primary == "B"
    node.confirm(ONE)
    assert told == ["a"]


# Of one session


def test_an_answer_waits_until_it_is_confirmed_and_others_behind_it() -> None:
    node = Promising()
    assert not node.promises.must_wait(STORED)
    node.promises.send(node.link.outbox, UNSUBACK, STORED)
    assert len(node.link.take()) == 1
    sent: list[int] = []
    node.owe(ONE, lambda: sent.append(1))
    assert node.promises.must_wait(STORED)
    node.owe(STORED, lambda: sent.append(2))
    node.owe(TWO, lambda: sent.append(3))
    assert repr(node.promises) == "Promises(level=0, 3 answers, 0 PUBRELs)"
    node.confirm(ONE)
    assert sent == [1, 2]
    node.confirm(TWO)
    assert sent == [1, 2, 3]


def test_a_confirmed_answer_waits_for_those_before_it() -> None:
    node = Promising()
    sent: list[int] = []
    node.owe(ONE, lambda: sent.append(1))
    node.owe(TWO, lambda: sent.append(2))
    node.confirm(TWO)
    assert sent == []
    assert node.confirmations.waiting(TWO) == 0
    node.confirm(ONE)
    assert sent == [1, 2]


def test_nothing_is_owed_after_the_connection() -> None:
    node = Promising()
    told: list[str] = []
    node.confirmations.when_kept = lambda: told.append("kept")
    node.owe(ONE, lambda: told.append("sent"))
    node.owe(STORED, lambda: told.append("sent"))
    node.owe(TWO, lambda: told.append("sent"))
    node.confirm(TWO)
    node.promises.abandon()
    assert told == ["kept"]
    node.confirm(ONE)
    assert "sent" not in told


def test_the_stronger_of_listener_and_topic_counts() -> None:
    node = Promising(TWO)
    assert node.promises.level_of("one/t") == TWO
    assert Promising(DISK).promises.level_of("one/t") == make_level(1, True)
    assert Promising().promises.level_of("t") == STORED
    assert Promising().promises.confirmation(STORED) is None


# QoS 2 of the client


def _publish_exactly_once(node: Promising, packet_id: int, level: int) -> None:
    node.session.intake.open(0)
    node.session.inbound.begin(packet_id)
    node.promises.begin_in(packet_id, level)
    node.session.published(packet_id, 2, 0, 0)
    assert node.link.take() == [Pubrec(packet_id)]


def test_pubcomp_is_as_safe_as_pubrec() -> None:
    node = Promising()
    _publish_exactly_once(node, 5, ONE)
    node.session.pubrel(5)
    node.session.released(5)
    assert node.link.take() == []
    node.session.pubrel(5)  # once more: the answer is under way
    node.session.pubrel(6)  # unknown, but in its turn
    assert node.link.take() == []
    node.confirm(ONE)
    assert node.link.take() == [Pubcomp(5), Pubcomp(6, 0x92)]
    assert node.session.intake.count == 0


def test_pubcomp_of_a_stored_message_leaves_at_once() -> None:
    node = Promising()
    _publish_exactly_once(node, 5, STORED)
    node.session.pubrel(5)
    node.session.released(5)
    assert node.link.take() == [Pubcomp(5)]


def test_an_exchange_of_an_earlier_connection_may_have_been_at_any_level() -> None:
    node = Promising(queue=QueueState(1, 0, 0, 8, (), [(5, b"token", True)], True))
    node.session.published_again(5)
    assert node.link.take() == [Pubrec(5)]
    node.session.pubrel(5)
    node.session.released(5)
    assert node.link.take() == []
    node.confirm(TWO)
    assert node.link.take() == [Pubcomp(5)]


def test_pubcomp_is_asked_for_again_on_another_primary() -> None:
    node = Promising()
    _publish_exactly_once(node, 5, ONE)
    node.session.pubrel(5)
    node.session.inbound.releasing.clear()
    node.session.released(5)
    node.confirmations.turn_over("B")
    assert node.session.inbound.releasing == [5]
    assert node.link.changed.sessions == [node.session]
    node.session.released(5)
    node.confirm(ONE)
    assert node.link.take() == [Pubcomp(5)]


def test_pubcomp_of_a_direct_session_only_waits_for_its_turn() -> None:
    node = Promising(queue=None)
    node.session.intake.open(0)
    node.session.inbound.begin(5)
    node.session.published(5, 2, 0, 0)
    sent: list[int] = []
    node.owe(ONE, lambda: sent.append(1))
    node.session.pubrel(5)
    assert node.link.take() == [Pubrec(5)]
    node.confirmations.turn_over("B")  # asked for again, it is not owed now
    assert node.link.take() == [Pubcomp(5)]
    assert sent == []


# QoS 2 to the client


def _deliver(node: Promising, n: int, topic: str) -> None:
    queued = node.session.queued
    assert queued is not None
    queued.take(entry(n, 2, topic=topic))
    assert node.link.take() == [Publish(topic, b"%d" % n, 2, False, False, n)]
    queued.pubrec(n, 0)


def _queued(node: Promising) -> QueuedOutbound:
    queued = node.session.queued
    assert queued is not None
    return queued


def _read(node: Promising, n: int, *entries: Delivery) -> None:
    """The session asks for a page, and gets this."""
    queued = _queued(node)
    asked = queued.wanted_page()
    assert asked > 0
    if not queued.owe_page(entries, lambda: queued.take_page(8, n, entries, asked)):
        queued.take_page(8, n, entries, asked)


def test_a_message_that_has_to_be_confirmed_is_read() -> None:
    node = Promising()
    queued = _queued(node)
    queued.hold("t")
    assert not queued.behind
    queued.hold("one/t")
    assert node.link.take_changed() == 1
    queued.hold("one/t")
    assert node.link.take_changed() == 0
    queued.take(entry(1, 2, topic="one/t"))
    assert queued.has_unsent()
    _read(node, 1, entry(1, 2, topic="one/t"))
    assert (node.link.take(), queued.wanted_page()) == ([], 0)
    queued.take(entry(2))  # not read yet
    node.confirm(ONE)
    assert payloads(node.link.take()) == [b"1"]
    _read(node, 2, entry(2))
    assert payloads(node.link.take()) == [b"2"]
    assert not queued.behind
    assert not queued.has_unsent()


def test_where_nothing_has_to_be_confirmed_nothing_is_read() -> None:
    queued = Link().session(NEW).queued
    assert queued is not None
    queued.hold("one/t")
    assert not queued.behind
    assert not queued.owe_page([entry(1, 2, topic="one/t")], _nothing)


def test_a_page_waits_for_the_strongest_level_of_its_messages_at_qos_2() -> None:
    node = Promising(DISK)
    _queued(node).look(1)
    _read(node, 3, entry(1, topic="one/t"), entry(2, 2, topic="one/t"), entry(3, 2))
    node.session.answer(UNSUBACK)  # waits as well, but not for the page, nor that for it
    assert node.link.take() == []
    node.confirm(DISK)
    assert len(node.link.take()) == 1
    node.confirm(make_level(1, True))
    assert payloads(node.link.take()) == [b"1", b"2", b"3"]


def test_a_page_without_messages_at_qos_2_does_not_wait() -> None:
    node = Promising(ONE)
    _queued(node).look(1)
    _read(node, 1, entry(1, topic="one/t"))
    assert payloads(node.link.take()) == [b"1"]


def test_a_page_is_read_again_on_another_primary() -> None:
    node = Promising()
    queued = _queued(node)
    queued.hold("one/t")
    _read(node, 2, entry(1, 2, topic="one/t"), entry(2, 2, topic="one/t"))
    node.link.take_changed()
    queued.reclaimed(2, 40503)
    node.confirmations.turn_over("B")
    assert node.link.take_changed() == 1
    # The first has reached the new one in time, the second is routed again.
    _read(node, 40504, entry(1, 2, topic="one/t"), entry(40504, 2, gen=2, topic="one/t"))
    assert node.link.take() == []
    node.confirm(ONE)
    assert published(node.link.take()) == [(1, b"1", False), (40504, b"40504", False)]
    assert not queued.behind


def test_a_page_that_waits_goes_with_the_connection() -> None:
    node = Promising()
    _queued(node).hold("one/t")
    _read(node, 1, entry(1, 2, topic="one/t"))
    node.promises.abandon()
    assert not node.confirmations.is_waiting()
    node.confirm(ONE)
    assert node.link.take() == []


def _store_pubrecs(node: Promising) -> None:
    queued = node.session.queued
    assert queued is not None
    queued.stored_pubrecs(queued.take_releasing())


def test_pubrel_waits_until_pubrec_is_safe() -> None:
    node = Promising()
    _deliver(node, 1, "one/t")
    _deliver(node, 2, "t")
    _store_pubrecs(node)
    assert node.link.take() == []  # the second waits for the first [MQTT-4.6.0-4]
    node.session.answer(UNSUBACK)
    assert len(node.link.take()) == 1  # answers have an order of their own
    node.confirm(ONE)
    assert node.link.take() == [Pubrel(1), Pubrel(2)]
    _deliver(node, 3, "t")
    _store_pubrecs(node)
    assert node.link.take() == [Pubrel(3)]


def test_pubrec_is_stored_again_on_another_primary() -> None:
    node = Promising()
    queued = node.session.queued
    assert queued is not None
    _deliver(node, 1, "one/t")
    _store_pubrecs(node)
    node.confirmations.turn_over("B")
    assert queued.releasing == [1, 1]
    _store_pubrecs(node)
    assert node.link.take() == []
    node.confirm(ONE)
    assert node.link.take() == [Pubrel(1)]


def test_the_level_of_a_refused_message_is_forgotten() -> None:
    node = Promising()
    queued = node.session.queued
    assert queued is not None
    queued.take(entry(1, 2, topic="one/t"))
    queued.pubrec(1, 0x80)
    assert node.promises.end_out(1) == STORED


def test_pubrels_of_a_resumed_session_wait_for_the_strongest_level() -> None:
    node = Promising(queue=QueueState(1, 9, 4, 9, [3], (), False))
    queued = node.session.queued
    assert queued is not None
    queued.resend_pubrels()
    assert node.link.take() == []
    node.confirmations.turn_over("B")  # they are owed all the same
    assert node.confirmations.waiting(TWO) == 1
    node.confirm(TWO)
    assert node.link.take() == [Pubrel(3)]


# SUBACK and the like


def test_suback_waits_by_the_level_of_the_listener() -> None:
    node = Promising(ONE)
    node.session.answer(UNSUBACK)
    assert node.link.take() == []
    node.confirmations.turn_over("B")
    node.confirm(ONE)
    assert len(node.link.take()) == 1


def test_without_promises_all_leaves_at_once() -> None:
    link = Link()
    link.session(NEW).answer(UNSUBACK)
    assert len(link.take()) == 1


# The whole of it

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from([STORED, ONE, TWO, DISK])),
        st.tuples(st.sampled_from(["take", "keep"]), st.sampled_from([ONE, TWO, DISK])),
        st.tuples(st.just("turn over"), st.just(0)),
    ),
    max_size=40,
)


class Machine:
    """A client that publishes, a primary that confirms, and others that come in its place."""

    def __init__(self) -> None:
        self.node = Promising()
        self.levels: list[int] = []  # of what was published, in order
        self.safe_on: dict[int, int] = {}  # number of the publish -> primary that has it for sure
        self.stored: list[int] = []  # by the primary of now
        self.taken: dict[int, tuple[Confirmation, list[int]]] = {}
        self.again: list[int] = []
        self.primary = 0

    def step(self, name: str, level: int) -> None:
        if name == "publish":
            self.levels.append(level)
            self.store(len(self.levels) - 1)
        elif name == "take" and level not in self.taken:
            confirmation = self.node.confirmations.take(level)
            if confirmation is not None:
                self.taken[level] = confirmation, list(self.stored)
        elif name == "keep" and level in self.taken:
            confirmation, covered = self.taken.pop(level)
            self.safe_on.update(dict.fromkeys(covered, self.primary))
            self.node.confirmations.keep(confirmation)
        elif name == "turn over":
            self.turn_over()

    def store(self, number: int) -> None:
        """The primary has answered; the client is acknowledged, or owed that."""
        self.stored.append(number)
        level = self.levels[number]
        promises = self.node.promises
        if promises.must_wait(level):
            promises.owe(
                ActionPromise(
                    promises.confirmation(level),
                    lambda: self.acknowledge(number),
                    lambda: self.again.append(number),
                )
            )
        else:
            self.acknowledge(number)

    def acknowledge(self, number: int) -> None:
        if self.levels[number] != STORED:
            assert self.safe_on.get(number) == self.primary
        self.node.session.published(number + 1, 1, 0, 0)

    def turn_over(self) -> None:
        self.primary += 1
        self.stored = []
        self.taken.clear()
        self.node.confirmations.turn_over(self.primary)
        again, self.again = self.again, []
        for number in again:
            self.store(number)

    def finish(self) -> None:
        for level in (ONE, TWO, DISK) * 2:
            self.step("keep", level)
            self.step("take", level)
            self.step("keep", level)


@given(STEPS)
def test_acknowledgements_keep_their_order_and_never_come_too_early(steps: list[tuple[str, int]]) -> None:
    machine = Machine()
    for name, level in steps:
        machine.step(name, level)
    machine.finish()
    assert not machine.node.confirmations.is_waiting()
    acknowledged = machine.node.link.take()
    assert acknowledged == [Puback(number + 1) for number in range(len(machine.levels))]
