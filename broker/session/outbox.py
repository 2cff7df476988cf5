"""The bytes that wait to be written to one connection.

The core only appends; the shell writes everything that one loop tick has collected in a single call (one
write per connection per tick), and tells with `blocked` that the peer reads too slowly.
"""

from typing import Final, Protocol


class Sink(Protocol):
    """Where an outbox is emptied to: the transport of one connection."""

    def write_all(self, data: bytes) -> None:
        """Hands `data` to the operating system, or buffers it."""


class _Nowhere:
    """The sink of a connection that has ended."""

    def write_all(self, data: bytes) -> None:
        """See Sink."""


_NOWHERE: Final = _Nowhere()


class Outbox:
    """Outgoing bytes of one connection, and its place on the list of those to be written this tick.

    `limit_bytes` bounds what waits while the peer doesn't read: above it, QoS 0 messages are dropped and the
    shell stops reading from that peer, so nothing else can pile up.
    """

    __slots__ = ("blocked", "closed", "limit_bytes", "parts", "queued", "ready", "sink", "size_bytes")

    def __init__(self, ready: "list[Outbox]", sink: Sink, limit_bytes: int) -> None:
        self.ready = ready
        self.sink = sink
        self.limit_bytes = limit_bytes
        self.parts: list[bytes] = []
        self.size_bytes = 0
        self.queued = False
        self.blocked = False
        self.closed = False

    def __repr__(self) -> str:
        return f"Outbox({self.size_bytes} bytes, blocked={self.blocked}, closed={self.closed})"

    def send(self, data: bytes) -> None:
        """Appends one packet. After the connection has ended this does nothing."""
        if self.closed:
            return
        self.parts.append(data)
        self.size_bytes += len(data)
        if not self.queued and not self.blocked:
            self.queued = True
            self.ready.append(self)

    def is_full(self) -> bool:
        """Whether the peer reads so slowly that nothing more may be queued for it."""
        return self.blocked and self.size_bytes > self.limit_bytes

    def flush(self) -> None:
        """Writes what has been collected, as one piece."""
        self.queued = False
        if self.blocked or self.closed or not self.parts:
            return
        data = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts.clear()
        self.size_bytes = 0
        self.sink.write_all(data)

    def unblock(self) -> None:
        """The peer reads again: what has waited goes out with this tick."""
        self.blocked = False
        if self.parts and not self.queued and not self.closed:
            self.queued = True
            self.ready.append(self)

    def close(self) -> None:
        """Forgets what was not written, and the sink; later packets are ignored."""
        self.closed = True
        self.sink = _NOWHERE  # the connection, which has us: a cycle
        self.parts.clear()
        self.size_bytes = 0


def flush_all(ready: list[Outbox]) -> None:
    """Writes the outboxes on the list and empties it."""
    outboxes = ready[:]
    ready.clear()
    for outbox in outboxes:
        outbox.flush()
