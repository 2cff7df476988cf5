"""How much memory there is, and how much is used: of this process, and of its control group.

The kernel kills by the limit of the control group, which all its processes share (other workers, a private
Redis). Its page cache is given up before that, so it is not counted. Both versions of control groups are
looked at, up to their root: the tightest limit is the one that kills.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_UNLIMITED_BYTES: Final = 1 << 60  # version 1 has no word for none, but a number that no machine has
_PAGE_CACHE: Final = ("inactive_file", "active_file")


@dataclass(frozen=True, slots=True)
class MemoryMark:
    """Where it becomes too much, and how to find out how much there is. `used` raises OSError or ValueError
    if the system does not tell."""

    limit_bytes: int
    used: Callable[[], int]


def resident_bytes(root: Path = Path("/")) -> int:
    """The memory of this process."""
    pages = int((root / "proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cgroup_mark(share: float, root: Path = Path("/")) -> MemoryMark | None:
    """This share of the tightest limit of the control groups of this process; None if there is none."""
    found = [
        (limit, group)
        for group in _groups(root)
        if (limit := _limit(group)) is not None and limit < _UNLIMITED_BYTES
    ]
    if not found:
        return None
    limit, group = min(found, key=lambda each: each[0])
    return MemoryMark(int(limit * share), lambda: _used(group))


@dataclass(frozen=True, slots=True)
class _Group:
    directory: Path
    is_version_2: bool


def _groups(root: Path) -> list[_Group]:
    """From that of this process to the root. In a container the path may be one that is not there: then it is
    the root that is ours."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups: list[_Group] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        place = top / path.lstrip("/")
        groups += [
            _Group(each, not controllers) for each in (place, *place.parents) if each.is_relative_to(top)
        ]
    return groups


def _limit(group: _Group) -> int | None:
    name = "memory.max" if group.is_version_2 else "memory.limit_in_bytes"
    try:
        return int((group.directory / name).read_text())
    except (OSError, ValueError):  # none there, or `max`
        return None


def _used(group: _Group) -> int:
    name, prefix = ("memory.current", "") if group.is_version_2 else ("memory.usage_in_bytes", "total_")
    total = int((group.directory / name).read_text())
    lines = (group.directory / "memory.stat").read_text().splitlines()
    figures = dict(line.split() for line in lines)
    return total - sum(int(figures.get(prefix + each, 0)) for each in _PAGE_CACHE)
