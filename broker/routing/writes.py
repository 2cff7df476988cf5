"""What sessions have to store or to read: acknowledgements, QoS 2 states, pages of their queues.

Collected from all sessions that changed, in two kinds of calls. What frees memory goes through even when
Redis is full, and so does the reading of queues, or nothing would ever be acknowledged and free any; the
Packet Identifiers of new messages don't. The answers go back to the sessions, which then send what had to
wait for them.
"""

from collections.abc import Sequence
from typing import Final

from broker.routing.ingress import Ingress
from broker.session import IN_QUEUE, Changes, Delivery, Message, QueuedOutbound, Session, SharedWork
from cluster.store import queues, receive, shares
from cluster.store.entry import unpack_entry
from cluster.store.errors import ItemError, RedisFull
from cluster.store.lane import Call, PartlyRefused
from cluster.store.reply import as_bytes, as_int

_ACK: Final = 0
_RELEASE: Final = 1
_COMPLETE: Final = 2
_ROUTED: Final = 3
_RELEASE_RECEIVED: Final = 4
_RECEIVE: Final = 5
_RAISE: Final = 6
_PAGE: Final = 7
_SPENT: Final = 8
_SHARED: Final = 9

_QUOTA_EXCEEDED: Final = 0x97
_MQTT_5: Final = 5
_REQUESTS_PER_CALL: Final = 64
_ENTRIES_PER_CALL: Final = 256  # of queues, that are read or changed: about a millisecond of Redis


