"""Clients that do not take what is sent to them: after `limits.stalled_seconds` without a byte they are
closed.

As long as the transport has more than its high-water mark nothing is added to it. So what it has, and what
the kernel has of which the peer has said nothing yet, gets less exactly when the peer reads, and stays as it
is when it does not. It is looked at four times in `stalled_seconds`; a client that is slow, and reads, stays.
"""

import fcntl
import struct
import termios
import time
from typing import TYPE_CHECKING, Final

from broker.client.transport import Transport
from broker.mqtt import ReasonCode

if TYPE_CHECKING:  # they need each other
    from broker.client.client import Client

_LOOKS: Final = 4


def watch_blocked(client: "Client") -> None:
    """The client does not read as fast as we write: looks at it later."""
    stalled_seconds = client.hub.settings.stalled_seconds
    if stalled_seconds:
        client.blocked_bytes = -1
        client.blocked_since = time.monotonic()
        client.hub.wheel.watch_by(client, client.blocked_since + stalled_seconds / _LOOKS)


def check_blocked(client: "Client", now: float) -> float | None:
    """When to look again, 0.0 for never. None: it has taken nothing, and is closed."""
    hub = client.hub
    stalled_seconds = hub.settings.stalled_seconds
    if not stalled_seconds or not client.outbox.blocked or client.transport is None:
        return 0.0
    waiting_bytes = _waiting_bytes(client.transport)
    if waiting_bytes != client.blocked_bytes:
        client.blocked_bytes = waiting_bytes
        client.blocked_since = now
    elif now >= client.blocked_since + stalled_seconds:
        fields = {"client_id": client.client_id, "peer": client.peer, "bytes": waiting_bytes}
        hub.offences.refuse("stalled_seconds", **fields)
        client.close(ReasonCode.QUOTA_EXCEEDED, f"nothing was read for {stalled_seconds:g} s")
        hub.after_input()
        return None
    return now + stalled_seconds / _LOOKS


def _waiting_bytes(transport: Transport) -> int:
    buffered_bytes = transport.get_write_buffer_size()
    carrier = transport.get_extra_info("socket")
    if not hasattr(carrier, "fileno"):
        return buffered_bytes
    unacknowledged = bytearray(4)
    try:
        fcntl.ioctl(carrier.fileno(), termios.TIOCOUTQ, unacknowledged)
    except OSError:  # this system does not tell
        return buffered_bytes
    count: int = struct.unpack("i", unacknowledged)[0]
    return buffered_bytes + count
