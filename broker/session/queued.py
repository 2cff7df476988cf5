"""The sending half of a persistent session.

Theory of operation. Its queue in Redis is the truth: entry `(gen, n)` is sent with the Packet Identifier that
follows from `n`, so that any node that takes the session up gives the same one. Messages handed over in
memory are only a short cut: `take` uses one if it is exactly the next entry; otherwise the session is
*behind* and reads the queue in pages. Nothing beyond `hi` is ever sent, because `hi` is what tells the next
owner how far DUP goes.

Where not all is `STORED`, a page that holds messages at QoS 2 may have to wait until it is confirmed: what
another primary lacks is routed again, and a client that has it already would get it twice. `hold` has such
messages read that would be handed over.

Nothing here performs I/O. What must be stored collects in lists (`acked`, `releasing`, `completed`) which the
router turns into requests; a packet that may leave only after such a write is sent by the method that is
called with its answer.
"""

from collections.abc import Callable, Sequence

from broker.mqtt import PUBREL, encode_ack
from broker.session.clock import Clock
from broker.session.delivery import Delivery
from broker.session.drops import DROPPED_EXPIRED, Drops
from broker.session.level import STORED, stronger
from broker.session.outbound import PUBREC_BEING_STORED, Outbound, packet_id_of
from broker.session.outbox import Outbox
from broker.session.promise import ActionPromise, PacketPromise, Promise, Promises
from broker.session.shared import IN_QUEUE, SharedWork
from broker.session.stored import StoredSession


