"""QoS 2 with the client as the sender: each state, and pairs of client and server cut at every step."""

from collections.abc import Iterator
from typing import Literal

import pytest

from broker.session import Changes, Inbound, Message, Receipt, Release, StoredSession, TokenSource
from tests.session.wire import message


def _queued() -> tuple[Inbound, Changes]:
    changed = Changes()
    return Inbound(StoredSession("client", 7, 3, changed)), changed


def _take_urgent(changed: Changes) -> list[StoredSession]:
    assert changed.is_urgent
    return changed.take()


def _take_settled(changed: Changes) -> list[StoredSession]:
    """Nobody waits for these."""
    assert not changed.is_urgent
    return changed.take()


def test_tokens_never_repeat_and_name_the_source() -> None:
    source = TokenSource(b"12345678")
    tokens = [source.next() for _ in range(1000)]
    assert len(set(tokens)) == 1000
    assert {len(token) for token in tokens} == {14}
    assert all(token.startswith(b"12345678") for token in tokens)


def test_a_whole_exchange_of_a_queued_session() -> None:
    inbound, changed = _queued()
    assert inbound.begin(5) is Receipt.NEW
    waiting = message()
    inbound.store(5, waiting)
    assert (inbound.storing, inbound.storing_messages) == ([5], [waiting])
    assert _take_urgent(changed) == [inbound.stored]
    assert inbound.begin(5) is Receipt.PENDING
    assert inbound.settle(5)
    assert _take_settled(changed) == [inbound.stored]
    assert inbound.take_routed() == [5]
    assert inbound.take_routed() == []
    assert inbound.begin(5) is Receipt.ROUTED
    assert repr(inbound) == "Inbound({5: 1})"
    assert inbound.release(5) is Release.STORE
    assert inbound.releasing == [5]
    assert _take_urgent(changed) == [inbound.stored]
    assert inbound.release(5) is Release.PENDING
    assert inbound.releasing == [5]
    inbound.released(5)
    assert inbound.spent == []
    assert inbound.release(5) is Release.UNKNOWN
    assert inbound.begin(5) is Receipt.NEW


def test_a_whole_exchange_of_a_direct_session() -> None:
    inbound = Inbound(None)
    assert inbound.begin(5) is Receipt.NEW
    inbound.store(5, message())
    inbound.remember(5, b"token", [1])
    assert inbound.settle(5)
    assert inbound.routed == []
    assert inbound.begin(5) is Receipt.ROUTED
    assert inbound.release(5) is Release.COMPLETE
    inbound.released(5)
    assert inbound.spent == []
    assert inbound.release(5) is Release.UNKNOWN
    assert inbound.begin(5) is Receipt.NEW


def test_a_spent_token_is_told_to_every_bucket_that_keeps_it() -> None:
    inbound, changed = _queued()
    inbound.begin(5)
    inbound.settle(5)
    inbound.remember(5, b"token", [1, 9])
    inbound.release(5)
    changed.take()
    inbound.released(5)
    assert inbound.spent == [(1, b"token"), (9, b"token")]
    assert _take_settled(changed) == [inbound.stored]


def test_refused_the_identifier_is_free_again() -> None:  # [MQTT-4.3.3-9]
    inbound, _ = _queued()
    inbound.begin(5)
    inbound.refuse(5)
    assert inbound.begin(5) is Receipt.NEW
    inbound.refuse(6)  # never seen: nothing to free


def test_what_is_refused_in_its_turn_is_so_once() -> None:
    inbound, _ = _queued()
    inbound.begin(5)
    inbound.store(5, message(), 0x99)
    assert inbound.storing == [5]
    assert (inbound.take_refusal(5), inbound.take_refusal(5)) == (0x99, 0)


def test_a_pubrel_before_pubrec_waits_to_be_sent_again() -> None:
    """Deleted in the same exchange in which it is stored, the identifier would stay, with its token."""
    inbound, _ = _queued()
    inbound.begin(5)
    inbound.store(5, message())
    assert inbound.release(5) is Release.PENDING
    assert inbound.releasing == []
    assert inbound.settle(5)
    assert inbound.release(5) is Release.STORE


def test_what_is_not_open_owes_no_pubrec() -> None:
    inbound, _ = _queued()
    assert not inbound.settle(5)
    assert inbound.routed == []


def test_a_restored_exchange_that_was_routed() -> None:
    inbound, _ = _queued()
    inbound.restore(5, b"token", True)
    assert inbound.begin(5) is Receipt.ROUTED
    assert inbound.release(5) is Release.STORE


