"""The alarms that are raised, of all nodes, in Redis.

Each node writes its own, and writes them again while they last. What was not written again within
`LIFETIME_MS` is of a node that is gone, however it ended: nobody shows it any more, and whoever writes next
takes it away. Times are those of Redis.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import orjson
from pydantic import TypeAdapter, ValidationError

from cluster.store.store import Store

LIFETIME_MS: Final = 60_000
REFRESH_SECONDS: Final = 20.0
SHOWN_MAXIMUM: Final = 100
"""On `$SYS/brokers/alarms`."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One that is raised. `value` is of that moment, `threshold` what it was compared with; `text` says it in
    words."""

    name: str
    severity: str
    node: str
    since_ms: int
    value: float
    threshold: float
    text: str
    until_ms: int = 0

    @property
    def runbook(self) -> str:
        """What to do about it."""
        return f"docs/runbook.md#{self.name.replace('_', '-')}"


_READER: Final = TypeAdapter(Alarm)


class AlarmBook:
    """For the node of `incarnation`, or for a process that only looks."""

    def __init__(self, store: Store, incarnation: str) -> None:
        self._store = store
        self._incarnation = incarnation
        self.own: tuple[Alarm, ...] = ()
        """Of this node: known even if Redis is away."""

    async def all(self) -> list[Alarm]:
        """Of all nodes, critical ones first; of this one as they are now, as Redis takes none when it is
        full. Raises StoreError."""
        now_ms = await self._store.time_ms()
        stored = await self._store.alarms()
        ours = self._field("").encode()
        others = [_unpack(record) for field, record in stored.items() if not field.startswith(ours)]
        living = [alarm for alarm in others if alarm is not None and alarm.until_ms > now_ms]
        return in_order([*self.own, *living])

    async def write(self) -> None:
        """Brings Redis up to date with `own`. Raises StoreError."""
        now_ms = await self._store.time_ms()
        lasting = {"until_ms": now_ms + LIFETIME_MS}
        own = {self._field(alarm.name): orjson.dumps(asdict(alarm) | lasting) for alarm in self.own}
        gone = [
            name
            for field, record in (await self._store.alarms()).items()
            if (name := field.decode()) not in own
            and (name.startswith(self._field("")) or _is_over(_unpack(record), now_ms))
        ]
        if gone:
            await self._store.drop_alarms(gone)
        if own:
            await self._store.put_alarms(own, LIFETIME_MS // 1000)

    def _field(self, name: str) -> str:
        return f"{self._incarnation}/{name}"


def in_order(alarms: Sequence[Alarm]) -> list[Alarm]:
    """Critical ones first."""
    return sorted(alarms, key=lambda alarm: (alarm.severity != "critical", alarm.name, alarm.node))


def pack(alarms: Sequence[Alarm]) -> bytes:
    """For `$SYS/brokers/alarms`: JSON, the first of them."""
    shown = [asdict(alarm) | {"runbook": alarm.runbook} for alarm in alarms[:SHOWN_MAXIMUM]]
    for each in shown:
        del each["until_ms"]
    return orjson.dumps(shown)


def _is_over(alarm: Alarm | None, now_ms: int) -> bool:
    return alarm is not None and alarm.until_ms <= now_ms


def _unpack(record: bytes) -> Alarm | None:
    """None for what this release does not understand."""
    try:
        return _READER.validate_json(record)
    except ValidationError:
        return None
