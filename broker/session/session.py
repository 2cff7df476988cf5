"""One client's session while it is connected here: both halves, and what the client may have open towards us.

The two halves decide; the session ties them to a connection. A session object lives as long as its
connection; what outlives it is in Redis.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from broker.mqtt import MQTT_5, PUBACK, PUBCOMP, PUBREC, encode_ack, encode_refusal
from broker.session.clock import Clock
from broker.session.direct import ANY_BYTES, DirectOutbound
from broker.session.drops import Drops
from broker.session.inbound import Inbound, Release
from broker.session.level import STORED
from broker.session.outbound import Outbound
from broker.session.outbox import Outbox
from broker.session.promise import Promise, Promises
from broker.session.queued import QueuedOutbound
from broker.session.reporting import ReportingDirectOutbound, ReportingQueuedOutbound, Reports
from broker.session.stored import Changes, StoredSession

_PACKET_IDENTIFIER_NOT_FOUND: Final = 0x92
_REFUSED: Final = 0x80
_REASON_STRINGS: Final[dict[int, str]] = {
    0x97: "there is no room to store the message, or it is too large to be retained",
    0x99: "the payload isn't UTF-8, as its Payload Format Indicator says",
}


class Source(Protocol):
    """What feeds an intake: the connection that we read from."""

    def resume_reading(self) -> None:
        """There is room again."""


class _Nobody:
    """The source of an intake whose connection has ended."""

    def resume_reading(self) -> None:
        """See Source."""


_NOBODY: Final = _Nobody()
_GONE: Final = StoredSession("", 0, 0, Changes())


class Intake:
    """How much a client may have open towards us: PUBLISH packets at QoS 1 and 2 that we have not settled.

    `receive_maximum` is what we told the client [MQTT-3.3.4-7]; a client before MQTT 5 doesn't know it, so
    there we stop reading instead while that many wait for our first answer (PUBACK or PUBREC): not until they
    are settled, since the PUBREL that settles one has to be read. `limit_bytes` bounds what
    waits for the store. `resumable` is the node's list of intakes that have room again.
    """

    __slots__ = (
        "bytes",
        "count",
        "is_held",
        "limit_bytes",
        "receive_maximum",
        "resumable",
        "source",
        "unanswered",
        "version",
    )

    def __init__(
        self,
        source: Source,
        version: int,
        receive_maximum: int,
        limit_bytes: int,
        resumable: "list[Intake]",
    ) -> None:
        self.source = source
        self.version = version
        self.receive_maximum = receive_maximum
        self.limit_bytes = limit_bytes
        self.resumable = resumable
        self.count = 0
        self.unanswered = 0
        self.bytes = 0
        self.is_held = False

    def __repr__(self) -> str:
        return f"Intake({self.count}/{self.receive_maximum}, {self.bytes} bytes, held={self.is_held})"

    def open(self, size_bytes: int) -> bool:
        """A PUBLISH at QoS 1 or 2 has come. False if an MQTT 5 client has exceeded the Receive Maximum."""
        self.count += 1
        self.unanswered += 1
        self.bytes += size_bytes
        return self.version != MQTT_5 or self.count <= self.receive_maximum

    def routed(self, size_bytes: int) -> None:
        """It is stored or delivered: it takes no memory here any more, and PUBACK or PUBREC leaves."""
        self.unanswered -= 1
        self.release(size_bytes)

    def hold(self, size_bytes: int) -> None:
        """Something else of this client waits for the store, and takes so much memory until `release`."""
        self.bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """What was held is stored, or given up."""
        self.bytes -= size_bytes
        if self.is_held and not self.must_hold():
            self.is_held = False
            self.resumable.append(self)

    def close(self) -> None:
        """It is settled: PUBACK, PUBCOMP, or a PUBREC which refuses has been sent."""
        if self.count > 0:  # one that an earlier connection began was not counted by this one
            self.count -= 1

    def abandon(self) -> None:
        """The connection has ended: nobody hears of room any more."""
        self.source = _NOBODY  # it has us: a cycle

    def must_hold(self) -> bool:
        """Whether reading from this client has to stop until something is stored."""
        return self.bytes > self.limit_bytes or (
            self.version != MQTT_5 and self.unanswered >= self.receive_maximum
        )


class SendingLimits:
    """What bounds the way to one client.

    `window`: PUBLISH packets at QoS 1 and 2 in flight, the client's Receive Maximum or our limit.
    `maximum_packet_size`: bytes the client accepts in a packet, 0 for any. `backlog` messages may wait for a
    place in the window of a direct session; beyond it the oldest is dropped, or the new one. `topic_aliases`
    may be set on the connection; always 0 before MQTT 5. `reason_strings`: whether the client wants to hear
    why it is refused [MQTT-3.1.2-29]; always False before MQTT 5. `mount_point`: where all begins that the
    client can see, "" for everything. `backlog_bytes`: of payloads in the backlog.
    """

    __slots__ = (
        "backlog",
        "backlog_bytes",
        "drop_oldest",
        "maximum_packet_size",
        "mount_point",
        "reason_strings",
        "topic_aliases",
        "window",
    )

    def __init__(
        self,
        window: int,
        maximum_packet_size: int,
        backlog: int,
        drop_oldest: bool,
        topic_aliases: int = 0,
        reason_strings: bool = False,
        mount_point: str = "",
        backlog_bytes: int = ANY_BYTES,
    ) -> None:
        self.window = window
        self.maximum_packet_size = maximum_packet_size
        self.backlog = backlog
        self.backlog_bytes = backlog_bytes
        self.drop_oldest = drop_oldest
        self.topic_aliases = topic_aliases
        self.reason_strings = reason_strings
        self.mount_point = mount_point


class QueueState:
    """Where a persistent session stands, as the claim answers it.

    `gen` and `n` name the last queue entry, `sent` is the last that may have been sent before, `hi` the last
    that may be sent now. `released` are the numbers of outbound QoS 2 exchanges in their PUBREL phase,
    `receiving` the inbound ones: Packet Identifier, token, whether it was routed; `doubted` are those of them
    which the client may have released. `is_new` is False if older entries may be in the queue.
    """

    __slots__ = ("doubted", "gen", "hi", "is_new", "n", "receiving", "released", "sent")

    def __init__(
        self,
        gen: int,
        n: int,
        sent: int,
        hi: int,
        released: Sequence[int],
        receiving: Sequence[tuple[int, bytes, bool]],
        is_new: bool,
        doubted: Sequence[int] = (),
    ) -> None:
        self.gen = gen
        self.n = n
        self.sent = sent
        self.hi = hi
        self.released = released
        self.receiving = receiving
        self.is_new = is_new
        self.doubted = doubted


class Session(StoredSession):
    """A connected client's session. Exactly one of `direct` and `queued` is its sending half, `outbound`.

    A session created with Session Expiry Interval 0 is direct for good: it has no `queue`. `token_ttl_ms` is
    how long the store remembers who got a QoS 2 message of this client. `is_lost`: another connection has
    claimed it. `fenced_in` is the router's: the last call in which it asked whether that is so. `allowed` are
    the topics of which it is known that the client may publish there; None: all. Others come to be known.
    `promises`: what it is owed; None where all is acknowledged as soon as it is stored.
    """

    __slots__ = (
        "allowed",
        "direct",
        "fenced_in",
        "inbound",
        "intake",
        "is_lost",
        "outbound",
        "outbox",
        "promises",
        "queued",
        "reason_strings",
        "token_ttl_ms",
        "version",
    )

    def __init__(
        self,
        client_id: str,
        bucket: int,
        epoch: int,
        version: int,
        drops: Drops,
        outbox: Outbox,
        intake: Intake,
        clock: Clock,
        limits: SendingLimits,
        queue: QueueState | None,
        token_ttl_ms: int,
        changed: Changes,
        allowed: set[str] | None = None,
        promises: Promises | None = None,
    ) -> None:
        super().__init__(client_id, bucket, epoch, changed)
        self.allowed = allowed
        self.promises = promises
        self.version = version
        self.outbox = outbox
        self.intake = intake
        self.token_ttl_ms = token_ttl_ms
        self.reason_strings = limits.reason_strings
        self.is_lost = False
        self.fenced_in = 0
        self.direct: DirectOutbound | None = None
        self.queued: QueuedOutbound | None = None
        self.outbound: Outbound
        if queue is None:
            self.inbound = Inbound(None)
            self.outbound = self.direct = self._direct_half(drops, clock, limits)
            return
        self.inbound = Inbound(self)
        for packet_id, token, is_routed in queue.receiving:
            self.inbound.restore(packet_id, token, is_routed)
        for packet_id in queue.doubted:
            self.inbound.doubt(packet_id)
        self.outbound = self.queued = self._queued_half(drops, clock, limits, queue)
        self.outbound.promises = promises

    def __repr__(self) -> str:
        return f"Session({self.client_id!r}, epoch={self.epoch}, {self.outbound!r})"

    def dissolve(self) -> None:
        """It has ended, and the store knows: nothing comes or goes any more. A direct session is freed when
        nobody has it, as it has no cycle left: the garbage collector took a tenth of a node's time for those
        who come and go."""
        if self.direct is not None:
            self.direct.stored = _GONE

    def _direct_half(self, drops: Drops, clock: Clock, limits: SendingLimits) -> DirectOutbound:
        if isinstance(drops, Reports):
            return ReportingDirectOutbound(
                self,
                drops,
                self.outbox,
                clock,
                self.version,
                limits.window,
                limits.maximum_packet_size,
                limits.backlog,
                limits.drop_oldest,
                limits.topic_aliases,
                limits.mount_point,
                limits.backlog_bytes,
            )
        return DirectOutbound(
            self,
            drops,
            self.outbox,
            clock,
            self.version,
            limits.window,
            limits.maximum_packet_size,
            limits.backlog,
            limits.drop_oldest,
            limits.topic_aliases,
            limits.mount_point,
            limits.backlog_bytes,
        )

    def _queued_half(
        self, drops: Drops, clock: Clock, limits: SendingLimits, queue: QueueState
    ) -> QueuedOutbound:
        if isinstance(drops, Reports):
            return ReportingQueuedOutbound(
                self,
                drops,
                self.outbox,
                clock,
                self.version,
                limits.window,
                limits.maximum_packet_size,
                queue.gen,
                queue.n,
                queue.sent,
                queue.hi,
                queue.released,
                not queue.is_new,
                limits.topic_aliases,
                limits.mount_point,
            )
        return QueuedOutbound(
            self,
            drops,
            self.outbox,
            clock,
            self.version,
            limits.window,
            limits.maximum_packet_size,
            queue.gen,
            queue.n,
            queue.sent,
            queue.hi,
            queue.released,
            not queue.is_new,
            limits.topic_aliases,
            limits.mount_point,
        )

    def published(self, packet_id: int, qos: int, reason_code: int, size_bytes: int) -> None:
        """A PUBLISH of this client is stored or delivered wherever it had to be: acknowledges it.

        At QoS 2 that is PUBREC [MQTT-4.3.3-8], at QoS 1 PUBACK [MQTT-4.3.2-4]; nothing is owed at QoS 0.
        """
        if qos == 0:
            self.intake.release(size_bytes)
            return
        self.intake.routed(size_bytes)
        if qos == 1:
            self.intake.close()
            if reason_code >= _REFUSED:
                self._send_refusal(PUBACK, packet_id, reason_code)
            else:
                self.outbox.send(encode_ack(PUBACK, packet_id, reason_code, self.version))
        elif reason_code >= _REFUSED:
            self.inbound.refuse(packet_id)
            self.intake.close()
            self._send_refusal(PUBREC, packet_id, reason_code)
        elif self.inbound.settle(packet_id):
            self.outbox.send(encode_ack(PUBREC, packet_id, reason_code, self.version))

    def published_again(self, packet_id: int) -> None:
        """A QoS 2 PUBLISH sent again that was routed before: PUBREC once more [MQTT-4.3.3-10]."""
        self._send_in_turn(encode_ack(PUBREC, packet_id, 0, self.version))

    def pubrel(self, packet_id: int) -> None:
        """PUBREL has come: PUBCOMP leaves now, or when the store has answered (`released`)."""
        release = self.inbound.release(packet_id)
        if release == Release.COMPLETE:
            self.released(packet_id)
        elif release == Release.UNKNOWN:
            self._send_in_turn(encode_ack(PUBCOMP, packet_id, _PACKET_IDENTIFIER_NOT_FOUND, self.version))

    def released(self, packet_id: int) -> None:
        """The inbound exchange is forgotten by the store: PUBCOMP leaves, now or when that is confirmed."""
        promises = self.promises
        if promises is not None:
            level = promises.end_in(packet_id) if self.queued is not None else STORED
            if promises.must_wait(level):
                promises.owe(_PubcompPromise(promises, level, self, packet_id))
                return
        self.complete(packet_id)

    def complete(self, packet_id: int) -> None:
        """The inbound exchange is over: sends PUBCOMP [MQTT-4.3.3-11]."""
        self.outbound.drops.completed_in += 1
        self.inbound.released(packet_id)
        self.intake.close()
        self.outbox.send(encode_ack(PUBCOMP, packet_id, 0, self.version))

    def answer(self, data: bytes) -> None:
        """Sends SUBACK or UNSUBACK: what it stands for is stored."""
        if self.promises is None:
            self.outbox.send(data)
        else:
            self.promises.send(self.outbox, data, self.promises.level)

    def _send_in_turn(self, data: bytes) -> None:
        """An answer for which nothing had to be stored."""
        if self.promises is None:
            self.outbox.send(data)
        else:
            self.promises.send(self.outbox, data, STORED)

    def _send_refusal(self, packet_type: int, packet_id: int, reason_code: int) -> None:
        self.outbound.drops.refuse(packet_type, reason_code)
        reason_string = _REASON_STRINGS.get(reason_code)
        if reason_string is None or not self.reason_strings:
            self.outbox.send(encode_ack(packet_type, packet_id, reason_code, self.version))
            return
        maximum = self.outbound.maximum_packet_size
        self.outbox.send(encode_refusal(packet_type, packet_id, reason_code, reason_string, maximum))


class _PubcompPromise(Promise):
    """On another primary the identifier may be there again: it is deleted once more."""

    __slots__ = ("_level", "_packet_id", "_promises", "_session")

    def __init__(self, promises: Promises, level: int, session: Session, packet_id: int) -> None:
        super().__init__(promises.confirmation(level))
        self._promises = promises
        self._session = session
        self._packet_id = packet_id
        self._level = level

    def keep(self) -> None:
        self._session.complete(self._packet_id)

    def again(self) -> bool:
        session = self._session
        if session.queued is None:
            return False
        self._promises.begin_in(self._packet_id, self._level)
        session.inbound.releasing.append(self._packet_id)
        session.mark_changed()
        return True
