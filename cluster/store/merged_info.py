"""INFO of several primaries as if they were one. No I/O.

For people: what they have together, and the worst of what each is. For alarms: the memory of the one that is
fullest, as it is full for all that it serves.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

_MERGED: Final[Mapping[str, Callable[[list[int]], int]]] = {
    "used_memory": sum,
    "maxmemory": lambda each: sum(each) if all(each) else 0,
    "instantaneous_ops_per_sec": sum,
    "connected_clients": sum,
    "uptime_in_seconds": min,
    "connected_slaves": min,
    "aof_enabled": min,
    "aof_delayed_fsync": sum,
}
_FILE: Final = ("aof_last_write_status", "aof_last_bgrewrite_status")
_GOOD: Final = {"maxmemory_policy": "noeviction", **dict.fromkeys(_FILE, "ok")}
_MEMORY: Final = ("used_memory", "maxmemory")


def merged(infos: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Fields of all of them; what is not in the table is that of the first."""
    fields = dict(infos[0])
    for name, merge in _MERGED.items():
        if name in fields:
            fields[name] = str(merge([_number(info, name) for info in infos]))
    for name, good in _GOOD.items():
        values = [info[name] for info in infos if name in info]
        fields |= {name: next((value for value in values if value != good), good)} if values else {}
    return fields


def figures(infos: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """The numbers, for alarms. `aof_failed`: 1 if the last write of an append-only file, or its last rewrite,
    did not go well."""
    fullest = max(infos, key=_fullness)
    fields = merged(infos) | {name: fullest[name] for name in _MEMORY if name in fullest}
    numbers = {name: int(value) for name, value in fields.items() if value.lstrip("-").isdecimal()}
    return numbers | {"aof_failed": int(any(fields.get(name, "ok") != "ok" for name in _FILE))}


def _fullness(info: Mapping[str, str]) -> float:
    return _number(info, "used_memory") / (_number(info, "maxmemory") or 1 << 62)


def _number(info: Mapping[str, str], name: str) -> int:
    text = info.get(name, "0")
    return int(text) if text.isdecimal() else 0
