"""Connections that carry nothing but MQTT, and are new: without transports of the event loop, as numbers of
the kernel's that are read and written by its calls.

Of a connect's 80 us in a node a transport of uvloop is 8: objects that live as long as the connection, and
three calls of the kernel whose answers nobody needs. Devices that connect, publish and go never pay for that.
All wires are polled through one file, which the event loop watches: one poll behind the other, which costs
each message some 6 us when there are few. So who stays gets a transport after a second. Where the kernel has
no epoll, and for TLS and WebSocket, there is one from the beginning.
"""

import asyncio
import os
import select
import time
from asyncio import BaseProtocol
from collections.abc import Callable
from typing import Final, Protocol, cast

from broker.client.transport import Transport
from broker.listeners.transports import Transports
from broker.observability.logs import get_logger

READ_BYTES: Final = 65_536
"""Read at once of one connection; then others have their turn."""
HIGH_WATER_BYTES: Final = 65_536
"""With more than these unsent the protocol object is asked to pause, until there are no more than
`LOW_WATER_BYTES`: what asyncio has."""
LOW_WATER_BYTES: Final = 16_384

NEW_SECONDS: Final = 1.0
"""So long a connection is a wire; those that stay are `_MOVES_AT_A_TIME` in each `_MOVES_SECONDS`."""

_MOVES_AT_A_TIME: Final = 50
_MOVES_SECONDS: Final = 0.02
_EVENTS: Final = 256  # handled in one turn of the event loop
_READABLE: Final = 1  # EPOLLIN, whatever the processor
_WRITABLE: Final = 4  # EPOLLOUT

logger = get_logger(__name__)


class Carried(Protocol):
    """The protocol object of a wire, with the methods of asyncio's. `transport` is what carries it now;
    `is_reading` says whether that is not to pause."""

    transport: Transport | None
    is_reading: bool

    def connection_made(self, transport: Transport) -> None:
        """See asyncio."""

    def data_received(self, data: bytes) -> None:
        """See asyncio."""

    def pause_writing(self) -> None:
        """See asyncio."""

    def resume_writing(self) -> None:
        """See asyncio."""

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""


class Poll(Protocol):
    """What is used of `select.epoll`, which not all systems have."""

    def fileno(self) -> int:
        """See select.epoll."""

    def register(self, fd: int, eventmask: int) -> None:
        """See select.epoll."""

    def modify(self, fd: int, eventmask: int) -> None:
        """See select.epoll."""

    def unregister(self, fd: int) -> None:
        """See select.epoll."""

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """See select.epoll."""

    def close(self) -> None:
        """See select.epoll."""


def open_wires(new_seconds: float = NEW_SECONDS) -> "Wires | None":
    """Those of the running event loop; None if this system has no epoll."""
    make_poll = getattr(select, "epoll", None)
    return Wires(cast(Poll, make_poll()), new_seconds) if make_poll is not None else None