def test_a_restored_exchange_that_was_not_routed_keeps_its_token() -> None:
    inbound, _ = _queued()
    inbound.restore(5, b"token", False)
    assert inbound.has_exchange(5, 0)
    assert not inbound.has_exchange(5, 1)
    assert not inbound.has_exchange(6, 0)
    assert inbound.begin(5) is Receipt.UNROUTED
    assert inbound.take_token(5) == b"token"
    assert inbound.begin(5) is Receipt.PENDING
    assert inbound.settle(5)


def test_a_restored_exchange_may_be_released_although_it_is_not_marked_as_routed() -> None:
    # PUBREC left, and the node died before the mark was stored.
    inbound, _ = _queued()
    inbound.restore(5, b"token", False)
    assert inbound.release(5) is Release.STORE
    inbound.released(5)
    assert inbound.begin(5) is Receipt.NEW


# Pairs: a client that knows QoS 2, a server that is killed or cut off at each step.


class _Store:
    """What of one session outlives a node, as DESIGN's functions keep it."""

    def __init__(self) -> None:
        self.rx: dict[int, tuple[bytes, bool]] = {}
        self.once: set[bytes] = set()
        self.subscriber: list[bytes] = []  # payloads, as they were appended to its queue

    def receive(self, packet_id: int, token: bytes) -> bytes:
        """The token that counts: the first one stored."""
        return self.rx.setdefault(packet_id, (token, False))[0]

    def enqueue(self, routed: Message) -> None:
        if routed.token not in self.once:
            self.once.add(routed.token)
            self.subscriber.append(routed.payload)

    def mark_routed(self, packet_id: int) -> None:
        if packet_id in self.rx:
            self.rx[packet_id] = (self.rx[packet_id][0], True)


