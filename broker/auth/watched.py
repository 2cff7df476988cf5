"""A file that is read again when it changes, or one beside it. One with mistakes changes nothing: what was
read before holds."""

import os
from collections.abc import Callable, Sequence
from logging import WARNING
from pathlib import Path
from typing import Final, Generic, TypeVar

import anyio
import anyio.to_thread

from broker.observability.audit import record
from broker.observability.logs import get_logger
from broker.observability.metrics import Tally

_LOOK_SECONDS: Final = 0.5

Content = TypeVar("Content")

logger = get_logger(__name__)


class WatchedFile(Generic[Content]):
    """`read` makes something of the file; its ValueError has a line for each mistake. `reloads` counts
    `<name>` and `<name>_refused`."""

    def __init__(
        self,
        name: str,
        path: Path,
        read: Callable[[Path], Content],
        reloads: Tally,
        beside: Sequence[Path] = (),
    ) -> None:
        self._name = name
        self._path = path
        self._looked_at = (path, *beside)
        self._read = read
        self._reloads = reloads
        self._seen: list[tuple[int, ...] | None] = []

    def load(self) -> Content:
        """For the first time. ValueError if it has mistakes."""
        self._seen = self._state()
        return self._read(self._path)

    async def run(self, apply: Callable[[Content], None]) -> None:
        """Looks now and then, for ever."""
        while True:
            await anyio.sleep(_LOOK_SECONDS)
            # A file on a network that is away must not hold up the loop.
            state = await anyio.to_thread.run_sync(self._state)
            if state == self._seen:
                continue
            self._seen = state
            try:
                content = await anyio.to_thread.run_sync(self._read, self._path)
            except ValueError as error:
                self._reloads.add(f"{self._name}_refused")
                record("reload", WARNING, file=self._name, outcome="refused")
                logger.error("not taken, the one before holds:\n%s", error, extra={"file": str(self._path)})
                continue
            self._reloads.add(self._name)
            record("reload", file=self._name, outcome="taken")
            logger.info("read again", extra={"file": str(self._path)})
            apply(content)

    def _state(self) -> list[tuple[int, ...] | None]:
        return [_state_of(path) for path in self._looked_at]


def _state_of(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