class Wires:
    """All of one event loop. After `new_seconds` they get transports."""

    def __init__(self, poll: Poll, new_seconds: float) -> None:
        self.poll = poll
        self._new_seconds = new_seconds
        self.by_handle: dict[int, Wire] = {}  # the oldest first
        self._loop = asyncio.get_running_loop()
        self._ended: list[tuple[Wire, int, Exception | None]] = []
        self._moving: asyncio.TimerHandle | None = None
        self._loop.add_reader(poll.fileno(), self._look)

    def open(self, handle: int, make_protocol: Callable[[], BaseProtocol], transports: Transports) -> None:
        """Serves an accepted connection, which is closed if this raises."""
        try:
            os.set_blocking(handle, False)
            protocol = cast(Carried, make_protocol())
        except BaseException:
            os.close(handle)
            raise
        wire = Wire(self, handle, protocol, transports)
        self.by_handle[handle] = wire
        try:
            protocol.connection_made(wire)
        except Exception as error:
            wire.end(error)
            raise
        wire.start()
        if self._moving is None:
            self._moving = self._loop.call_later(self._new_seconds, self._move)

    def close(self) -> None:
        """Ends all that there are."""
        for wire in list(self.by_handle.values()):
            wire.abort()
        if self._moving is not None:
            self._moving.cancel()
        self._loop.remove_reader(self.poll.fileno())
        self.poll.close()

    def close_soon(self, wire: "Wire", handle: int, error: Exception | None) -> None:
        """Closes `handle`, unless it is negative, and tells the protocol object: in the next turn of the
        loop, as its transports do. What is told in this turn, as to the log, comes before the peer knows."""
        self._ended.append((wire, handle, error))
        if len(self._ended) == 1:
            self._loop.call_soon(self._close_ended)

    def _close_ended(self) -> None:
        ended, self._ended = self._ended, []
        for wire, handle, error in ended:
            if handle >= 0:
                os.close(handle)  # with that it is not polled any more
            try:
                wire.tell(error)
            except Exception:  # the boundary of each connection
                logger.exception("connection not given up")

    def _move(self) -> None:
        """Who has stayed gets a transport."""
        since = time.monotonic() - self._new_seconds
        staying: list[Wire] = []
        for wire in self.by_handle.values():
            if wire.opened_at > since or len(staying) == _MOVES_AT_A_TIME:
                break
            if wire.may_move():
                staying.append(wire)
        for wire in staying:
            wire.move()
        self._moving = None
        if self.by_handle:
            seconds = _MOVES_SECONDS if len(staying) == _MOVES_AT_A_TIME else self._new_seconds
            self._moving = self._loop.call_later(seconds, self._move)

    def _look(self) -> None:
        by_handle = self.by_handle
        for handle, events in self.poll.poll(0, _EVENTS):
            wire = by_handle.get(handle)
            if wire is None:  # it has ended
                continue
            try:
                wire.happen(events)
            except Exception as error:  # the boundary of each connection: our bug must not harm the others
                logger.exception("connection failed")
                wire.end(error)


