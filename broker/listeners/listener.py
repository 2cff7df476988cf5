"""Opens a listener of any kind: what takes connections, what it makes of each, and how it is closed.

The way of a connection: accepted, the header of a proxy if one is in front, TLS if the kind has it, the
request of WebSocket if it has that, and then a `Client` with a transport that carries nothing but MQTT. What
holds for one listener only is looked at here, before there is a `Client`.
"""

import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from broker.client import Client, Entrance, MountPoint, Peer
from broker.errors import StartError
from broker.listeners.acceptor import Acceptor
from broker.listeners.admission import Admission, Gate, Visit
from broker.listeners.introducing import Introduction, MakeProtocol
from broker.listeners.proxied import Proxies
from broker.listeners.rates import throttling_of
from broker.listeners.tcp import bind_tcp, bound_address
from broker.listeners.unix import bind_unix
from broker.listeners.upgrade import Pages
from broker.listeners.websocket import WebSocketOptions, websocket_protocol
from broker.listeners.wires import Wires
from broker.observability.metrics import Counters
from broker.settings import LimitSettings, ListenerSettings, SocketPath

if TYPE_CHECKING:  # large, and only for those that are secure
    from broker.listeners.tls import Handshake
    from broker.listeners.tls_files import CurrentFiles


@dataclass(frozen=True, slots=True)
class ListenerSurroundings:
    """What all listeners of a node have in common."""

    connect: Callable[[Entrance, Peer | None, Visit], Client]
    """Makes the client of a connection."""
    spawn: Callable[[Coroutine[object, object, None]], None]
    """Starts a task that ends with the node."""
    counters: Counters
    backlog: int
    is_shared: bool
    """Whether other nodes of this machine take connections at the same addresses."""
    maximum_packet_size: int
    lets_anybody_in: Callable[[ListenerSettings], bool]
    """Whether a listener has clients who don't have to say who they are."""
    review: Callable[[str], Coroutine[object, object, None]]
    """Disconnects clients of the listener of this name whose certificates are revoked."""
    admission: Admission
    limits: LimitSettings
    is_banned: Callable[[str], bool]
    """Of an address; asked before anything of a connection is read."""
    level_of: Callable[[ListenerSettings], int] = lambda _: 0
    """The durability level of a listener."""
    wires: Wires | None = None
    """Where connections that carry nothing but MQTT are served, if not by the event loop."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One that takes connections. `settings` has the port that it got."""

    settings: ListenerSettings
    close: Callable[[], None]
    """Takes no more; those that there are stay."""


async def open_listener(name: str, settings: ListenerSettings, around: ListenerSurroundings) -> Listener:
    """Takes connections from now on. Raises StartError if it can't be."""
    files = _read_files(name, settings, around.counters) if settings.address.kind.is_secure else None
    make_protocol = _protocol(name, settings, around, files)
    gate = around.admission.gate(name, settings.connections_maximum, settings.connects_per_second)
    address = settings.address.address
    if isinstance(address, SocketPath):
        bound = bind_unix(address.path, settings.socket_mode)
        with bound.removed_on_error():
            stop = _serve(bound.socket, gate, make_protocol, files, settings, around)
        return Listener(settings, partial(_close_both, stop, bound.remove))
    listening = await bind_tcp(address, shared=around.is_shared)
    try:
        stop = _serve(listening, gate, make_protocol, files, settings, around)
    except BaseException:
        listening.close()
        raise
    if files is not None:
        around.spawn(files.follow(lambda: around.spawn(around.review(name))))
    return Listener(settings.bound_to(bound_address(listening)), stop)


def _close_both(stop: Callable[[], None], remove: Callable[[], None]) -> None:
    remove()  # first, so that nobody finds a socket at which nobody listens
    stop()


def _read_files(name: str, settings: ListenerSettings, counters: Counters) -> "CurrentFiles":
    from broker.listeners.tls_files import CurrentFiles

    try:
        return CurrentFiles(name, settings, counters)
    except ValueError as error:
        raise StartError(f"can't listen on {settings.address}: {error}") from None


def _serve(
    listening: socket.socket,
    gate: Gate,
    make_protocol: MakeProtocol,
    files: "CurrentFiles | None",
    settings: ListenerSettings,
    around: ListenerSurroundings,
) -> Callable[[], None]:
    """Answers with what ends it."""
    listening.listen(around.backlog)
    introduction: Introduction | None = None
    if settings.proxy_protocol or files is not None:
        introduction = Introduction(
            Proxies(settings.trusted_proxies) if settings.proxy_protocol else None,
            _handshake(files, around.counters) if files is not None else None,
            make_protocol,
            around.counters.handshakes_failed,
            settings.handshake_timeout_seconds,
            around.is_banned,
        )
    wires = None if settings.address.kind.is_websocket else around.wires
    return Acceptor(listening, gate, introduction, make_protocol, around.spawn, around.is_banned, wires).close


def _handshake(files: "CurrentFiles", counters: Counters) -> "Handshake":
    from broker.listeners.tls import Handshake

    return Handshake(files, counters.handshakes_failed)


def _protocol(
    name: str, settings: ListenerSettings, around: ListenerSurroundings, files: "CurrentFiles | None"
) -> MakeProtocol:
    kind = settings.address.kind
    mount_point = MountPoint(settings.mount_point) if settings.mount_point is not None else None
    is_revoked = files.is_revoked if files is not None and settings.crl is not None else None
    throttling = throttling_of(name, settings, around.limits, around.admission.clock())
    level = around.level_of(settings)
    entrance = Entrance(kind.value, name, mount_point, is_revoked, throttling, level=level)
    connect = partial(around.connect, entrance)
    if not kind.is_websocket:
        # A Client is a Protocol by its methods: a compiled class could not inherit from asyncio's.
        return connect  # type: ignore[return-value]  # duck-typed
    options = WebSocketOptions(
        settings.address.path,
        choose_pages(settings, around.lets_anybody_in(settings)),
        around.maximum_packet_size,
        settings.handshake_timeout_seconds,
        around.counters.handshakes_failed,
    )
    return partial(websocket_protocol, connect, options)


def choose_pages(settings: ListenerSettings, lets_anybody_in: bool) -> Pages:
    """Which pages may connect, by what is said and what is not."""
    origins = settings.origins
    # A browser shows the certificate of its user for whatever page it is.
    is_open = lets_anybody_in or settings.client_certificates != "none"
    if origins is None and not is_open:
        origins = ("*",)
    trusts_names = settings.is_public or settings.address.kind.is_secure
    return Pages(None if origins is None else frozenset(origins), trusts_names)
