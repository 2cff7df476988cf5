"""Connections that a proxy passes on: who is believed, and reading the header that comes first.

Not a byte of what follows the header is taken from the socket: that is for TLS, or for the protocol object.
"""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address

import anyio

from broker.auth.address import plain_address
from broker.client import Origin
from broker.listeners.proxy_header import HEADER_MAXIMUM, BadHeader, parse_header
from broker.settings import Network


class HeaderRefused(Exception):
    """The connection was closed. `metric`: what it is counted as."""

    def __init__(self, metric: str, reason: str) -> None:
        super().__init__(reason)
        self.metric = metric


class Proxies:
    """Those in front of a listener. Without networks, which only a unix socket is, whoever can connect."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks

    async def origin_of(self, accepted: socket.socket, peer: object, timeout_seconds: float) -> Origin | None:
        """Where the client is, as its proxy says; None if that leaves it to the connection. When this raises,
        HeaderRefused or because it was cancelled, the socket is closed."""
        try:
            return await self._ask(accepted, peer, timeout_seconds)
        except BaseException:
            accepted.close()
            raise

    async def _ask(self, accepted: socket.socket, peer: object, timeout_seconds: float) -> Origin | None:
        if not self._trust(peer):
            raise HeaderRefused("proxy_untrusted", "not one of the trusted proxies")
        try:
            with anyio.fail_after(timeout_seconds):
                return await _read_header(accepted)
        except TimeoutError:
            raise HeaderRefused("proxy_timeout", "no header in time") from None
        except (BadHeader, OSError) as error:
            raise HeaderRefused("proxy_header", str(error)) from None

    def _trust(self, peer: object) -> bool:
        if not isinstance(peer, tuple):
            return True
        address = ip_address(plain_address(str(peer[0])))
        return any(address in network for network in self._networks)


async def _read_header(accepted: socket.socket) -> Origin | None:
    begun = b""
    while True:
        try:
            waiting = accepted.recv(HEADER_MAXIMUM, socket.MSG_PEEK)
        except BlockingIOError:
            await _until_readable(accepted)
            continue
        if not waiting:
            raise BadHeader("closed before a header")
        header = parse_header(begun + waiting)
        if header is not None:
            accepted.recv(header.size - len(begun))
            return header.origin
        begun += accepted.recv(len(waiting))  # or it would be readable for ever


async def _until_readable(accepted: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    is_readable = asyncio.Event()
    loop.add_reader(accepted, is_readable.set)
    try:
        await is_readable.wait()
    finally:
        loop.remove_reader(accepted)
