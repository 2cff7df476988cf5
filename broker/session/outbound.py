"""The sending half of a session: what the server has sent to its client and not yet seen acknowledged.

Theory of operation. Two kinds of sessions share the window, the Packet Identifiers and the handshakes:

- A *direct* session (Session Expiry Interval 0) ends with its connection. What doesn't fit into its window
  waits in memory, bounded.
- A *queued* session is persistent. Its queue in Redis is the truth: entry `(gen, n)` is sent with the Packet
    Identifier that follows from `n`, so that any node that takes the session up gives the same one. Messages
    handed over in memory are only a short cut: `take` uses one if it is exactly the next entry; otherwise the
    session is *behind* and reads the queue in pages. Nothing beyond `hi` is ever sent, because `hi` is what
    tells the next owner how far DUP goes.

The window is the send quota of MQTT 5 section 4.9: one place per PUBLISH at QoS 1 or 2, free again at PUBACK,
at PUBCOMP, or at a PUBREC that refuses. Handshakes left from an earlier connection don't count.

Nothing here performs I/O. What must be stored collects in lists (`acked`, `releasing`, `completed`) which the
router turns into requests; a packet that may leave only after such a write is sent by the method that is
called with its answer.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Final

from broker.mqtt import PUBREL, encode_ack
from broker.session.clock import Clock
from broker.session.drops import (
    DROPPED_EXPIRED,
    DROPPED_QUEUE_FULL,
    DROPPED_SLOW_CONSUMER,
    DROPPED_TOO_LARGE,
    Drops,
)
from broker.session.message import Message
from broker.session.outbox import Outbox
from broker.session.stored import StoredSession

# States of an entry in flight, in the two low bits beside its number.
_AWAITS_PUBACK: Final = 1
_AWAITS_PUBREC: Final = 2
_PUBREC_BEING_STORED: Final = 3

_REFUSED: Final = 0x80  # reason codes from here on are errors [MQTT 5: 2.4]
_PACKET_IDENTIFIER_NOT_FOUND: Final = 0x92

_NO_IDENTIFIERS: Final[tuple[int, ...]] = ()


def packet_id_of(n: int) -> int:
    """The Packet Identifier of the queue entry with number `n`, the same on every node."""
    return (n - 1) % 65535 + 1


class Delivery:
    """A message on its way to one subscriber, with what that subscriber's own subscriptions make of it.

    `gen` and `n` place it in the subscriber's queue (0 while it has no place there).
    """

    __slots__ = ("gen", "message", "n", "qos", "retain", "subscription_identifiers")

    def __init__(
        self,
        message: Message,
        qos: int,
        retain: bool,
        subscription_identifiers: tuple[int, ...] = _NO_IDENTIFIERS,
        gen: int = 0,
        n: int = 0,
    ) -> None:
        self.message = message
        self.qos = qos
        self.retain = retain
        self.subscription_identifiers = subscription_identifiers
        self.gen = gen
        self.n = n

    def __repr__(self) -> str:
        return f"Delivery({self.gen}-{self.n}, {self.message!r}, qos={self.qos}, retain={self.retain})"


class Outbound(ABC):
    """Window, Packet Identifiers and handshakes, common to direct and queued sessions.

    `window` is the client's Receive Maximum or our own limit, whichever is smaller.
    `stored` says whose messages these are. `maximum_packet_size` is what the client accepts, 0 for anything.
    """

    __slots__ = (
        "clock",
        "drops",
        "inflight",
        "maximum_packet_size",
        "outbox",
        "quota",
        "released",
        "stored",
        "version",
        "window",
    )

    def __init__(
        self,
        stored: StoredSession,
        drops: Drops,
        outbox: Outbox,
        clock: Clock,
        version: int,
        window: int,
        maximum_packet_size: int,
    ) -> None:
        self.stored = stored
        self.drops = drops
        self.outbox = outbox
        self.clock = clock
        self.version = version
        self.window = window
        self.quota = window
        self.maximum_packet_size = maximum_packet_size
        self.inflight: dict[int, int] = {}  # Packet Identifier -> n << 2 | state
        # Packet Identifier -> n, negative if it holds no place in the window, 0 if its end is being stored
        self.released: dict[int, int] = {}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(quota={self.quota}/{self.window}, in flight={sorted(self.inflight)}, "
            f"released={sorted(self.released)})"
        )

    # What comes in from the router

    def deliver_at_most_once(
        self, message: Message, retain: bool, subscription_identifiers: tuple[int, ...] = _NO_IDENTIFIERS
    ) -> bool:
        """Sends a message at QoS 0, or drops it if the client reads too slowly or can't take a packet so
        large."""
        outbox = self.outbox
        if outbox.blocked and outbox.is_full():
            self._drop(message.topic, DROPPED_SLOW_CONSUMER)
            return False
        if subscription_identifiers or message.deadline_ms:
            head, tail = message.parts_for(
                self.version, 0, retain, False, subscription_identifiers, self.clock.now_ms
            )
            packet = head + tail
        else:
            packet = message.whole(self.version, retain)
        if self.maximum_packet_size and len(packet) > self.maximum_packet_size:  # [MQTT-3.1.2-24]
            self._drop(message.topic, DROPPED_TOO_LARGE)
            return False
        self.drops.sent[0] += 1
        outbox.send(packet)
        return True

    # What comes in from the client

    def puback(self, packet_id: int) -> bool:
        """The client has the QoS 1 message. False if it acknowledged something that was not in flight."""
        state = self.inflight.get(packet_id, 0)
        if state & 3 != _AWAITS_PUBACK:
            return False
        del self.inflight[packet_id]
        self._settle(state >> 2)
        return True

    def pubrec(self, packet_id: int, reason_code: int) -> bool:
        """The client has received the QoS 2 message, or refuses it. False if no such message was in
        flight."""
        state = self.inflight.get(packet_id, 0)
        if state & 3 == _AWAITS_PUBREC:
            if reason_code >= _REFUSED:  # [MQTT-4.3.3-4] does not apply: the exchange ends here
                del self.inflight[packet_id]
                self._settle(state >> 2)
            else:
                self._receive_pubrec(packet_id, state >> 2)
            return True
        if state & 3 == _PUBREC_BEING_STORED:
            return True  # a repeated PUBREC; PUBREL leaves when the first one is stored
        if reason_code >= _REFUSED:
            return packet_id in self.released
        known = packet_id in self.released
        self._send_pubrel(packet_id, 0 if known else _PACKET_IDENTIFIER_NOT_FOUND)
        return known

    def pubcomp(self, packet_id: int) -> bool:
        """The QoS 2 exchange is complete. False if it was not in its last phase."""
        n = self.released.get(packet_id, 0)
        if n == 0:
            return False
        self._complete(packet_id, n)
        return True

    # What the two kinds do differently

    @abstractmethod
    def resume_sending(self) -> None:
        """The client reads again, or a place in the window is free: sends what has been waiting."""

    @abstractmethod
    def _settle(self, n: int) -> None:
        """The exchange ended with PUBACK, or a PUBREC that refuses."""

    @abstractmethod
    def _receive_pubrec(self, packet_id: int, n: int) -> None:
        """The client has taken the QoS 2 message."""

    @abstractmethod
    def _complete(self, packet_id: int, n: int) -> None:
        """The exchange ended with PUBCOMP; `n` is negative if it held no place in the window."""

    # Common steps

    def _drop(self, topic: str, reason: str) -> None:
        self.drops.add(self.stored.bucket, self.stored.client_id, topic, reason)

    def _is_in_use(self, packet_id: int) -> bool:
        return packet_id in self.inflight or packet_id in self.released  # [MQTT-2.2.1-4]

    def _transmit(self, delivery: Delivery, n: int, dup: bool) -> bool:
        """Sends a PUBLISH at QoS 1 or 2 and takes a place in the window. False if the client can't take
        it."""
        packet_id = (n - 1) % 65535 + 1
        message = delivery.message
        qos = delivery.qos
        if dup or delivery.subscription_identifiers or message.deadline_ms:
            head, tail = message.parts_for(
                self.version, qos, delivery.retain, dup, delivery.subscription_identifiers, self.clock.now_ms
            )
        else:
            head, tail = message.parts(self.version, qos, delivery.retain)
        packet = head + packet_id.to_bytes(2, "big") + tail
        if self.maximum_packet_size and len(packet) > self.maximum_packet_size:  # [MQTT-3.1.2-24]
            self._drop(message.topic, DROPPED_TOO_LARGE)
            return False
        self.inflight[packet_id] = n << 2 | (_AWAITS_PUBACK if qos == 1 else _AWAITS_PUBREC)
        self.quota -= 1
        self.drops.sent[qos] += 1
        self.outbox.send(packet)
        return True

    def _release(self, packet_id: int, n: int) -> None:
        """Moves an exchange to its PUBREL phase, where it keeps its place in the window."""
        del self.inflight[packet_id]
        self.released[packet_id] = n
        self._send_pubrel(packet_id, 0)

    def _send_pubrel(self, packet_id: int, reason_code: int) -> None:
        self.outbox.send(encode_ack(PUBREL, packet_id, reason_code, self.version))


class DirectOutbound(Outbound):
    """The sending half of a session which ends with its connection; what waits, waits in memory."""

    __slots__ = ("backlog", "backlog_limit", "drop_oldest", "n")

    def __init__(
        self,
        stored: StoredSession,
        drops: Drops,
        outbox: Outbox,
        clock: Clock,
        version: int,
        window: int,
        maximum_packet_size: int,
        backlog_limit: int,
        drop_oldest: bool,
    ) -> None:
        super().__init__(stored, drops, outbox, clock, version, window, maximum_packet_size)
        self.backlog: deque[Delivery] = deque()
        self.backlog_limit = backlog_limit
        self.drop_oldest = drop_oldest
        self.n = 0

    def deliver(
        self,
        message: Message,
        qos: int,
        retain: bool,
        subscription_identifiers: tuple[int, ...] = _NO_IDENTIFIERS,
    ) -> None:
        """Sends a message at QoS 1 or 2 now, or as soon as the window has room."""
        delivery = Delivery(message, qos, retain, subscription_identifiers)
        if self.quota > 0 and not self.outbox.blocked and not self.backlog:
            self._transmit_next(delivery)
            return
        if len(self.backlog) >= self.backlog_limit:
            dropped = delivery
            if self.drop_oldest:
                dropped = self.backlog.popleft()
                self.backlog.append(delivery)
            self._drop(dropped.message.topic, DROPPED_QUEUE_FULL)
            return
        self.backlog.append(delivery)

    def resume_sending(self) -> None:
        while self.backlog and self.quota > 0 and not self.outbox.blocked:
            delivery = self.backlog.popleft()
            if delivery.message.is_expired(self.clock.now_ms):  # [MQTT-3.3.2-5]
                self._drop(delivery.message.topic, DROPPED_EXPIRED)
            else:
                self._transmit_next(delivery)

    def _transmit_next(self, delivery: Delivery) -> None:
        self.n += 1
        while self._is_in_use(packet_id_of(self.n)):
            self.n += 1
        self._transmit(delivery, self.n, False)

    def _settle(self, n: int) -> None:
        self.quota += 1
        if self.backlog:
            self.resume_sending()

    def _receive_pubrec(self, packet_id: int, n: int) -> None:
        self._release(packet_id, n)

    def _complete(self, packet_id: int, n: int) -> None:
        del self.released[packet_id]
        self._settle(n)


class QueuedOutbound(Outbound):
    """The sending half of a persistent session; its queue is in Redis.

    The session is told (`stored.mark_changed`) when there is something to write or to read.
    """

    __slots__ = (
        "acked",
        "behind",
        "completed",
        "gen",
        "gens",
        "hi",
        "last_known",
        "last_sent",
        "next_n",
        "page_wanted",
        "raise_wanted",
        "releasing",
        "sent_before",
        "waits_for_packet_id",
    )

    def __init__(
        self,
        stored: StoredSession,
        drops: Drops,
        outbox: Outbox,
        clock: Clock,
        version: int,
        window: int,
        maximum_packet_size: int,
        gen: int,
        n: int,
        sent: int,
        hi: int,
        released: Sequence[int],
        has_queue: bool,
    ) -> None:
        """`gen`, `n` (last queued), `sent`, `hi` and `released` are the answer of the claim.

        `has_queue` is False for a session that is new: it need not look for older entries.
        """
        super().__init__(stored, drops, outbox, clock, version, window, maximum_packet_size)
        self.gen = gen
        self.gens: dict[int, int] = {}  # n -> gen of entries of another generation than `gen`
        self.next_n = 1 if has_queue else n + 1
        self.hi = hi
        self.last_known = n
        self.sent_before = sent
        self.last_sent = sent
        self.behind = has_queue
        self.page_wanted = True
        self.raise_wanted = True
        self.waits_for_packet_id = 0
        self.acked: list[int] = []
        self.releasing: list[int] = []
        self.completed: list[int] = []
        for released_n in released:
            self.released[packet_id_of(released_n)] = -released_n
        if has_queue:
            self.stored.mark_changed()

    def resend_pubrels(self) -> None:
        """On resume, PUBREL goes out for each exchange that had reached that phase, in order
        [MQTT-4.4.0-1]."""
        for packet_id in self.released:
            self._send_pubrel(packet_id, 0)

    def take(self, delivery: Delivery) -> None:
        """A message handed over in memory. Sent if it is the next entry and has room; else read from the
        queue later."""
        n = delivery.n
        if self.behind or n < self.next_n:
            self.last_known = max(self.last_known, n)
            return
        packet_id = (n - 1) % 65535 + 1
        if (
            n != self.next_n
            or n > self.hi
            or self.quota <= 0
            or self.outbox.blocked
            or packet_id in self.inflight
            or packet_id in self.released
        ):
            self.behind = True
            self.stored.mark_changed()
            return
        self._send_entry(delivery, False)
        if self.raise_wanted and self.hi - n <= self.window >> 1:
            self.stored.mark_changed()

    def wanted_page(self) -> int:
        """How many entries after `next_n - 1` to read from the queue now, 0 for none.

        Pages are not read for every place that becomes free, but for a quarter of the window at a time.
        """
        if not (self.behind and self.page_wanted) or self.outbox.blocked or self.outbox.closed:
            return 0
        if self.waits_for_packet_id and self._is_in_use(self.waits_for_packet_id):
            return 0
        if self.quota < max(1, self.window >> 2):
            return 0
        self.page_wanted = False
        return self.quota

    def take_page(self, hi: int, n: int, entries: Sequence[Delivery], asked: int) -> None:
        """The answer to `wanted_page`: entries in order; `n` is the last number given in this queue.

        Nothing behind an expired entry is sent before that one is deleted, and the page read again: else a
        kill would bring it back on the next connection, behind what came after it.
        """
        self.page_wanted = True
        self.hi = hi
        self.waits_for_packet_id = 0
        has_expired = False
        for entry in entries:
            if entry.n < self.next_n:
                continue
            if entry.n > self.sent_before and entry.message.is_expired(self.clock.now_ms):  # [MQTT-3.3.2-5]
                self._drop(entry.message.topic, DROPPED_EXPIRED)
                self._acknowledge(entry.gen, entry.n)
                has_expired = True
                continue
            if has_expired:
                continue
            if self.quota <= 0 or self.outbox.blocked:
                return
            packet_id = packet_id_of(entry.n)
            if self._is_in_use(packet_id):  # its PUBREL handshake is older than this entry: the entry waits
                self.waits_for_packet_id = packet_id
                return
            self._send_entry(entry, entry.n <= self.sent_before)  # [MQTT-3.3.1-1]
        # The store may have answered before the last entry that was handed over meanwhile.
        if len(entries) < asked and n >= self.last_known and not has_expired:
            self.behind = False
            self.next_n = max(self.next_n, n + 1)
        self.stored.mark_changed()

    def wants_raise(self) -> bool:
        """Whether `hi` must be raised now, so that the next entries don't have to wait for it."""
        if self.behind or not self.raise_wanted or self.hi - self.next_n >= self.window >> 1:
            return False
        self.raise_wanted = False
        return True

    def raised(self, hi: int, is_caught_up: bool) -> None:
        """The answer to `wants_raise`. Not caught up: the queue holds entries beyond `hi`, which a page must
        fetch."""
        self.raise_wanted = True
        self.hi = hi
        if not is_caught_up:
            self.behind = True
            self.stored.mark_changed()

    def take_acknowledged(self) -> list[int]:
        """Entries that may be deleted from the queue, as gen, n, gen, n, ..."""
        acked = self.acked
        self.acked = []
        return acked

    def take_releasing(self) -> list[int]:
        """Entries whose PUBREC must be stored before their PUBREL may leave, as gen, n, gen, n, ..."""
        releasing = self.releasing
        self.releasing = []
        return releasing

    def take_completed(self) -> list[int]:
        """Numbers of entries whose PUBCOMP has come."""
        completed = self.completed
        self.completed = []
        return completed

    def stored_pubrecs(self, releasing: Sequence[int]) -> None:
        """What `take_releasing` gave is stored: sends each PUBREL."""
        for i in range(1, len(releasing), 2):
            n = releasing[i]
            self._release(packet_id_of(n), n)

    def stored_pubcomps(self, completed: Sequence[int]) -> None:
        """What `take_completed` gave is stored: only now may the Packet Identifiers be used again.

        Sooner, a kill would let the next connection begin with a PUBREL for the old exchange, and the client
        forget the new message under that identifier: it would take it twice.
        """
        for n in completed:
            del self.released[packet_id_of(n)]
        if self.behind:
            self.stored.mark_changed()

    def resume_sending(self) -> None:
        if self.behind:
            self.stored.mark_changed()

    def _send_entry(self, entry: Delivery, dup: bool) -> None:
        n = entry.n
        self.next_n = n + 1
        if entry.gen != self.gen:
            self.gens[n] = entry.gen
        if self._transmit(entry, n, dup):
            self.last_sent = max(self.last_sent, n)
        else:
            self._acknowledge(entry.gen, n)

    def _acknowledge(self, gen: int, n: int) -> None:
        self.gens.pop(n, None)
        self.acked.append(gen)
        self.acked.append(n)
        self.stored.mark_changed()

    def _settle(self, n: int) -> None:
        self.quota += 1
        self.acked.append(self.gens.pop(n, self.gen) if self.gens else self.gen)
        self.acked.append(n)
        if not self.stored.is_listed:
            self.stored.mark_changed()

    def _receive_pubrec(self, packet_id: int, n: int) -> None:
        self.inflight[packet_id] = n << 2 | _PUBREC_BEING_STORED
        self.releasing.append(self.gens.pop(n, self.gen))
        self.releasing.append(n)
        self.stored.mark_changed()

    def _complete(self, packet_id: int, n: int) -> None:
        if n > 0:
            self.quota += 1
        self.released[packet_id] = 0
        self.completed.append(abs(n))
        self.stored.mark_changed()
