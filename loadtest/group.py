"""A shared group: each message for one member, whichever; so what came is an account of all members together.

Order is not promised over the members [MQTT-4.6.0-6 speaks of non-shared subscriptions], and isn't looked at.
Members may be in several processes: what each process got is added up by the conductor.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from loadtest.board import Board
from loadtest.plan import Plan
from loadtest.stream import Stream
from loadtest.subscriber import Credit, Subscriber

_STEP: Final = 4096


class GroupStream(Stream):
    """The messages of one publisher that any member got: a byte for each."""

    __slots__ = ("_count", "marks")

    def __init__(self) -> None:
        super().__init__()
        self.expected = -1  # so that each message is irregular, and noted here
        self.marks = bytearray()
        self._count = 0

    def take_irregular(self, number: int) -> None:
        """See Stream."""
        if number >= len(self.marks):
            self.marks.extend(bytes(number + _STEP - len(self.marks)))
        if self.marks[number]:
            self.duplicates += 1
        else:
            self.marks[number] = 1
            self._count += 1

    @property
    def received(self) -> int:
        """See Stream."""
        return self._count


class Member(Subscriber):
    """A subscriber that shares its streams with the other members in this process."""

    def __init__(
        self, number: int, plan: Plan, board: Board, credit: Credit | None, streams: dict[int, Stream]
    ) -> None:
        super().__init__(number, plan, board, credit)
        self.streams = streams

    def _known_streams(self, plan: Plan) -> dict[int, Stream]:
        return {}


@dataclass(frozen=True, slots=True)
class GroupAccount:
    """What became of the messages of a shared group."""

    lost: int
    duplicates: int


@dataclass(slots=True)
class GroupPart:
    """What the members in one process got: per publisher a byte for each message, and how many came twice."""

    marks: dict[int, bytes] = field(default_factory=dict)
    duplicates: int = 0

    @classmethod
    def of(cls, streams: dict[int, Stream]) -> "GroupPart":
        """Of the streams that the members share."""
        marks = {source: bytes(s.marks) for source, s in streams.items() if isinstance(s, GroupStream)}
        return cls(marks, sum(stream.duplicates for stream in streams.values()))


def add_up_group(parts: Sequence[GroupPart], owed: dict[int, int]) -> GroupAccount:
    """What is missing in all processes, and what came more than once, wherever."""
    lost = 0
    duplicates = sum(part.duplicates for part in parts)
    for source in {source for part in parts for source in part.marks}:
        marks = [part.marks[source] for part in parts if source in part.marks]
        distinct = _union(marks).count(1)
        duplicates += sum(mark.count(1) for mark in marks) - distinct
        lost += max(0, owed.get(source, 0) - distinct)
    return GroupAccount(lost, duplicates)


def _union(marks: Sequence[bytes]) -> bytes:
    either = 0
    for mark in marks:
        either |= int.from_bytes(mark, "little")
    return either.to_bytes(max(map(len, marks), default=0), "little")
