"""A client that comes back: it connects to any node, looks after its connection, and tells the record.

What publishers and subscribers add is in `publisher` and `subscriber`. All decisions come from the client's
own `random.Random`, made from the seed of the run and the client's name: the same seed gives the same
decisions, though not the same moments.
"""

import asyncio
import random
from asyncio import FIRST_COMPLETED
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from broker.mqtt import MQTT_5, Connack, Connect, Disconnect, Packet, Properties, Will
from tests.cluster.record import Broken, Connected, Connecting, Left, Lost, Message, Record, WillSet
from tests.cluster.wire import Wire, connack_of, open_wire

PING_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 2.0
"""A node that does not answer PINGREQ for so long is left for another one."""
CONNACK_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 0.02
LEAVE_SECONDS: Final = 2.0
KICK_SECONDS: Final = 6.0
"""A connection that was taken over must be closed by its node within so long."""
_EXPIRY_SECONDS: Final = 3600
_PASSING: Final = frozenset({0x03, 0x88, 0x89, 0x97, 0x9C, 0x9D})
"""CONNACK refuses for now: Redis is away, or the node is draining (3: so in MQTT 3.1.1)."""


class Place(Protocol):
    """A node that clients may connect to."""

    @property
    def name(self) -> str:
        """For the record."""

    @property
    def port(self) -> int:
        """Where it listens."""


class Places(Protocol):
    """What the drivers know of the cluster."""

    def choose(self, chance: random.Random, avoid: str = "") -> Place | None:
        """A node that is meant to work, another one than `avoid` if there is one; None if none works."""


class Move(Enum):
    """How a connection is given up."""

    CUT = "cut"  # reset, without a word
    LEAVE = "leave"  # DISCONNECT
    ABANDON = "abandon"  # left open: the next connection takes the session over


@dataclass(frozen=True, slots=True)
class Profile:
    """What kind of client it is. `will_topic`: each connection has a will on it. `ping_seconds`,
    `patience_seconds`: thousands of clients can't ask as often as a few."""

    name: str
    version: int = MQTT_5
    is_persistent: bool = True
    receive_maximum: int | None = None
    will_topic: str = ""
    will_qos: int = 1
    ping_seconds: float = PING_SECONDS
    patience_seconds: float = PATIENCE_SECONDS


Strike = Callable[[str], Move | None]
"""Called after each step of a handshake; an answer gives the connection up there."""


def no_strike(_step: str) -> Move | None:
    """Nothing happens."""
    return None


