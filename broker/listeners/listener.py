"""Opens a listener of any kind: what takes connections, what it makes of each, and how it is closed.

The way of a connection: accepted, the header of a proxy if one is in front, TLS if the kind has it, the
request of WebSocket if it has that, and then a `Client` with a transport that carries nothing but MQTT. What
holds for one listener only is looked at here, before there is a `Client`.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial

from broker.client import Client, Entrance, MountPoint, Origin
from broker.listeners.proxied import Proxies
from broker.listeners.tcp import bind_tcp, bound_address
from broker.listeners.tls import Acceptor, make_context
from broker.listeners.unix import bind_unix
from broker.listeners.upgrade import Pages
from broker.listeners.websocket import WebSocketOptions, websocket_protocol
from broker.observability.metrics import Counters
from broker.settings import ListenerSettings, SocketPath

_MakeProtocol = Callable[[Origin | None], asyncio.BaseProtocol]


@dataclass(frozen=True, slots=True)
class ListenerSurroundings:
    """What all listeners of a node have in common."""

    connect: Callable[[Entrance, Origin | None], Client]
    """Makes the client of a connection."""
    spawn: Callable[[Coroutine[object, object, None]], None]
    """Starts a task that ends with the node."""
    counters: Counters
    backlog: int
    is_shared: bool
    """Whether other nodes of this machine take connections at the same addresses."""
    maximum_packet_size: int
    lets_anybody_in: bool
    """Whether there are clients who don't have to say who they are."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One that takes connections. `settings` has the port that it got."""

    settings: ListenerSettings
    close: Callable[[], None]
    """Takes no more; those that there are stay."""


async def open_listener(settings: ListenerSettings, around: ListenerSurroundings) -> Listener:
    """Takes connections from now on. Raises StartError if it can't be."""
    context = make_context(settings) if settings.address.kind.is_secure else None
    address = settings.address.address
    if isinstance(address, SocketPath):
        bound = bind_unix(address.path, settings.socket_mode)
        with bound.removed_on_error():
            stop = await _serve(bound.socket, context, settings, around)
        return Listener(settings, partial(_close_both, stop, bound.remove))
    listening = await bind_tcp(address, shared=around.is_shared)
    try:
        stop = await _serve(listening, context, settings, around)
    except BaseException:
        listening.close()
        raise
    return Listener(settings.bound_to(bound_address(listening)), stop)


def _close_both(stop: Callable[[], None], remove: Callable[[], None]) -> None:
    remove()  # first, so that nobody finds a socket at which nobody listens
    stop()


async def _serve(
    listening: socket.socket,
    context: ssl.SSLContext | None,
    settings: ListenerSettings,
    around: ListenerSurroundings,
) -> Callable[[], None]:
    """Answers with what ends it."""
    make_protocol = _protocol(settings, around)
    if context is not None or settings.proxy_protocol:
        listening.listen(around.backlog)
        return Acceptor(
            listening,
            context,
            Proxies(settings.trusted_proxies) if settings.proxy_protocol else None,
            make_protocol,
            around.spawn,
            around.counters.handshakes_failed,
            settings.handshake_timeout_seconds,
        ).close
    loop = asyncio.get_running_loop()
    create = loop.create_unix_server if listening.family == socket.AF_UNIX else loop.create_server
    server = await create(partial(make_protocol, None), sock=listening, backlog=around.backlog)
    return server.close


def _protocol(settings: ListenerSettings, around: ListenerSurroundings) -> _MakeProtocol:
    kind = settings.address.kind
    mount_point = MountPoint(settings.mount_point) if settings.mount_point is not None else None
    connect = partial(around.connect, Entrance(kind.value, mount_point))
    if not kind.is_websocket:
        # A Client is a Protocol by its methods: a compiled class could not inherit from asyncio's.
        return connect  # type: ignore[return-value]  # duck-typed
    options = WebSocketOptions(
        settings.address.path,
        _pages(settings, around),
        around.maximum_packet_size,
        settings.handshake_timeout_seconds,
        around.counters.handshakes_failed,
    )

    def make_protocol(origin: Origin | None) -> asyncio.BaseProtocol:
        return websocket_protocol(partial(connect, origin), options, origin)

    return make_protocol


def _pages(settings: ListenerSettings, around: ListenerSurroundings) -> Pages:
    origins = settings.origins
    if origins is None and not around.lets_anybody_in:
        origins = ("*",)
    trusts_names = settings.is_public or settings.address.kind.is_secure
    return Pages(None if origins is None else frozenset(origins), trusts_names)
