"""Settings that are read again while the process runs, from where they came at its start.

Theory of operation: flags, environment and file are read and checked as a whole. With a mistake nothing
changes, and all mistakes are told. Else what is live is handed to `adopt`, which has this process go by it;
of the rest it is told that it needs a restart. So it is told again with each reload until there was one.

With workers each process reads for itself: the parent hands a child what it needs for that, passes SIGHUP on,
and reads again when a child was asked to, for the children that it will start.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from broker.errors import SettingsError
from broker.observability.logs import get_logger
from broker.observability.metrics import Tally
from broker.settings import Settings
from broker.settings.live import LIVE, changed, value_of, with_live

logger = get_logger(__name__)

Read = Callable[[], Settings]
"""Reads all sources again. Raises SettingsError."""
Adopt = Callable[[frozenset[str], Settings], None]
"""Which live settings have changed, and what to go by from now on, as far as it is live."""


@dataclass(slots=True)
class Reloaded:
    """What has come of it, for people."""

    applied: list[dict[str, object]] = field(default_factory=list)
    """`name`, `from`, `to`."""
    restart: list[str] = field(default_factory=list)
    """What differs, and counts with the next start only."""
    mistakes: list[str] = field(default_factory=list)
    """For which nothing was changed."""


class Reloading:
    """Of one process. `given`: the settings as they were read at its start; `reloads` counts `applied` and
    `refused`."""

    def __init__(self, given: Settings, read: Read, adopt: Adopt, reloads: Tally) -> None:
        self._given = given
        self._read = read
        self._adopt = adopt
        self._reloads = reloads
        self._reading = anyio.Lock()  # what was read first is applied first

    async def at_signal(self) -> None:
        """The same, where nobody waits for what comes of it: no mistake of ours may end the process."""
        try:
            await self.reload()
        except Exception:  # the top of this task
            logger.exception("settings could not be read again")

    async def reload(self) -> Reloaded:
        """Reads, and applies what can be applied."""
        async with self._reading:
            try:
                read = await anyio.to_thread.run_sync(self._read)
            except SettingsError as error:
                return self._refuse(error)
            return self._apply(read)

    def _refuse(self, error: SettingsError) -> Reloaded:
        self._reloads.add("refused")
        logger.error("settings were read again and not taken: %s", error)
        return Reloaded(mistakes=list(error.mistakes))

    def _apply(self, read: Settings) -> Reloaded:
        differing = changed(self._given, read)
        live = [name for name in differing if name in LIVE]
        done = Reloaded(
            [_change(name, self._given, read) for name in live],
            [name for name in differing if name not in LIVE],
        )
        if live:
            self._given = with_live(self._given, read)
            self._adopt(frozenset(live), self._given)
        self._reloads.add("applied")
        logger.info(
            "settings were read again",
            extra={"applied": ", ".join(live) or "none", "restart_needed": ", ".join(done.restart) or "none"},
        )
        return done


def _change(name: str, before: Settings, after: Settings) -> dict[str, object]:
    return {"name": name, "from": value_of(before, name), "to": value_of(after, name)}
