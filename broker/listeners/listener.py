"""Opens a listener of any kind: what takes connections, what it makes of each, and how it is closed.

The way of a connection: accepted, TLS if the kind has it, the request of WebSocket if it has that, and then a
`Client` with a transport that carries nothing but MQTT. What holds for one listener only is looked at here,
before there is a `Client`.
"""

import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from broker.client import Client, Entrance, MountPoint
from broker.errors import StartError
from broker.listeners.acceptor import Acceptor, MakeProtocol, PlainAcceptor
from broker.listeners.admission import Admission, Gate, Visit
from broker.listeners.rates import throttling_of
from broker.listeners.tcp import bind_tcp
from broker.listeners.websocket import WebSocketOptions, websocket_protocol
from broker.observability.metrics import Counters
from broker.settings import Address, Kind, LimitSettings, ListenerSettings

if TYPE_CHECKING:  # large, and only for those that are secure
    from broker.listeners.tls_files import CurrentFiles


@dataclass(frozen=True, slots=True)
class ListenerSurroundings:
    """What all listeners of a node have in common."""

    connect: Callable[[Entrance, Visit], Client]
    """Makes the client of a connection."""
    spawn: Callable[[Coroutine[object, object, None]], None]
    """Starts a task that ends with the node."""
    counters: Counters
    backlog: int
    is_shared: bool
    """Whether other nodes of this machine take connections at the same addresses."""
    maximum_packet_size: int
    review: Callable[[str], Coroutine[object, object, None]]
    """Disconnects clients of the listener of this name whose certificates are revoked."""
    admission: Admission
    limits: LimitSettings


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
    listening = await bind_tcp(settings.address.address, shared=around.is_shared)
    try:
        place = Address(*listening.getsockname()[:2])
        listening.listen(around.backlog)
        acceptor: Acceptor
        if files is None:
            acceptor = PlainAcceptor(listening, gate, make_protocol)
        else:
            acceptor = _secure_acceptor(listening, gate, make_protocol, files, settings, around)
            around.spawn(files.follow(lambda: around.spawn(around.review(name))))
    except BaseException:
        listening.close()
        raise
    return Listener(settings.bound_to(place), acceptor.close)


def _read_files(name: str, settings: ListenerSettings, counters: Counters) -> "CurrentFiles":
    from broker.listeners.tls_files import CurrentFiles

    try:
        return CurrentFiles(name, settings, counters)
    except ValueError as error:
        raise StartError(f"can't listen on {settings.address}: {error}") from None


def _protocol(
    name: str, settings: ListenerSettings, around: ListenerSurroundings, files: "CurrentFiles | None"
) -> MakeProtocol:
    kind: Kind = settings.address.kind
    mount_point = MountPoint(settings.mount_point) if settings.mount_point is not None else None
    is_revoked = files.is_revoked if files is not None and settings.crl is not None else None
    throttling = throttling_of(name, settings, around.limits, around.admission.clock())
    connect = partial(around.connect, Entrance(kind.value, name, mount_point, is_revoked, throttling))
    if not kind.is_websocket:
        # A Client is a Protocol by its methods: a compiled class could not inherit from asyncio's.
        return connect  # type: ignore[return-value]  # duck-typed
    options = WebSocketOptions(
        settings.address.path,
        around.maximum_packet_size,
        settings.handshake_timeout_seconds,
        around.counters.handshakes_failed,
    )
    return partial(websocket_protocol, connect, options)


def _secure_acceptor(
    listening: socket.socket,
    gate: Gate,
    make_protocol: MakeProtocol,
    files: "CurrentFiles",
    settings: ListenerSettings,
    around: ListenerSurroundings,
) -> Acceptor:
    from broker.listeners.tls import SecureAcceptor

    return SecureAcceptor(
        listening,
        gate,
        make_protocol,
        files,
        around.spawn,
        around.counters.handshakes_failed,
        settings.handshake_timeout_seconds,
    )
