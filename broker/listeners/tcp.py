"""Sockets that listen."""

import asyncio
import socket

from broker.errors import StartError
from broker.settings import Address


async def bind_tcp(address: Address, *, shared: bool = False) -> socket.socket:
    """A socket that is bound and does not listen; `shared` with others that were bound so, by this user.

    Raises StartError if the address can't be had.
    """
    try:
        found = await _resolve(address)
    except socket.gaierror as error:
        raise StartError(f"can't listen on {address}: {error.strerror}") from error
    family, name = found
    # IPPROTO_TCP, not 0: asyncio switches Nagle off only for sockets that say so, and accepted ones inherit
    # it.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(name)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise StartError(f"can't listen on {address}: {error.strerror or error}") from error
    return listening


def bound_address(listening: socket.socket) -> Address:
    """Where it is bound: an address that `bind_tcp` takes."""
    host, port, *more = listening.getsockname()
    if len(more) == 2 and more[1]:
        host = f"{host.partition('%')[0]}%{socket.if_indextoname(more[1])}"
    return Address(host, port)


async def _resolve(address: Address) -> tuple[int, tuple[object, ...]]:
    """Family and name for a socket."""
    flags = socket.AI_PASSIVE
    if "%" in address.host:  # there is nobody to ask, and uvloop would forget which network card it is
        flags |= socket.AI_NUMERICHOST
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)
    else:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)
    family, _, _, _, name = found[0]
    return family, name