class _Client:
    """Publishes one message at QoS 2, and resumes where it was."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.next: Literal["PUBLISH", "PUBREL", "nothing"] = "PUBLISH"


class _Server:
    """A node that has just claimed the session."""

    def __init__(self, store: _Store, tokens: TokenSource) -> None:
        self.store = store
        self.tokens = tokens
        self.inbound = Inbound(StoredSession("client", 7, 3, Changes()))
        for packet_id, (token, is_routed) in store.rx.items():
            self.inbound.restore(packet_id, token, is_routed)

    def publish(self, payload: bytes) -> Iterator[str]:
        """Ends with "PUBREC" when that may leave."""
        received = Message("t", payload, 2, False)
        receipt = self.inbound.begin(1)
        if receipt == Receipt.ROUTED:
            yield "PUBREC"
            return
        if receipt == Receipt.UNROUTED:
            received.token = self.inbound.take_token(1)
        else:
            received.token = self.tokens.next()
            self.inbound.store(1, received)
            yield "not stored"
            received.token = self.store.receive(1, received.token)
        yield "stored"
        self.store.enqueue(received)
        yield "routed"
        assert self.inbound.settle(1)
        yield "PUBREC"
        yield "mark not stored"
        if self.inbound.routed:
            self.store.mark_routed(1)
        yield "mark stored"

    def pubrel(self) -> Iterator[str]:
        """Ends with "PUBCOMP" when that may leave."""
        release = self.inbound.release(1)
        if release == Release.STORE:
            yield "not deleted"
            self.store.rx.pop(1, None)
            yield "deleted"
            self.inbound.released(1)
        else:
            assert release == Release.UNKNOWN  # PUBCOMP got lost
        yield "PUBCOMP"


def _connection(client: _Client, server: _Server) -> Iterator[str]:
    """One connection from resume on; whoever takes the steps may stop after any of them."""
    if client.next == "PUBLISH":
        yield "PUBLISH is on its way"
        for step in server.publish(client.payload):
            yield step
            if step == "PUBREC":
                client.next = "PUBREL"
                yield "PUBREC has arrived"
    if client.next == "PUBREL":
        yield "PUBREL is on its way"
        for step in server.pubrel():
            yield step
            if step == "PUBCOMP":
                client.next = "nothing"
                yield "PUBCOMP has arrived"


def _run(client: _Client, store: _Store, tokens: TokenSource, steps: int) -> bool:
    """True if the exchange came to its end within so many steps."""
    connection = _connection(client, _Server(store, tokens))
    for _ in range(steps):
        if next(connection, None) is None:
            return True
    return next(connection, None) is None


@pytest.mark.parametrize("first", range(16))
@pytest.mark.parametrize("second", range(16))
def test_one_delivery_wherever_two_connections_are_cut(first: int, second: int) -> None:
    store = _Store()
    tokens = TokenSource(b"12345678")
    client = _Client(b"only once")
    _run(client, store, tokens, first)
    _run(client, store, tokens, second)
    assert _run(client, store, tokens, 100)
    assert client.next == "nothing"
    assert store.subscriber == [b"only once"]
    assert store.rx == {}
    # The identifier is free: the next message with it is another one.
    again = _Client(b"another")
    assert _run(again, store, tokens, 100)
    assert store.subscriber == [b"only once", b"another"]


def test_the_pair_has_fewer_steps_than_are_cut() -> None:
    assert _run(_Client(b""), _Store(), TokenSource(b"12345678"), 15)


# Another primary, which may lack the newest writes


def _doubted(is_routed: bool) -> Inbound:
    inbound, _ = _queued()
    inbound.restore(5, b"token", is_routed)
    inbound.doubt(5)
    return inbound


def _publish(inbound: Inbound, *, dup: bool, packet_id: int = 5) -> Receipt:
    receipt = inbound.begin(packet_id)
    assert receipt is not Receipt.NEW
    return inbound.judge(packet_id, receipt, dup)


@pytest.mark.parametrize("is_routed", [False, True])
def test_the_first_attempt_under_an_identifier_in_doubt_is_another_message(is_routed: bool) -> None:
    inbound = _doubted(is_routed)
    assert _publish(inbound, dup=False) is Receipt.NEW
    inbound.store(5, message())
    for dup in (False, True):
        assert _publish(inbound, dup=dup) is Receipt.PENDING
    assert inbound.settle(5)
    assert _publish(inbound, dup=False) is Receipt.ROUTED
    assert inbound.release(5) is Release.STORE


@pytest.mark.parametrize("is_routed", [False, True])
def test_what_is_sent_again_under_an_identifier_in_doubt_is_what_is_held(is_routed: bool) -> None:
    inbound = _doubted(is_routed)
    assert _publish(inbound, dup=True) is (Receipt.ROUTED if is_routed else Receipt.UNROUTED)
    if not is_routed:
        assert inbound.take_token(5) == b"token"
        assert inbound.settle(5)
    assert _publish(inbound, dup=False) is Receipt.ROUTED


@pytest.mark.parametrize("is_routed", [False, True])
def test_an_identifier_in_doubt_that_is_released_is_free(is_routed: bool) -> None:
    inbound = _doubted(is_routed)
    assert inbound.release(5) is Release.STORE
    inbound.released(5)
    assert inbound.begin(5) is Receipt.NEW
    inbound.settle(5)
    assert _publish(inbound, dup=False) is Receipt.ROUTED


def test_without_a_doubt_dup_makes_no_difference() -> None:
    for is_routed, receipt in ((True, Receipt.ROUTED), (False, Receipt.UNROUTED)):
        inbound, _ = _queued()
        inbound.restore(5, b"token", is_routed)
        assert _publish(inbound, dup=False) is receipt


@pytest.mark.parametrize("is_routed", [False, True])
def test_an_exchange_in_doubt_is_open_and_held(is_routed: bool) -> None:
    inbound = _doubted(is_routed)
    assert inbound.exchanges() == [(int(is_routed), 5)]
    assert inbound.has_exchanges()
    assert (inbound.has_exchange(5, 0), inbound.has_exchange(5, 1)) == (not is_routed, is_routed)
    assert inbound.held({}) == [(5, b"" if is_routed else b"token", is_routed)]


def test_what_the_store_should_have_of_them() -> None:
    inbound, _ = _queued()
    inbound.restore(1, b"unrouted", False)
    inbound.restore(2, b"", True)
    for packet_id in (3, 4, 5, 6, 7):
        inbound.begin(packet_id)
        inbound.store(packet_id, message())
    inbound.remember(7, b"owed", [7])
    inbound.settle(5)
    inbound.remember(5, b"routed", [7])
    inbound.settle(6)
    inbound.release(6)
    assert sorted(inbound.held({4: b"under way"})) == [
        (1, b"unrouted", False),
        (2, b"", True),
        (3, b"", False),
        (4, b"under way", False),
        (5, b"routed", True),
        (7, b"owed", False),
    ]
