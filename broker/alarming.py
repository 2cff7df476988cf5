"""Raises and clears the alarms of a node: looks at its readings once a second, says so in the log and in a
metric, and in Redis for everybody else.

Looking does not wait for Redis: an alarm that Redis is away is raised while it is. What Redis has missed it
gets when it is back.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from broker.client import Hub
from broker.observability.alarms import Change, Evaluator, Rule
from broker.observability.logs import get_logger
from broker.observability.metrics import Counters
from broker.observability.readings import Readings
from cluster.alarms import REFRESH_SECONDS, Alarm, AlarmBook
from cluster.store.errors import NodeGone, StoreError

INTERVAL_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0
_WITHDRAW_SECONDS: Final = 1.0

logger = get_logger(__name__)


class Alarming:
    """Of one incarnation. `tell` is called when those in Redis have changed."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        counters: Counters,
        hub: Hub,
        book: AlarmBook,
        tell: Callable[[], Awaitable[None]],
    ) -> None:
        self._evaluator = Evaluator(rules)
        self._counters = counters
        self._readings = Readings(counters)
        self._hub = hub
        self._book = book
        self._tell = tell
        self._has_changed = anyio.Event()
        counters.alarms = dict.fromkeys((rule.name for rule in rules), 0)

    async def run(self) -> None:
        """Looks until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write)
            while True:
                self.look()
                await anyio.sleep(INTERVAL_SECONDS)

    def change(self, rules: tuple[Rule, ...]) -> None:
        """From now on these: the same alarms with other thresholds."""
        self._evaluator.rules = rules

    def look(self) -> None:
        """Raises what is to be raised now, and clears what is over."""
        now = self._hub.tick()
        self._readings.take(now)
        changes = self._evaluator.look(self._readings, now)
        for change in changes:
            self._note(change)
        if changes:
            self._has_changed.set()

    async def withdraw(self) -> None:
        """The node leaves, and its alarms with it; not for long."""
        self._book.own = ()
        with anyio.move_on_after(_WITHDRAW_SECONDS):
            try:
                await self._book.write()
            except StoreError as error:
                logger.debug("alarms go away by themselves: %s", error)

    def _note(self, change: Change) -> None:
        rule = change.rule
        self._counters.alarms[rule.name] = int(change.is_raised)
        others = tuple(alarm for alarm in self._book.own if alarm.name != rule.name)
        extra = {"alarm": rule.name, "value": round(change.value, 4), "threshold": rule.raise_at}
        if not change.is_raised:
            self._book.own = others
            logger.info("alarm %s is cleared", rule.name, extra=extra)
            return
        alarm = Alarm(
            rule.name,
            rule.severity,
            self._counters.node_name,
            self._hub.clock.now_ms,
            change.value,
            rule.raise_at,
            change.text,
        )
        self._book.own = (*others, alarm)
        log = logger.error if rule.severity == "critical" else logger.warning
        log("alarm %s is raised: %s", rule.name, change.text, extra={**extra, "runbook": alarm.runbook})

    async def _write(self) -> None:
        """What has changed at once, and what lasts now and then."""
        while True:
            has_changed, self._has_changed = self._has_changed, anyio.Event()
            try:
                if self._book.own or has_changed.is_set():
                    await self._book.write()
                if has_changed.is_set():
                    await self._tell()
            except NodeGone:
                raise
            except StoreError as error:
                logger.debug("alarms wait: %s", error)
                self._has_changed.set()
                await anyio.sleep(_RETRY_SECONDS)
                continue
            with anyio.move_on_after(REFRESH_SECONDS):
                await self._has_changed.wait()