class Wire:
    """The transport of one new connection, see `broker.client.transport`."""

    __slots__ = (
        "_handle",
        "_is_closing",
        "_is_full",
        "_is_moving",
        "_is_over",
        "_is_reading",
        "_polled",
        "_protocol",
        "_transports",
        "_unsent",
        "_wires",
        "opened_at",
    )

    def __init__(self, wires: Wires, handle: int, protocol: Carried, transports: Transports) -> None:
        self.opened_at = time.monotonic()
        self._wires = wires
        self._handle = handle
        self._protocol = protocol
        self._transports = transports
        self._unsent: bytearray | None = None
        self._polled = 0  # for which events
        self._is_reading = True
        self._is_closing = False
        self._is_full = False
        self._is_moving = False
        self._is_over = False  # while it moves

    def start(self) -> None:
        """Reads from now on, unless it has been paused or closed already."""
        self._watch()

    def get_extra_info(self, name: str) -> object:
        """`socket` is something with its `fileno`. Nothing else is known."""
        return self if name == "socket" else None

    def fileno(self) -> int:
        """The kernel's number; -1 when it has ended."""
        return self._handle

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel hasn't taken."""
        return 0 if self._unsent is None else len(self._unsent)

    def write(self, data: bytes) -> None:
        """Hands `data` to the kernel, and keeps what it doesn't take. Once it is closed, nothing happens."""
        if self._is_closing:
            return
        if self._unsent is not None:
            self._unsent += data
        else:
            try:
                count = os.write(self._handle, data)
            except BlockingIOError:
                count = 0
            except OSError as error:
                self.end(error)
                return
            if count == len(data):
                return
            self._unsent = bytearray(data[count:])
            self._watch()
        if not self._is_full and not self._is_moving and self.get_write_buffer_size() > HIGH_WATER_BYTES:
            self._is_full = True
            self._protocol.pause_writing()

    def pause_reading(self) -> None:
        """Reads no more."""
        self._is_reading = False
        self._watch()

    def resume_reading(self) -> None:
        """Ends the pause."""
        self._is_reading = True
        self._watch()

    def close(self) -> None:
        """Reads no more, and closes when the kernel has taken all."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._unsent is None:
            self.end(None)
        else:
            self._watch()

    def abort(self) -> None:
        """Closes at once."""
        self.end(None)

    def happen(self, events: int) -> None:
        """What the kernel tells. That there is an error, or the peer gone, shows in reading or writing."""
        if self._unsent is not None and events != _READABLE:
            self._write_rest()
        if self._is_reading and not self._is_closing and events != _WRITABLE:
            self._read()

    def end(self, error: Exception | None) -> None:
        """Ends at once; closes, and tells the protocol object, soon. May be called again."""
        handle = self._handle
        if handle < 0:
            return
        self._is_closing = True
        self._unsent = None
        if self._is_moving:
            self._is_over = True
            return
        self._leave()
        self._wires.close_soon(self, handle, error)

    def may_move(self) -> bool:
        """Whether there is nothing to be kept for it, but what the kernel keeps."""
        return self._polled == _READABLE and not self._is_moving

    def move(self) -> None:
        """Has the event loop make a transport, which takes over in its next turn."""
        self._wires.poll.unregister(self._handle)
        self._is_moving = True
        self._transports.open(self._handle, lambda: cast(BaseProtocol, self), self._fail_to_move)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The event loop has made the transport, whose protocol object this is so far."""
        protocol = self._protocol
        unsent = self._unsent
        self._unsent = None
        self._leave()
        transport.set_protocol(cast(BaseProtocol, protocol))
        protocol.transport = cast(Transport, transport)
        if unsent is not None:
            transport.write(bytes(unsent))
        if self._is_over:
            transport.abort()
        elif self._is_closing:
            transport.close()
        elif not self._is_reading:  # the transport will, as soon as this has been told
            asyncio.get_running_loop().call_soon(_keep_pause, protocol)
        self._is_closing = True  # whoever still has it does nothing by it

    def _fail_to_move(self, error: BaseException) -> None:
        """The connection has been closed."""
        logger.debug("connection ended as it has no transport", exc_info=error)
        self._is_closing = True
        self._leave()
        self._wires.close_soon(self, -1, error if isinstance(error, Exception) else None)

    def _leave(self) -> None:
        del self._wires.by_handle[self._handle]
        self._handle = -1

    def tell(self, error: Exception | None) -> None:
        """The protocol object, that it has ended."""
        self._protocol.connection_lost(error)

    def _read(self) -> None:
        try:
            data = os.read(self._handle, READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.end(error)
            return
        if data:
            self._protocol.data_received(data)
        else:
            self.close()

    def _write_rest(self) -> None:
        unsent = self._unsent
        assert unsent is not None
        try:
            del unsent[: os.write(self._handle, unsent)]
        except BlockingIOError:
            return
        except OSError as error:
            self.end(error)
            return
        if not unsent:
            self._unsent = None
            if self._is_closing:
                self.end(None)
                return
            self._watch()
        if self._is_full and len(unsent) <= LOW_WATER_BYTES:
            self._is_full = False
            self._protocol.resume_writing()

    def _watch(self) -> None:
        """Polls for what is waited for. If that is nothing, not at all: else the kernel would tell again and
        again that the peer is gone."""
        if self._handle < 0 or self._is_moving:
            return
        events = _READABLE if self._is_reading and not self._is_closing else 0
        if self._unsent is not None:
            events |= _WRITABLE
        if events == self._polled:
            return
        poll = self._wires.poll
        try:
            if not self._polled:
                poll.register(self._handle, events)
            elif events:
                poll.modify(self._handle, events)
            else:
                poll.unregister(self._handle)
        except OSError as error:  # as many are polled as this system lets its users
            logger.error("connection not served: %s", error.strerror)
            self.end(error)
            return
        self._polled = events


def _keep_pause(protocol: Carried) -> None:
    if not protocol.is_reading and protocol.transport is not None:
        protocol.transport.pause_reading()
