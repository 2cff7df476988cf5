"""The sending half of a session: what the server has sent to its client and not yet seen acknowledged.

Theory of operation. Two kinds of sessions share the window, the Packet Identifiers and the handshakes:

- A *direct* session (Session Expiry Interval 0) ends with its connection: `broker.session.direct`.
- A *queued* session is persistent, and its queue in Redis is the truth: `broker.session.queued`.

The window is the send quota of MQTT 5 section 4.9: one place per PUBLISH at QoS 1 or 2, free again at PUBACK,
at PUBCOMP, or at a PUBREC that refuses. Handshakes left from an earlier connection don't count.

A fan-out encodes a message once for all clients that take the same bytes. Those that have said a Topic Alias
Maximum don't: what they get is made for each of them.

A client with a mount point is sent what it sees of a message (`Message.below`). What it can't see ends here,
as if it had been sent and acknowledged; the dead letter has the whole topic.
"""

from abc import ABC, abstractmethod
from typing import Final

from broker.mqtt import PACKET_ID_BYTES, PUBREL, encode_ack
from broker.session.alias import TopicAliases
from broker.session.clock import Clock
from broker.session.delivery import NO_IDENTIFIERS, Delivery
from broker.session.drops import (
    DROPPED_EXPIRED,
    DROPPED_OUTSIDE_MOUNT_POINT,
    DROPPED_SLOW_CONSUMER,
    DROPPED_TOO_LARGE,
    Drops,
)
from broker.session.message import Message
from broker.session.outbox import Outbox
from broker.session.promise import Promises
from broker.session.shared import SharedDelivery, SharedWork
from broker.session.stored import StoredSession

# States of an entry in flight, in the two low bits beside its number.
_PROBED: Final = 0  # awaits PUBACK, and somebody wants to know when it comes
_AWAITS_PUBACK: Final = 1
_AWAITS_PUBREC: Final = 2
PUBREC_BEING_STORED: Final = 3

_TYPE_AND_QOS: Final = 0xF6  # of the first byte of a packet
_PUBLISH_AT_QOS_1: Final = 0x32

_REFUSED: Final = 0x80  # reason codes from here on are errors [MQTT 5: 2.4]
_PACKET_IDENTIFIER_NOT_FOUND: Final = 0x92


def packet_id_of(n: int) -> int:
    """The Packet Identifier of the queue entry with number `n`, the same on every node."""
    return (n - 1) % 65535 + 1


