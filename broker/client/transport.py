"""What a client and its connection need of each other, before there is anything of MQTT."""

from collections.abc import Callable
from typing import Protocol

from broker.client.entrance import PLAIN_TCP, UNIX


class Transport(Protocol):
    """What carries the bytes: a transport of the event loop, or what a listener puts over one."""

    def get_extra_info(self, name: str) -> object:
        """As of asyncio's transports."""

    def write(self, data: bytes) -> None:
        """Hands `data` to the operating system, or buffers it."""

    def get_write_buffer_size(self) -> int:
        """Bytes that are buffered."""

    def close(self) -> None:
        """Closes when what is buffered has been written."""

    def abort(self) -> None:
        """Closes at once."""

    def pause_reading(self) -> None:
        """Calls data_received no more, but for what has been read already."""

    def resume_reading(self) -> None:
        """Ends the pause."""


class Visit(Protocol):
    """The place that a connection has in the count of its listener."""

    def when_evicted(self, close: Callable[[], object]) -> None:
        """What closes it, if it has not sent its CONNECT and others want the place; perhaps at once."""

    def authenticate(self, close: Callable[[], object]) -> None:
        """The CONNECT has come and names an Authentication Method: others may want the place until
        `settle`. What closes it now."""

    def settle(self) -> None:
        """The CONNECT has come. May be called again."""

    def leave(self) -> None:
        """The connection has ended. May be called again."""


def peer_name(peer: object, kind: str) -> str:
    """The address, after the kind of the listener if that isn't plain TCP: `wss:127.0.0.1:5000`. By a unix
    socket there is none."""
    if isinstance(peer, tuple) and len(peer) >= 2:
        host = str(peer[0])
        name = f"[{host}]:{peer[1]}" if ":" in host else f"{host}:{peer[1]}"
    elif kind == UNIX:
        return kind
    else:
        name = str(peer or "unknown")
    return name if kind == PLAIN_TCP else f"{kind}:{name}"
