"""What the conductor of a run and its workers say to each other, and the two ways they say it.

A run: the workers connect -> Ready; Begin; Progress and Lap ...; Published; Expect; Outcome. Halt comes at
any time.
"""

import asyncio
import os
import pickle
import socket
import struct
from dataclasses import dataclass, field
from typing import Final, Protocol

from loadtest.board import Snapshot
from loadtest.dashboard import Views
from loadtest.group import GroupPart
from loadtest.histogram import Histogram
from loadtest.plan import Share
from loadtest.returns import Returns
from loadtest.timeline import Lap

_LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Assign:
    """To a child process: this is yours to do."""

    share: Share


@dataclass(frozen=True, slots=True)
class Ready:
    """All connections are open, all subscriptions granted."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Publish from this moment (monotonic nanoseconds) on."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The counts up to now."""

    sent: int
    delivered: int
    away: int = 0  # subscribers that are not connected


@dataclass(frozen=True, slots=True)
class Published:
    """Nothing more will be published. Per source: messages sent, and those the broker answers for."""

    sent: dict[int, int]
    owed: dict[int, int]


@dataclass(frozen=True, slots=True)
class Expect:
    """What was sent from all sources, by all workers: wait for it."""

    sent: dict[int, int]
    owed: dict[int, int]


@dataclass(frozen=True, slots=True)
class Halt:
    """The operator wants the report now."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker couldn't do its share."""

    text: str


@dataclass(frozen=True, slots=True)
class Extra:
    """What some shapes have to tell beside the rest."""

    stored: Histogram = field(default_factory=Histogram)
    returns: Returns | None = None
    views: Views | None = None
    group: GroupPart | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker has seen."""

    begun: Snapshot  # when measuring began: after the warm-up
    ended: Snapshot  # when publishing ended; with a message count: at the last delivery
    finished: Snapshot  # when nothing more was awaited
    missing: int
    duplicates: int
    order_errors: int
    corrupt: int
    refused: int
    unacknowledged: int
    written_off: int
    latency: Histogram
    faults: list[str] = field(default_factory=list)
    extra: Extra = field(default_factory=Extra)


Message = Assign | Ready | Begin | Progress | Published | Expect | Halt | Failed | Outcome | Lap


class Closed(Exception):
    """The other side is gone."""


class Endpoint(Protocol):
    """One side of a link."""

    def send(self, message: Message) -> None:
        """Say something."""

    async def receive(self) -> Message:
        """The next message of the other side. Raises Closed."""


class LocalEndpoint:
    """A link within one process: two queues, bounded by what a run can say."""

    def __init__(self, inbox: asyncio.Queue[Message], outbox: asyncio.Queue[Message]) -> None:
        self._inbox = inbox
        self._outbox = outbox

    @classmethod
    def pair(cls) -> "tuple[LocalEndpoint, LocalEndpoint]":
        """Both ends of a new link."""
        one: asyncio.Queue[Message] = asyncio.Queue()
        other: asyncio.Queue[Message] = asyncio.Queue()
        return cls(one, other), cls(other, one)

    def send(self, message: Message) -> None:
        """See Endpoint."""
        self._outbox.put_nowait(message)

    async def receive(self) -> Message:
        """See Endpoint."""
        return await self._inbox.get()


class SocketEndpoint:
    """A link between a process and its child: pickles over a socket pair that nobody else has."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> "SocketEndpoint":
        """Use one end of a socket pair."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    @classmethod
    async def inherit(cls, fd: int) -> "SocketEndpoint":
        """Use the end that the parent process has left open for us."""
        os.set_inheritable(fd, False)
        return await cls.open(socket.socket(fileno=fd))

    def send(self, message: Message) -> None:
        """See Endpoint."""
        data = pickle.dumps(message)
        self._writer.write(_LENGTH.pack(len(data)) + data)

    async def receive(self) -> Message:
        """See Endpoint."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            message: Message = pickle.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Closed("the other process is gone") from error
        return message

    async def close(self) -> None:
        """Send what is left and close."""
        self._writer.close()
        await self._writer.wait_closed()