class Outbound(ABC):
    """Window, Packet Identifiers and handshakes, common to direct and queued sessions.

    `window` is the client's Receive Maximum or our own limit, whichever is smaller.
    `hearing`: for each SUBSCRIBE whose retained messages are still being sent, the topics of those that have
    come live meanwhile. `stored` says whose messages these are. `maximum_packet_size` is what the client
    accepts, 0 for anything, `topic_aliases` how many Topic Aliases we may set. `mount_point`: all that it can
    see is below, "" for everything.
    """

    __slots__ = (
        "aliases",
        "clock",
        "drops",
        "hearing",
        "inflight",
        "maximum_packet_size",
        "mount_point",
        "outbox",
        "promises",
        "quota",
        "released",
        "shared",
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
        topic_aliases: int,
        mount_point: str,
    ) -> None:
        self.aliases = TopicAliases(topic_aliases) if topic_aliases else None
        self.stored = stored
        self.drops = drops
        self.outbox = outbox
        self.clock = clock
        self.version = version
        self.window = window
        self.quota = window
        self.maximum_packet_size = maximum_packet_size
        self.mount_point = mount_point
        self.inflight: dict[int, int] = {}  # Packet Identifier -> n << 2 | state
        # Packet Identifier -> n, negative if it holds no place in the window, 0 if its end is being stored
        self.released: dict[int, int] = {}
        self.hearing: tuple[set[str], ...] = ()
        self.shared: SharedWork | None = None  # of a member of shared subscriptions
        self.promises: Promises | None = None  # of a queued one, if its PUBRELs may have to wait

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(quota={self.quota}/{self.window}, in flight={sorted(self.inflight)}, "
            f"released={sorted(self.released)})"
        )

    def listen(self) -> set[str]:
        """The topics of retained messages that come live from now on."""
        heard: set[str] = set()
        self.hearing = (*self.hearing, heard)
        return heard

    def stop_listening(self, heard: set[str]) -> None:
        """Ends what `listen` has begun."""
        self.hearing = tuple([each for each in self.hearing if each is not heard])

    def hear(self, topic: str) -> None:
        """A message that has become the retained one of this topic goes to the client."""
        for heard in self.hearing:
            heard.add(topic)

    # What comes in from the router

    def deliver_at_most_once(
        self, message: Message, retain: bool, subscription_identifiers: tuple[int, ...] = NO_IDENTIFIERS
    ) -> bool:
        """Sends a message at QoS 0, or drops it if the client reads too slowly or can't take a packet so
        large."""
        outbox = self.outbox
        if outbox.blocked and outbox.is_full():
            self._drop(message.topic, DROPPED_SLOW_CONSUMER, 0, message.properties)
            return False
        if self.mount_point:
            seen = self._seen(message, 0)
            if seen is None:
                return False
            message = seen
        aliases = self.aliases
        if aliases is not None:
            packet = self._aliased(aliases, message, 0, retain, False, subscription_identifiers, b"")
        elif subscription_identifiers or message.deadline_ms:
            head, tail = message.parts_for(
                self.version, 0, retain, False, subscription_identifiers, self.clock.now_ms
            )
            packet = head + tail
        else:
            packet = message.whole(self.version, retain)
        if self.maximum_packet_size and len(packet) > self.maximum_packet_size:  # [MQTT-3.1.2-24]
            self._drop(self.mount_point + message.topic, DROPPED_TOO_LARGE, 0, message.properties)
            return False
        self.drops.sent[0] += 1
        outbox.send(packet)
        return True

    def deliver_shared(self, shared: SharedDelivery) -> None:
        """Sends a message of a shared subscription now, or as soon as the window has room. A persistent
        session gets one at QoS 2 by its queue."""
        work = self.shared
        if work is None:
            work = self.shared = SharedWork()
        delivery = shared.delivery
        if delivery.qos == 0:
            self.deliver_at_most_once(delivery.message, delivery.retain, delivery.subscription_identifiers)
            work.settled.append((shared.name, shared.id))
            self.stored.mark_changed()
        elif self.quota <= 0 or self.outbox.blocked or work.waiting:
            work.waiting.append(shared)
        else:
            self._transmit_shared(work, shared)

    # What comes in from the client

    def puback(self, packet_id: int) -> bool:
        """The client has the QoS 1 message. False if it acknowledged something that was not in flight."""
        state = self.inflight.get(packet_id, 0)
        if state & 3 != _AWAITS_PUBACK:
            if state & 3 != _PROBED or not state:
                return False
            self.drops.end_probe(self.stored.client_id, packet_id, self.clock.now_ms)
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
                if self.promises is not None:
                    self.promises.end_out(state >> 2)
                self._settle(state >> 2)
            else:
                self._receive_pubrec(packet_id, state >> 2)
            return True
        if state & 3 == PUBREC_BEING_STORED:
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
        self.drops.completed_out += 1
        self._complete(packet_id, n)
        return True

    # For those who look

    def probe(self) -> bool:
        """Notes how long the client will take to acknowledge what it is sent with this tick, if the last of
        it is at QoS 1. An entry in flight of a state of its own tells `puback`, so others need not be
        asked."""
        parts = self.outbox.parts
        if not self.inflight or not parts or parts[-1][0] & _TYPE_AND_QOS != _PUBLISH_AT_QOS_1:
            return False
        packet_id = next(reversed(self.inflight))
        state = self.inflight[packet_id]
        if state & 3 != _AWAITS_PUBACK:  # a client may acknowledge what has not left
            return False
        self.inflight[packet_id] = state & ~3 | _PROBED
        self.drops.begin_probe(self.stored.client_id, packet_id, self.clock.now_ms)
        return True

    def exchanges(self) -> list[tuple[int, int, int]]:
        """QoS 2 exchanges that are open: phase (as in PHASES of `broker.observability.sounding`), Packet
        Identifier, number. In each phase the oldest comes first."""
        found: list[tuple[int, int, int]] = []
        for packet_id, state in self.inflight.items():
            if state & 3 >= _AWAITS_PUBREC:
                found.append(((state & 3) - _AWAITS_PUBREC, packet_id, abs(state >> 2)))
        for packet_id, n in self.released.items():
            if n:  # else its end is being stored
                found.append((2, packet_id, abs(n)))
        return found

    def has_exchange(self, packet_id: int, n: int) -> bool:
        """Whether one of these is still open."""
        state = self.inflight.get(packet_id, 0)
        if state & 3 >= _AWAITS_PUBREC:
            return abs(state >> 2) == n
        return abs(self.released.get(packet_id, 0)) == n

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

    @abstractmethod
    def _shared_number(self, work: SharedWork) -> int:
        """The number of the next delivery of a shared subscription; its Packet Identifier is free."""

    # Common steps

    def _settle_shared(self, n: int) -> bool:
        """The exchange has ended, and there is a place for another. False if it was of no group."""
        work = self.shared
        if work is None:
            return False
        is_shared = work.settle(n)
        if is_shared:
            self.stored.mark_changed()
        self._resume_shared()
        return is_shared

    def _resume_shared(self) -> None:
        work = self.shared
        if work is not None:
            while work.waiting and self.quota > 0 and not self.outbox.blocked:
                self._transmit_shared(work, work.waiting.popleft())

    def _transmit_shared(self, work: SharedWork, shared: SharedDelivery) -> None:
        message = shared.delivery.message
        n = self._shared_number(work)
        work.places[n] = (shared.name, shared.id)
        if message.is_expired(self.clock.now_ms):  # [MQTT-3.3.2-5]
            self._drop(message.topic, DROPPED_EXPIRED, shared.delivery.qos, message.properties)
        elif self._transmit(shared.delivery, n, False):
            return
        work.settle(n)
        self.stored.mark_changed()

    def _seen(self, message: Message, qos: int) -> Message | None:
        """The message as the client sees it; None if it can't, and then that is noted."""
        seen = message.below(self.mount_point)
        if seen is None:
            self._drop(message.topic, DROPPED_OUTSIDE_MOUNT_POINT, qos, message.properties)
        return seen

    def _drop(self, topic: str, reason: str, qos: int, properties: bytes) -> None:
        self.drops.add(self.stored.bucket, self.stored.client_id, topic, reason, qos, properties)

    def _is_in_use(self, packet_id: int) -> bool:
        return packet_id in self.inflight or packet_id in self.released  # [MQTT-2.2.1-4]

    def _transmit(self, delivery: Delivery, n: int, dup: bool) -> bool:
        """Sends a PUBLISH at QoS 1 or 2 and takes a place in the window. False if the client can't take
        it."""
        packet_id = (n - 1) % 65535 + 1
        message = delivery.message
        qos = delivery.qos
        if self.mount_point:
            seen = self._seen(message, qos)
            if seen is None:
                return False
            message = seen
        aliases = self.aliases
        if aliases is not None:
            packet = self._aliased(
                aliases,
                message,
                qos,
                delivery.retain,
                dup,
                delivery.subscription_identifiers,
                PACKET_ID_BYTES[packet_id],
            )
        elif dup or delivery.subscription_identifiers or message.deadline_ms:
            head, tail = message.parts_for(
                self.version, qos, delivery.retain, dup, delivery.subscription_identifiers, self.clock.now_ms
            )
            packet = head + PACKET_ID_BYTES[packet_id] + tail
        else:
            head, tail = message.parts(self.version, qos, delivery.retain)
            packet = head + PACKET_ID_BYTES[packet_id] + tail
        if self.maximum_packet_size and len(packet) > self.maximum_packet_size:  # [MQTT-3.1.2-24]
            self._drop(self.mount_point + message.topic, DROPPED_TOO_LARGE, qos, message.properties)
            return False
        if qos == 1:
            self.inflight[packet_id] = n << 2 | _AWAITS_PUBACK
        else:
            self.inflight[packet_id] = n << 2 | _AWAITS_PUBREC
            if self.promises is not None:
                self.promises.begin_out(n, delivery.message.topic)
        self.quota -= 1
        self.drops.sent[qos] += 1
        self.outbox.send(packet)
        return True

    def _aliased(
        self,
        aliases: TopicAliases,
        message: Message,
        qos: int,
        retain: bool,
        dup: bool,
        subscription_identifiers: tuple[int, ...],
        packet_id: bytes,
    ) -> bytes:
        """A PUBLISH for a client that takes Topic Aliases. The caller may drop it only because of its
        size: an alias is set here if the packet fits."""
        now_ms = self.clock.now_ms
        topic = message.topic
        alias = aliases.find(topic)
        if alias:
            head, tail = message.aliased_parts("", alias, qos, retain, dup, subscription_identifiers, now_ms)
            return head + packet_id + tail
        alias = aliases.offer(topic)
        if alias:
            head, tail = message.aliased_parts(
                topic, alias, qos, retain, dup, subscription_identifiers, now_ms
            )
            packet = head + packet_id + tail
            if not self.maximum_packet_size or len(packet) <= self.maximum_packet_size:
                aliases.set(topic, alias)
                return packet
        head, tail = message.parts_for(self.version, qos, retain, dup, subscription_identifiers, now_ms)
        return head + packet_id + tail

    def _release(self, packet_id: int, n: int) -> None:
        """Moves an exchange to its PUBREL phase, where it keeps its place in the window."""
        del self.inflight[packet_id]
        self.released[packet_id] = n
        self._send_pubrel(packet_id, 0)

    def _send_pubrel(self, packet_id: int, reason_code: int) -> None:
        self.outbox.send(encode_ack(PUBREL, packet_id, reason_code, self.version))
