"""The far end of a connection, where bytes become packets again, and sessions made with few words."""

from collections.abc import Sequence

from broker.mqtt import MQTT_5, Decoder, Packet, Publish
from broker.session import (
    Changes,
    Clock,
    Delivery,
    DirectOutbound,
    Drops,
    Intake,
    Message,
    Outbox,
    Promises,
    QueuedOutbound,
    QueueState,
    SendingLimits,
    Session,
    StoredSession,
)
from broker.session.direct import ANY_BYTES


class Wire:
    """Takes what an outbox writes. `writes` are the pieces, `take` gives them decoded as the client would."""

    def __init__(self, version: int = MQTT_5) -> None:
        self.writes: list[bytes] = []
        self._packets: list[Packet] = []
        self._decoder = Decoder(False, 1 << 28, version)

    def write_all(self, data: bytes) -> None:
        self.writes.append(data)
        self._decoder.feed(data, self._packets)

    def take(self) -> list[Packet]:
        packets = self._packets
        self._packets = []
        return packets


class Silent:
    """A connection that is read from; remembers that it was resumed."""

    def __init__(self) -> None:
        self.resumed = 0

    def resume_reading(self) -> None:
        self.resumed += 1


class Link:
    """An outbox, its wire, and what a node shares among its sessions."""

    def __init__(self, version: int = MQTT_5, limit_bytes: int = 1 << 20) -> None:
        self.version = version
        self.wire = Wire(version)
        self.ready: list[Outbox] = []
        self.outbox = Outbox(self.ready, self.wire, limit_bytes)
        self.clock = Clock(1_000_000)
        self.drops = Drops()
        self.changed = Changes()
        self.resumable: list[Intake] = []

    def stored(self, client_id: str = "client") -> StoredSession:
        return StoredSession(client_id, 7, 3, self.changed)

    def direct(
        self,
        window: int = 10,
        backlog: int = 10,
        *,
        drop_oldest: bool = True,
        maximum_packet_size: int = 0,
        topic_aliases: int = 0,
        mount_point: str = "",
        backlog_bytes: int = ANY_BYTES,
    ) -> DirectOutbound:
        return DirectOutbound(
            self.stored(),
            self.drops,
            self.outbox,
            self.clock,
            self.version,
            window,
            maximum_packet_size,
            backlog,
            drop_oldest,
            topic_aliases,
            mount_point,
            backlog_bytes,
        )

    def queued(
        self,
        window: int = 8,
        *,
        n: int = 0,
        sent: int = 0,
        hi: int | None = None,
        released: Sequence[int] = (),
        has_queue: bool = False,
        maximum_packet_size: int = 0,
        topic_aliases: int = 0,
        mount_point: str = "",
    ) -> QueuedOutbound:
        return QueuedOutbound(
            self.stored(),
            self.drops,
            self.outbox,
            self.clock,
            self.version,
            window,
            maximum_packet_size,
            1,
            n,
            sent,
            n + window if hi is None else hi,
            released,
            has_queue,
            topic_aliases,
            mount_point,
        )

    def session(
        self,
        queue: QueueState | None = None,
        *,
        receive_maximum: int = 10,
        limit_bytes: int = 1000,
        window: int = 8,
        maximum_packet_size: int = 0,
        reason_strings: bool = False,
        topic_aliases: int = 0,
        mount_point: str = "",
        promises: Promises | None = None,
    ) -> Session:
        intake = Intake(Silent(), self.version, receive_maximum, limit_bytes, self.resumable)
        return Session(
            "client",
            7,
            3,
            self.version,
            self.drops,
            self.outbox,
            intake,
            self.clock,
            SendingLimits(window, maximum_packet_size, 10, True, topic_aliases, reason_strings, mount_point),
            queue,
            60_000,
            self.changed,
            promises=promises,
        )

    def take(self) -> list[Packet]:
        """What has been sent since the last time."""
        self.outbox.flush()
        return self.wire.take()

    def take_changed(self) -> int:
        """How many sessions have asked for a look; takes them off the list."""
        return len(self.changed.take())


def message(
    payload: bytes = b"payload",
    *,
    qos: int = 1,
    deadline_ms: int = 0,
    topic: str = "t",
    retain: bool = False,
) -> Message:
    return Message(topic, payload, qos, retain, b"", deadline_ms)


def entry(
    n: int, qos: int = 1, *, gen: int = 1, deadline_ms: int = 0, topic: str = "t", retain: bool = False
) -> Delivery:
    """A queue entry; its payload is its number. `retain`: it was published with RETAIN."""
    body = message(b"%d" % n, qos=qos, deadline_ms=deadline_ms, topic=topic, retain=retain)
    return Delivery(body, qos, False, (), gen, n)


def published(packets: list[Packet]) -> list[tuple[int, bytes, bool]]:
    """Packet Identifier, payload and DUP of PUBLISH packets; fails if there is anything else."""
    found = []
    for packet in packets:
        assert isinstance(packet, Publish)
        found.append((packet.packet_id, packet.payload, packet.dup))
    return found


def payloads(packets: list[Packet]) -> list[bytes]:
    return [payload for _, payload, _ in published(packets)]
