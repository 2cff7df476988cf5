"""Transports of the event loop, for connections that it has not accepted itself."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import cast

from broker.listeners.introducing import Taken


class Handed:
    """A connection as far as uvloop wants to know it. A socket object costs three of a connection's hundred
    microseconds: making it asks the kernel whether it is one. Asyncio's own loops read from that object, and
    get one (`Taken`)."""

    __slots__ = ("_handle", "family", "type")

    def __init__(self, family: int, type: int, handle: int) -> None:
        self.family = family
        self.type = type
        self._handle = handle

    def fileno(self) -> int:
        """The number that the kernel knows it by."""
        return self._handle

    def close(self) -> None:
        """uvloop calls it when it has closed the connection: there is nothing left to be done."""


class Transports:
    """For the connections of one listening socket."""

    def __init__(self, listening: socket.socket) -> None:
        self._family = int(listening.family)
        self._type = int(listening.type)
        self._proto = listening.proto
        self._loop = asyncio.get_running_loop()
        self._wants_sockets = isinstance(self._loop, asyncio.BaseEventLoop)

    def open(
        self,
        handle: int,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """There is one at once, and nothing more to be done when it has told its protocol object, in the next
        turn of the loop: so there is no task, which would be more work than all else in here. If it comes to
        nothing the connection is closed."""
        if self._wants_sockets:
            taken = self.socket(handle)
            if not _go_on(self._loop.connect_accepted_socket(make_protocol, taken), on_failure):
                taken.close()
            return
        handed = cast(socket.socket, Handed(self._family, self._type, handle))
        if not _go_on(self._loop.connect_accepted_socket(make_protocol, handed), on_failure):
            os.close(handle)

    def socket(self, handle: int) -> Taken:
        """The connection, for who wants an object."""
        return Taken(self._family, self._type, self._proto, handle)


def _go_on(
    opening: Coroutine["asyncio.Future[object]", None, object],
    on_failure: Callable[[BaseException], None],
    _: object = None,
) -> bool:
    """As a task would. False if it has come to nothing."""
    try:
        waiter = opening.send(None)
    except StopIteration:  # there is a transport
        return True
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the top of this connection: told
        on_failure(error)
        return False
    waiter.add_done_callback(partial(_go_on, opening, on_failure))
    return True