class QueuedOutbound(Outbound):
    """The sending half of a persistent session; its queue is in Redis.

    The session is told (`stored.mark_changed`) when there is something to write or to read.
    """

    __slots__ = (
        "acked",
        "behind",
        "completed",
        "first_gen",
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
        topic_aliases: int = 0,
        mount_point: str = "",
    ) -> None:
        """`gen`, `n` (last queued), `sent`, `hi` and `released` are the answer of the claim.

        `has_queue` is False for a session that is new: it need not look for older entries.
        """
        super().__init__(
            stored, drops, outbox, clock, version, window, maximum_packet_size, topic_aliases, mount_point
        )
        self.gen = gen
        # Entries of older generations are of an earlier session with this name.
        self.first_gen = 0 if has_queue else gen
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
        [MQTT-4.4.0-1]. By which level their PUBREC was to be stored nobody knows any more."""
        promises = self.promises
        for packet_id in self.released:
            data = encode_ack(PUBREL, packet_id, 0, self.version)
            if promises is None:
                self.outbox.send(data)
            else:
                confirmation = promises.confirmations.at(promises.confirmations.strongest)
                promises.owe_pubrel(PacketPromise(confirmation, self.outbox, data))

    def take(self, delivery: Delivery) -> None:
        """A message handed over in memory, by this node or another. Sent if it is the next entry and has
        room; else read from the queue later."""
        n = delivery.n
        if self.behind or n < self.next_n:
            self.last_known = max(self.last_known, n)
            return
        packet_id = (n - 1) % 65535 + 1
        if (
            n != self.next_n
            or delivery.gen != self.gen
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

    def hold(self, topic: str) -> None:
        """A message at QoS 2 is about to be handed over to a session that has promises: it is read from the
        queue if it has to be confirmed."""
        promises = self.promises
        if promises is not None and not self.behind and promises.level_of(topic) != STORED:
            self.behind = True
            self.stored.mark_changed()

    def has_unsent(self) -> bool:
        """Whether the queue holds entries, as far as is known, that were not sent yet."""
        return self.last_known >= self.next_n

    def look(self, n: int) -> None:
        """The last number given in this queue is `n`, as far as the store knows: reads what was not handed
        over."""
        if n >= self.next_n:
            self.last_known = max(self.last_known, n)
            if not self.behind:
                self.behind = True
                self.stored.mark_changed()

    def wanted_page(self) -> int:
        """How many entries after `next_n - 1` to read from the queue now, 0 for none.

        One page is asked for at a time, so the places that become free meanwhile share the next one.
        """
        if not (self.behind and self.page_wanted) or self.outbox.blocked or self.outbox.closed:
            return 0
        if self.waits_for_packet_id and self._is_in_use(self.waits_for_packet_id):
            return 0
        if self.quota <= 0:
            return 0
        self.page_wanted = False
        return self.quota

    def owe_page(self, entries: Sequence[Delivery], send: Callable[[], None]) -> bool:
        """Whether these, which were read, have to be confirmed before `take_page` gets them; then `send` is
        called. What another primary may lack is read again."""
        promises = self.promises
        level = STORED
        if promises is not None:
            for entry in entries:
                if entry.qos == 2:
                    level = stronger(level, promises.level_of(entry.message.topic))
        if promises is None or level == STORED:
            return False
        promises.owe_page(ActionPromise(promises.confirmation(level), send, self._want_page_again))
        return True

    def take_page(self, hi: int, n: int, entries: Sequence[Delivery], asked: int) -> None:
        """The answer to `wanted_page`: entries in order; `n` is the last number given in this queue.

        Nothing behind an expired entry is sent before that one is deleted, and the page read again: else a
        kill would bring it back on the next connection, behind what came after it.
        """
        self.page_wanted = True
        self.hi = hi
        self.waits_for_packet_id = 0
        if entries and entries[-1].gen > self.gen:
            self._change_gen(entries[-1].gen)
        has_expired = False
        for entry in entries:
            if entry.n < self.next_n:
                continue
            if entry.n > self.sent_before and entry.message.is_expired(self.clock.now_ms):  # [MQTT-3.3.2-5]
                self._drop(entry.message.topic, DROPPED_EXPIRED, entry.qos, entry.message.properties)
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
        """What `take_releasing` gave is stored: sends each PUBREL, now or when that is confirmed."""
        promises = self.promises
        for i in range(1, len(releasing), 2):
            n = releasing[i]
            if promises is not None:
                level = promises.end_out(n)
                if promises.must_hold_pubrel(level):
                    promises.owe_pubrel(_PubrelPromise(promises, level, self, releasing[i - 1], n))
                    continue
            self.release(n)

    def release(self, n: int) -> None:
        """PUBREC is stored as it had to be: sends PUBREL."""
        self._release(packet_id_of(n), n)

    def store_pubrec_again(self, gen: int, n: int) -> None:
        """The store may not have it any more."""
        self.releasing.append(gen)
        self.releasing.append(n)
        self.stored.mark_changed()

    def stored_pubcomps(self, completed: Sequence[int]) -> None:
        """What `take_completed` gave is stored: only now may the Packet Identifiers be used again.

        Sooner, a kill would let the next connection begin with a PUBREL for the old exchange, and the client
        forget the new message under that identifier: it would take it twice.
        """
        for n in completed:
            del self.released[packet_id_of(n)]
        if self.behind:
            self.stored.mark_changed()

    def queued_shared(self, name: str, n: int, id: str) -> None:
        """Entry `n` is a QoS 2 message of a shared subscription, where it was `id`: the group hears when its
        exchange has ended."""
        work = self.shared
        if work is None:
            work = self.shared = SharedWork()
        work.places[n] = (name, IN_QUEUE)
        work.origins[n] = id

    def resume_sending(self) -> None:
        self._resume_shared()
        if self.behind:
            self.stored.mark_changed()

    # After another primary has come, which may lack the newest writes

    def in_flight(self) -> list[int]:
        """Entries of the queue that the client has not settled, as gen, n, gen, n, ..."""
        found: list[int] = []
        for state in self.inflight.values():
            n = state >> 2
            if n > 0:
                found.append(self.gens.get(n, self.gen))
                found.append(n)
        return found

    def numbers_released(self) -> list[int]:
        """Exchanges in their PUBREL phase, but for those whose end is being stored."""
        return [abs(n) for n in self.released.values() if n]

    def numbers_releasing(self) -> list[int]:
        """Exchanges whose PUBREC is being stored."""
        return [state >> 2 for state in self.inflight.values() if state & 3 == PUBREC_BEING_STORED]

    def reclaimed(self, gen: int, n: int) -> None:
        """The store knows again what is known here. From now on entries follow `(gen, n)`; what is in the
        queue before that and was not sent is read."""
        self._change_gen(gen)
        self.last_known = max(self.last_known, n)
        self.behind = True
        self.stored.mark_changed()

    def _want_page_again(self) -> None:
        self.page_wanted = True
        self.stored.mark_changed()

    def _change_gen(self, gen: int) -> None:
        """Entries in flight stay what they are."""
        for state in self.inflight.values():
            n = state >> 2
            if n > 0 and state & 3 != PUBREC_BEING_STORED and n not in self.gens:
                self.gens[n] = self.gen
        self.gen = gen

    def _send_entry(self, entry: Delivery, dup: bool) -> None:
        n = entry.n
        self.next_n = n + 1
        if entry.gen != self.gen:
            self.gens[n] = entry.gen
        if self.hearing and entry.message.retain:
            self.hear(entry.message.topic)
        if self._transmit(entry, n, dup):
            self.last_sent = max(self.last_sent, n)
        else:
            self._acknowledge(entry.gen, n)

    def _acknowledge(self, gen: int, n: int) -> None:
        self.gens.pop(n, None)
        self.acked.append(gen)
        self.acked.append(n)
        self.stored.mark_changed()

    def _shared_number(self, work: SharedWork) -> int:
        # Negative: not of the queue. Identifiers from the upper end on; its own begin at the lower one.
        work.number -= 1
        while self._is_in_use(packet_id_of(work.number)):
            work.number -= 1
        return work.number

    def _settle(self, n: int) -> None:
        self.quota += 1
        self._settle_shared(n)
        if n < 0:
            if self.behind:
                self.stored.mark_changed()
            return
        self.acked.append(self.gens.pop(n, self.gen) if self.gens else self.gen)
        self.acked.append(n)
        if self.behind:
            self.stored.mark_changed()
        elif not self.stored.is_listed:
            self.stored.mark_settled()

    def _receive_pubrec(self, packet_id: int, n: int) -> None:
        self.inflight[packet_id] = n << 2 | PUBREC_BEING_STORED
        self.releasing.append(self.gens.pop(n, self.gen))
        self.releasing.append(n)
        self.stored.mark_changed()

    def _complete(self, packet_id: int, n: int) -> None:
        if n > 0:
            self.quota += 1
            self._settle_shared(n)
        self.released[packet_id] = 0
        self.completed.append(abs(n))
        if self.behind:
            self.stored.mark_changed()
        else:
            self.stored.mark_settled()


class _PubrelPromise(Promise):
    """On another primary the message may be in the queue again: its PUBREC is stored once more."""

    __slots__ = ("_gen", "_level", "_n", "_promises", "_queued")

    def __init__(self, promises: Promises, level: int, queued: QueuedOutbound, gen: int, n: int) -> None:
        super().__init__(promises.confirmation(level))
        self._promises = promises
        self._level = level
        self._queued = queued
        self._gen = gen
        self._n = n

    def keep(self) -> None:
        self._queued.release(self._n)

    def again(self) -> bool:
        self._promises.keep_out(self._n, self._level)
        self._queued.store_pubrec_again(self._gen, self._n)
        return True
