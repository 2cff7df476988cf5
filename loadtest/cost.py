"""What the broker costs: processor time and memory of its processes and their children, from /proc."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


class CostError(ValueError):
    """The processes can't be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a set of processes has used up to now."""

    cpu_seconds: Mapping[int, float] = field(default_factory=dict)  # by process id
    rss_bytes: int = 0

    def cpu_seconds_since(self, earlier: "Usage") -> float:
        """Processor seconds used since `earlier`. A process that has started since counts from its start."""
        return sum(used - earlier.cpu_seconds.get(pid, 0.0) for pid, used in self.cpu_seconds.items())


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    cpu_seconds: float
    rss_bytes: int


def _read_process(pid: int) -> _Process | None:
    """The figures of one process; None if it is gone. See proc(5)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The name, in parentheses, may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return _Process(
        parent=int(fields[1]),
        cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
        rss_bytes=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
    )


def _read_all() -> dict[int, _Process]:
    found: dict[int, _Process] = {}
    for entry in os.scandir(_PROC):
        if entry.name.isdigit() and (process := _read_process(int(entry.name))) is not None:
            found[int(entry.name)] = process
    return found


def _family(pids: Iterable[int], processes: Mapping[int, _Process]) -> set[int]:
    """The processes and all that descend from them."""
    members = set(pids)
    growing = True
    while growing:
        children = {pid for pid, process in processes.items() if process.parent in members} - members
        members |= children
        growing = bool(children)
    return members


def measure_usage(pids: Iterable[int]) -> Usage:
    """What these processes and their children have used. Raises CostError if one of `pids` doesn't exist."""
    wanted = list(pids)
    if not wanted:
        return Usage()
    if not _PROC.joinpath("self", "stat").exists():
        raise CostError("--pid needs /proc, as Linux has it")
    processes = _read_all()
    missing = [pid for pid in wanted if pid not in processes]
    if missing:
        raise CostError(f"no such process: {', '.join(map(str, missing))}")
    members = {pid: processes[pid] for pid in _family(wanted, processes)}
    return Usage(
        cpu_seconds={pid: process.cpu_seconds for pid, process in members.items()},
        rss_bytes=sum(process.rss_bytes for process in members.values()),
    )