class _Asked:
    """A request that is under way: for whom, of which kind, and what it carried. `size`: how many entries
    of a queue cost Redis as much; an acknowledged one costs a fourth."""

    __slots__ = ("kind", "messages", "name", "numbers", "session", "size")

    def __init__(
        self,
        kind: int,
        session: Session,
        numbers: list[int],
        messages: list[Message],
        size: int,
        name: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.session = session
        self.numbers = numbers
        self.messages = messages
        self.size = size


class SessionWrites:
    """`changed` are the node's sessions that want something; `stale` collects those that another owner
    has taken; `overrun` those that have more QoS 2 exchanges open than `receive_limit`, twice the Receive
    Maximum."""

    __slots__ = (
        "_asked",
        "_ingress",
        "_policy",
        "_receive_limit",
        "changed",
        "failed",
        "given",
        "overrun",
        "stale",
    )

    def __init__(self, changed: Changes, ingress: Ingress, receive_limit: int, policy: shares.Policy) -> None:
        self.given: list[tuple[str, shares.Given]] = []
        self._policy = policy
        self.changed = changed
        self.stale: list[Session] = []
        self.failed: list[tuple[Session, str]] = []
        self.overrun: list[Session] = []
        self._ingress = ingress
        self._receive_limit = receive_limit
        self._asked: list[list[_Asked]] = []

    def next_calls(self) -> list[Call]:
        """The calls for all sessions that changed since the last time."""
        freeing = _Builder("free")
        writing = _Builder("write")
        for stored in self.changed.take():
            if isinstance(stored, Session):
                self._collect_inbound(stored, freeing, writing)
                self._collect_outbound(stored, freeing)
                if stored.outbound.shared is not None:
                    self._collect_shared(stored, stored.outbound.shared, freeing)
        self._asked = freeing.asked + writing.asked
        return freeing.calls + writing.calls

    def take_replies(self, replies: Sequence[Sequence[object] | Exception]) -> bool:
        """The answers, call by call. False if Redis is full: what was refused is asked again with the next
        cycle."""
        all_asked = self._asked
        self._asked = []
        is_full = False
        for asked_of_call, answers in zip(all_asked, replies, strict=True):
            if isinstance(answers, RedisFull):
                is_full = True
                for asked in asked_of_call:  # of a "write" call: messages received, nothing else
                    self._refuse_received(asked)
            elif isinstance(answers, Exception):
                raise answers
            elif isinstance(answers, PartlyRefused):
                is_full = True
                self._take_partly(asked_of_call, answers)
            else:
                for asked, reply in zip(asked_of_call, answers, strict=True):
                    self._take_reply_safely(asked, reply)
        return not is_full

    def _take_partly(self, asked_of_call: list[_Asked], answers: Sequence[object]) -> None:
        """Of a "write" call that went to several primaries of Redis, of which some are full."""
        for asked, reply in zip(asked_of_call, answers, strict=True):
            if isinstance(reply, RedisFull):
                self._refuse_received(asked)
            else:
                self._take_reply_safely(asked, reply)

    def _collect_outbound(self, session: Session, freeing: "_Builder") -> None:
        queued = session.queued
        if queued is None:
            return
        bucket = session.bucket
        client_id = session.client_id
        acked = queued.take_acknowledged()
        if acked:
            freeing.add(_Asked(_ACK, session, [], [], len(acked) >> 3), queues.ack(bucket, client_id, acked))
        releasing = queued.take_releasing()
        if releasing:
            request = queues.release(bucket, client_id, session.epoch, releasing)
            freeing.add(_Asked(_RELEASE, session, releasing, [], len(releasing) >> 1), request)
        completed = queued.take_completed()
        if completed:
            request = queues.complete(bucket, client_id, session.epoch, completed)
            freeing.add(_Asked(_COMPLETE, session, completed, [], len(completed)), request)
        wanted = queued.wanted_page()
        if wanted:
            request = queues.page(bucket, client_id, session.epoch, queued.next_n - 1, wanted)
            freeing.add(_Asked(_PAGE, session, [], [], wanted), request)
        elif queued.wants_raise():
            request = queues.raise_hi(bucket, client_id, session.epoch, queued.window)
            freeing.add(_Asked(_RAISE, session, [], [], 0), request)

    def _collect_shared(self, session: Session, work: SharedWork, freeing: "_Builder") -> None:
        if not work.settled:
            return
        ids: dict[str, list[str]] = {}
        completed: dict[str, int] = {}
        for name, id in work.take_settled():
            if id == IN_QUEUE:
                completed[name] = completed.get(name, 0) + 1
                ids.setdefault(name, [])
            else:
                ids.setdefault(name, []).append(id)
        member = shares.member_name(session.client_id, session.epoch if session.queued is None else 0)
        for name, done in ids.items():
            request = shares.done(name, member, done, False, completed.get(name, 0), self._policy)
            freeing.add(_Asked(_SHARED, session, [], [], 0, name), request)

    def _collect_inbound(self, session: Session, freeing: "_Builder", writing: "_Builder") -> None:
        inbound = session.inbound
        if inbound.stored is None:
            return
        bucket = session.bucket
        client_id = session.client_id
        if inbound.storing:
            packet_ids = inbound.storing
            messages = inbound.storing_messages
            inbound.storing = []
            inbound.storing_messages = []
            pairs: list[object] = []
            for i in range(len(packet_ids)):
                if messages[i].token:
                    pairs.append(packet_ids[i])
                    pairs.append(messages[i].token)
            asked = _Asked(_RECEIVE, session, packet_ids, messages, len(packet_ids))
            if pairs:
                request = receive.receive(bucket, client_id, session.epoch, pairs, self._receive_limit)
                writing.add(asked, request)
            else:  # nothing but messages that are refused
                self._take_received(asked, [])
        packet_ids = inbound.take_routed() if inbound.routed else []
        if packet_ids:
            request = receive.routed(bucket, client_id, session.epoch, packet_ids)
            freeing.add(_Asked(_ROUTED, session, packet_ids, [], len(packet_ids)), request)
        if inbound.releasing:
            packet_ids = inbound.releasing
            inbound.releasing = []
            request = receive.release_received(bucket, client_id, session.epoch, packet_ids)
            freeing.add(_Asked(_RELEASE_RECEIVED, session, packet_ids, [], len(packet_ids)), request)
        if inbound.spent:
            spent = inbound.spent
            inbound.spent = []
            tokens: dict[int, list[bytes]] = {}
            for token_bucket, token in spent:
                tokens.setdefault(token_bucket, []).append(token)
            for token_bucket in tokens:
                request = receive.settle_tokens(token_bucket, tokens[token_bucket])
                freeing.add(_Asked(_SPENT, session, [], [], len(tokens[token_bucket])), request)

    def _take_reply_safely(self, asked: _Asked, reply: object) -> None:
        """A session whose keys in Redis are damaged loses its connection; it stalls nobody else."""
        if isinstance(reply, ItemError):
            self.failed.append((asked.session, str(reply)))
            return
        try:
            self._take_reply(asked, reply)
        # What a record of another shape leads to.
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            self.failed.append((asked.session, f"{type(error).__name__}: {error}"))

    def _take_reply(self, asked: _Asked, reply: object) -> None:
        session = asked.session
        queued = session.queued
        kind = asked.kind
        if kind == _SHARED:
            self.given += [(asked.name, given) for given in shares.parse_given(reply)]
            return
        if kind in (_ACK, _SPENT) or queued is None:
            return
        if kind == _PAGE:
            self._take_page(asked, queued, reply)
        elif kind == _RAISE:
            self._take_raise(session, queued, reply)
        elif kind == _RECEIVE:
            self._take_received(asked, reply)
        elif kind == _RELEASE_RECEIVED:
            if not isinstance(reply, list):
                self.stale.append(session)
                return
            for packet_id in asked.numbers:
                session.released(packet_id)
        elif not reply:
            self.stale.append(session)
        elif kind == _RELEASE:
            queued.stored_pubrecs(asked.numbers)
        elif kind == _COMPLETE:
            queued.stored_pubcomps(asked.numbers)

    def _take_raise(self, session: Session, queued: QueuedOutbound, reply: object) -> None:
        if not isinstance(reply, list):
            raise TypeError(f"raise_hi answered {reply!r}")
        status: int = reply[0]
        if status == 0:
            self.stale.append(session)
        else:
            hi: int = reply[1]
            queued.raised(hi, status == 1)

    def _take_page(self, asked: _Asked, queued: QueuedOutbound, reply: object) -> None:
        if not isinstance(reply, list):
            raise TypeError(f"page answered {reply!r}")
        if reply[0] == 0:
            self.stale.append(asked.session)
            return
        hi: int = reply[1]
        n: int = reply[2]
        flat: list[object] = reply[3]
        entries = [entry_delivery(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)]
        is_cut = bool(reply[4])
        count = len(entries) if is_cut else asked.size
        if queued.promises is not None and queued.owe_page(
            entries, lambda: self._send_page(asked.session, queued, hi, n, entries, count)
        ):
            return
        queued.take_page(hi, n, entries, count)

    def _send_page(
        self, session: Session, queued: QueuedOutbound, hi: int, n: int, entries: list[Delivery], count: int
    ) -> None:
        """It is confirmed. As with a reply, a damaged record harms nobody else."""
        try:
            queued.take_page(hi, n, entries, count)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            self.failed.append((session, f"{type(error).__name__}: {error}"))
            session.mark_changed()

    def _take_received(self, asked: _Asked, reply: object) -> None:
        session = asked.session
        if not isinstance(reply, list):
            self.stale.append(session)
            return
        position = 0
        for i in range(len(asked.numbers)):
            packet_id = asked.numbers[i]
            message = asked.messages[i]
            if not message.token:
                self._ingress.route_stored(session, packet_id, message)
                continue
            status = reply[position]
            position += 1
            if isinstance(status, list):  # a repeat of this very call: the token that was stored first counts
                token: bytes = status[0]
                message.token = token
                self._ingress.route_stored(session, packet_id, message)
            elif status == 0:
                self._ingress.route_stored(session, packet_id, message)
            else:
                session.inbound.refuse(packet_id)
                self.overrun.append(session)

    def _refuse_received(self, asked: _Asked) -> None:
        """Redis is full and has refused these messages; nothing was stored. Only MQTT 5 can tell the client;
        for others they are tried again."""
        session = asked.session
        if session.version == _MQTT_5:
            for i in range(len(asked.numbers)):
                message = asked.messages[i]
                if message.token:
                    session.published(asked.numbers[i], 2, _QUOTA_EXCEEDED, len(message.payload))
                else:
                    self._ingress.route_stored(session, asked.numbers[i], message)
            return
        session.inbound.storing = asked.numbers + session.inbound.storing
        session.inbound.storing_messages = asked.messages + session.inbound.storing_messages
        session.mark_changed()


class _Builder:
    """Requests of one function, split into calls of bounded size."""

    __slots__ = ("asked", "calls", "entries", "function")

    def __init__(self, function: str) -> None:
        self.function = function
        self.entries = 0  # in the last call
        self.calls: list[Call] = []
        self.asked: list[list[_Asked]] = []

    def add(self, asked: _Asked, request: list[object]) -> None:
        if (
            not self.calls
            or len(self.asked[-1]) >= _REQUESTS_PER_CALL
            or self.entries + asked.size > _ENTRIES_PER_CALL
        ):
            self.calls.append(Call(self.function))
            self.asked.append([])
            self.entries = 0
        self.entries += asked.size
        self.calls[-1].requests.append(request)
        self.asked[-1].append(asked)


def entry_delivery(gen: object, n: object, packed: object) -> Delivery:
    """A queue entry as a delivery. Raises what a damaged record leads to."""
    entry = unpack_entry(as_bytes(packed))
    if entry.qos not in (1, 2):
        raise ValueError(f"queue entry at QoS {entry.qos}")
    message = Message(
        entry.topic, entry.payload, entry.qos, entry.was_retained, entry.properties, entry.deadline_ms
    )
    return Delivery(message, entry.qos, entry.retain, entry.subscription_identifiers, as_int(gen), as_int(n))
