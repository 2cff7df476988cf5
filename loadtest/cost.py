"""What the broker costs: processor time and memory of its processes and their children, from /proc.

Redis (or Valkey) is told apart from the broker that uses it: by its program's name, or as it was named.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_REDIS_PROGRAMS: Final = frozenset({"redis-server", "valkey-server"})


class CostError(ValueError):
    """The processes can't be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Pids:
    """The processes to measure, each with all that descend from it."""

    named: tuple[int, ...] = ()
    redis: tuple[int, ...] = ()  # of those that are Redis by another name

    @classmethod
    def of(cls, broker: Iterable[int] | None = None, redis: Iterable[int] | None = None) -> "Pids":
        """As they stand on the command line."""
        also = tuple(redis or ())
        return cls((*(broker or ()), *also), also)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a set of processes has used up to now."""

    cpu_seconds: Mapping[int, float] = field(default_factory=dict)  # by process id
    rss_bytes: int = 0
    redis: "Usage | None" = None  # the part of Redis; None if none of them is one

    def cpu_seconds_since(self, earlier: "Usage") -> float:
        """Processor seconds used since `earlier`. A process that has started since counts from its start."""
        return sum(used - earlier.cpu_seconds.get(pid, 0.0) for pid, used in self.cpu_seconds.items())

    @property
    def broker(self) -> "Usage":
        """The rest."""
        if self.redis is None:
            return self
        theirs = self.redis.cpu_seconds
        ours = {pid: used for pid, used in self.cpu_seconds.items() if pid not in theirs}
        return Usage(ours, self.rss_bytes - self.redis.rss_bytes)


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    name: str
    cpu_seconds: float
    rss_bytes: int


def _read_process(pid: int) -> _Process | None:
    """The figures of one process; None if it is gone. See proc(5)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name, in parentheses, may itself hold spaces and parentheses.
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    ticks = int(fields[11]) + int(fields[12])
    return _Process(
        parent=int(fields[1]),
        name=head.partition("(")[2],
        cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
        rss_bytes=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
    )


def _read_all(_: Iterable[int]) -> dict[int, _Process]:
    found: dict[int, _Process] = {}
    for entry in os.scandir(_PROC):
        if entry.name.isdigit() and (process := _read_process(int(entry.name))) is not None:
            found[int(entry.name)] = process
    return found


def _read_descendants(pids: Iterable[int]) -> dict[int, _Process]:
    """The processes and those that descend from them, as far as the kernel tells; one may be overlooked."""
    found: dict[int, _Process] = {}
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid not in found and (process := _read_process(pid)) is not None:
            found[pid] = process
            waiting += _children(pid)
    return found


def _children(pid: int) -> list[int]:
    directory = f"{_PROC}/{pid}/task"
    try:
        texts = [Path(directory, thread, "children").read_text() for thread in os.listdir(directory)]
    except OSError:  # it has just ended, or this kernel does not tell
        return []
    return [int(child) for text in texts for child in text.split()]


def _family(pids: Iterable[int], processes: Mapping[int, _Process]) -> set[int]:
    """The processes and all that descend from them."""
    members = set(pids)
    growing = True
    while growing:
        children = {pid for pid, process in processes.items() if process.parent in members} - members
        members |= children
        growing = bool(children)
    return members


def _measure(pids: Pids, read: Callable[[Iterable[int]], dict[int, _Process]]) -> Usage:
    if not pids.named:
        return Usage()
    if not _PROC.joinpath("self", "stat").exists():
        raise CostError("--pid needs /proc, as Linux has it")
    processes = read(pids.named)
    missing = [pid for pid in pids.named if pid not in processes]
    if missing:
        raise CostError(f"no such process: {', '.join(map(str, missing))}")
    members = _family(pids.named, processes)
    servers = [pid for pid in members if processes[pid].name in _REDIS_PROGRAMS]
    redis = _family((*servers, *pids.redis), processes) if servers or pids.redis else set()
    return _total(members, processes, _total(redis, processes, None) if redis else None)


def _total(members: Iterable[int], processes: Mapping[int, _Process], redis: Usage | None) -> Usage:
    return Usage(
        cpu_seconds={pid: processes[pid].cpu_seconds for pid in members},
        rss_bytes=sum(processes[pid].rss_bytes for pid in members),
        redis=redis,
    )


def measure_usage(pids: Pids) -> Usage:
    """What these processes and their children have used. Raises CostError if one of them doesn't exist.

    It looks at all processes of the machine, which takes milliseconds: not for the middle of a measurement.
    """
    return _measure(pids, _read_all)


def glance_at_usage(pids: Pids) -> Usage | None:
    """The same in a tenth of a millisecond per process, for the middle of a measurement.

    None if a process is gone; a child that begins or ends at this instant may be missing.
    """
    try:
        return _measure(pids, _read_descendants)
    except CostError:
        return None
