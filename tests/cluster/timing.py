"""How long clients were without service, from a record."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.cluster.record import (
    Connected,
    Connecting,
    Delivered,
    Event,
    FaultBegan,
    FaultEnded,
    Left,
    Lost,
    Message,
    Published,
)

KILL = "kill"
"""How the kinds of all faults begin that end a process at once."""


@dataclass(slots=True)
class Timings:
    """Seconds. `fail_over`: from a kill to the first message of a client that was connected there, on its
    next connection. `resumed`: from the CONNECT of that one to CONNACK and the first message. `connack`: to
    CONNACK alone. `takeover`: from CONNECT to CONNACK while an earlier connection was still open."""

    fail_over: list[float] = field(default_factory=list)
    resumed: list[float] = field(default_factory=list)
    connack: list[float] = field(default_factory=list)
    takeover: list[float] = field(default_factory=list)

    def add(self, other: "Timings") -> None:
        """Those of another record."""
        self.fail_over += other.fail_over
        self.resumed += other.resumed
        self.connack += other.connack
        self.takeover += other.takeover


@dataclass(slots=True)
class _Client:
    node: str = ""
    killed_at: float | None = None
    connecting_at: float = 0.0
    target: str = ""
    is_clear: bool = True  # nothing was struck between CONNECT and CONNACK that they need
    why: str = ""
    is_back: bool = False  # after a kill, and has not got anything yet


def timings(record: Sequence[Event]) -> Timings:
    """Of all clients in a record. What is struck a second time before it is served again is left
    out, and so is who had no message waiting when it came back."""
    found = Timings()
    clients: dict[str, _Client] = {}
    struck: set[str] = set()
    published: dict[Message, float] = {}
    for event in record:
        if isinstance(event, FaultBegan):
            struck.add(event.node)
            for client in clients.values():
                _struck(client, event)
            continue
        if isinstance(event, FaultEnded):
            struck.discard(event.node)
            continue
        client = clients.setdefault(event.client, _Client())
        if isinstance(event, Connecting):
            client.connecting_at = event.at
            client.why = event.why
            client.target = event.node
            client.is_clear = not struck.intersection((event.node, ""))
        elif isinstance(event, Connected):
            _connected(found, client, event)
        elif isinstance(event, Lost | Left):
            client.node = ""
            if client.is_back:
                client.killed_at = None
        elif isinstance(event, Published):
            published.setdefault(event.message, event.at)
        elif isinstance(event, Delivered) and client.is_back and client.killed_at is not None:
            if published.get(event.message, event.at) < client.connecting_at:
                found.fail_over.append(event.at - client.killed_at)
                found.resumed.append(event.at - client.connecting_at)
            client.killed_at = None
    return found


def _struck(client: _Client, event: FaultBegan) -> None:
    client.is_clear = client.is_clear and event.node not in (client.target, "")
    if client.killed_at is not None and event.node in (client.node, ""):
        client.killed_at = None
    elif event.kind.startswith(KILL) and client.node and client.node == event.node:
        client.killed_at = event.at
        client.is_back = False


def _connected(found: Timings, client: _Client, event: Connected) -> None:
    client.node = event.node
    if client.why == "takeover" and client.is_clear:
        found.takeover.append(event.at - client.connecting_at)
    if client.killed_at is None:
        return
    if client.is_clear:
        found.connack.append(event.at - client.connecting_at)
        client.is_back = True
    else:
        client.killed_at = None


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank; 0.0 if there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