class Client:
    """Run `run` as a task; `stop` ends it."""

    def __init__(self, profile: Profile, places: Places, record: Record, seed: object) -> None:
        self.profile = profile
        self.name = profile.name
        self.random = random.Random(f"{seed}/{profile.name}")
        self.strike: Strike = no_strike
        self.record = record
        self.comes_back = True  # after a connection that was lost
        self.abandoned: list[Wire] = []  # connections that were left open
        self.takeovers = 0  # DISCONNECT 0x8E that came
        self._places = places
        self._wire: Wire | None = None
        self._why = "first"
        self._avoid = ""
        self._destinations: tuple[Place, ...] = ()
        self._wills = 0
        self._changed = asyncio.Event()  # a connection is there, or gone, or something was acknowledged
        self._is_stopping = False
        self._taken_over = 0  # so many of the abandoned ones: the others had no successor
        self._farewells: list[Wire] = []

    # For tests

    @property
    def node(self) -> str:
        """Where it is connected; empty if it is not."""
        return self._wire.node if self._wire is not None else ""

    @property
    def is_connected(self) -> bool:
        """Whether CONNACK has come and the connection has not ended."""
        return self._wire is not None

    async def run(self) -> None:
        """Keeps connected until `stop`."""
        while not self._is_stopping:
            wire = await self._connect()
            if wire is not None:
                await self._watch(wire)
            await self._say_farewell()
        await self._clear()

    def stop(self) -> None:
        """Ends `run`, and the connection with DISCONNECT."""
        self._is_stopping = True
        self.move(Move.LEAVE)
        self.changed()

    def move(self, how: Move, *to: Place) -> None:
        """Gives the connection up and goes to another node, or to this one. With two it sends CONNECT to both
        in the same moment, as two devices with one Client Identifier would, and goes on with the one that
        stays."""
        wire = self._wire
        self._destinations = to
        if wire is None:
            return
        wire.drop()
        if how is Move.CUT:
            wire.abort()
        elif how is Move.ABANDON:
            self.abandoned.append(wire)
        else:
            wire.send(Disconnect(0))
            self._farewells.append(wire)
        self._gone(wire, "takeover" if how is Move.ABANDON else "moved", how is not Move.LEAVE)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until it holds; looked at whenever something changes at this client."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def changed(self) -> None:
        """Wakes who waits in `until`."""
        self._changed.set()

    # For publishers and subscribers

    def on_connected(self, session_present: bool) -> None:
        """CONNACK has come: send again what must be."""

    def on_packet(self, packet: Packet) -> None:
        """Anything but CONNACK, DISCONNECT and PINGRESP."""
        self.broken(f"unexpected {packet!r}")

    def send(self, *packets: Packet) -> None:
        """Nothing happens without a connection."""
        if self._wire is not None:
            self._wire.send(*packets)

    def struck(self, step: str) -> bool:
        """After a step of a handshake: whether the connection was given up here."""
        how = self.strike(step)
        if how is not None and self._wire is not None:
            self.move(how)
        return self._wire is None

    def broken(self, text: str) -> None:
        """Notes what no broker may do."""
        self.record.add(Broken(self.record.clock(), self.name, text))

    # Life of a connection

    async def _connect(self) -> Wire | None:
        """One attempt."""
        places, self._destinations = self._destinations, ()
        if not places:
            place = self._places.choose(self.random, self._avoid)
            places = (place,) if place is not None else ()
        attempts = await asyncio.gather(*[self._open(place) for place in places])
        opened = [wire for wire in attempts if wire is not None]
        wire = await self._survivor(opened)
        if wire is not None and not self._is_stopping:
            self.use(wire, wire.connack.result())
            return wire
        for each in opened:
            each.abort()
        self._avoid = places[0].name if places else ""
        await asyncio.sleep(RETRY_SECONDS)
        return None

    async def _open(self, place: Place) -> Wire | None:
        """Sends CONNECT; None if nobody listens."""
        connect, will = self._packet()
        try:
            wire = await open_wire(place.port, self.profile.version, place.name, connect)
        except OSError:
            return None
        if will is not None:
            self.record.add(WillSet(self.record.clock(), self.name, will, place.name))
        self.record.add(Connecting(self.record.clock(), self.name, place.name, self._why))
        return wire

    async def _survivor(self, wires: list[Wire]) -> Wire | None:
        """The connection that is accepted and stays: all but one must be closed by their nodes."""
        for wire in wires:
            connack = await connack_of(wire, CONNACK_SECONDS)
            if connack is not None and connack.reason_code and not _is_passing(connack):
                self.broken(f"refused by {wire.node}: {connack!r}")
        deadline = asyncio.get_running_loop().time() + KICK_SECONDS
        accepted = [wire for wire in wires if _is_accepted(wire)]
        while len(accepted) > 1:
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait(
                [wire.closed for wire in accepted], timeout=max(0.0, left), return_when=FIRST_COMPLETED
            )
            if left <= 0:
                self.broken(f"{[wire.node for wire in accepted]} both keep a connection of this client")
                return None
            accepted = [wire for wire in accepted if _is_accepted(wire)]
        return accepted[0] if accepted else None

    def use(self, wire: Wire, connack: Connack) -> None:
        """This connection is the client's from now on."""
        is_persistent = self.profile.is_persistent
        self.record.add(
            Connected(self.record.clock(), self.name, wire.node, connack.session_present, is_persistent)
        )
        self._wire = wire
        self._taken_over = len(self.abandoned)
        self._why = "lost"
        self._avoid = ""
        self.on_connected(connack.session_present)
        if self._wire is wire:
            wire.adopt(self.on_packet)
        self.changed()

    def _packet(self) -> tuple[Connect, Message | None]:
        profile = self.profile
        properties: Properties | None = None
        if profile.version == MQTT_5:
            properties = Properties(
                session_expiry_interval=_EXPIRY_SECONDS if profile.is_persistent else 0,
                receive_maximum=profile.receive_maximum,
            )
        will: Message | None = None
        if profile.will_topic:
            self._wills += 1
            will = Message(self.name, profile.will_topic, profile.will_qos, self._wills)
        packet = Connect(
            self.name,
            profile.version,
            not profile.is_persistent,
            0,
            will=Will(will.topic, will.payload(), will.qos, False) if will is not None else None,
            properties=properties,
        )
        return packet, will

    async def _watch(self, wire: Wire) -> None:
        """Until it is not the client's connection any more."""
        while self._wire is wire:
            await asyncio.wait([wire.over], timeout=self.profile.ping_seconds)
            if self._wire is not wire:
                break
            if wire.closed.done() or wire.silence_seconds() > self.profile.patience_seconds:
                self._note_end(wire)
                wire.abort()
                self._gone(wire, "lost", is_lost=True)
                self._is_stopping = self._is_stopping or not self.comes_back
            else:
                wire.ping()

    def _note_end(self, wire: Wire) -> None:
        if wire.error:
            self.broken(wire.error)
        if wire.farewell == 0x8E:
            self.takeovers += 1
        elif wire.farewell is not None and wire.farewell not in (0x89, 0x8B, 0x9C, 0x9D):
            self.broken(f"DISCONNECT 0x{wire.farewell:02X} from {wire.node}")

    def _gone(self, wire: Wire, why: str, is_lost: bool) -> None:
        self._wire = None
        self._why = why
        self._avoid = wire.node
        if is_lost:
            self.record.add(Lost(self.record.clock(), self.name, wire.node))
        self.changed()

    async def _say_farewell(self) -> None:
        """Waits until the node has closed after our DISCONNECT: before that nobody knows that it counted."""
        for wire in self._farewells:
            done, _ = await asyncio.wait([wire.closed], timeout=LEAVE_SECONDS)
            self.record.add(Left(self.record.clock(), self.name, wire.node, bool(done)))
            wire.abort()
        self._farewells.clear()

    async def _clear(self) -> None:
        """Abandoned connections must have been closed by their nodes; all sockets are closed here."""
        taken_over = self.abandoned[: self._taken_over]
        waiting = [wire.closed for wire in taken_over if not wire.closed.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=KICK_SECONDS)
        for wire in taken_over:
            if not wire.closed.done():
                self.broken(f"{wire.node} keeps a connection that was taken over")
        for wire in self.abandoned:
            wire.abort()


def _is_accepted(wire: Wire) -> bool:
    return (
        wire.is_open
        and wire.connack.done()
        and not wire.connack.cancelled()
        and not wire.connack.result().reason_code
    )


def _is_passing(connack: Connack) -> bool:
    """Whether this refusal says: not now, or that a newer connection of this client was faster."""
    reason = (connack.properties.reason_string if connack.properties is not None else None) or ""
    return connack.reason_code in _PASSING or "stopping" in reason or "another connection" in reason
