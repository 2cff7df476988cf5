"""Whether this process has run all the time.

A process that was stopped (SIGSTOP, a frozen virtual machine, a starved machine) doesn't notice by itself; to
the others it may have been dead meanwhile, and its sessions may belong to other nodes. So whoever is about to
do something that only the owner of a session may do looks here first: after a gap the node is *in doubt*,
does nothing, and asks the store whether it still is what it was."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Final

GAP_SECONDS: Final = 0.25
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def running_time() -> float:
    """Seconds; goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


class Pulse:
    """`look` notices a gap. `in_doubt` from then on, until `confirm`; `on_doubt` is called once, and must not
    wait."""

    __slots__ = ("_alive", "_last", "_now", "_on_doubt", "doubts", "in_doubt")

    def __init__(self, on_doubt: Callable[[], None], now: Callable[[], float] = running_time) -> None:
        self._on_doubt = on_doubt
        self._now = now
        self._last = now()
        self._alive = asyncio.Event()
        self._alive.set()
        self.in_doubt = False
        self.doubts = 0

    def look(self) -> bool:
        """Whether the node is in doubt; to be called wherever something begins."""
        now = self._now()
        if now - self._last > GAP_SECONDS and not self.in_doubt:
            self.in_doubt = True
            self.doubts += 1
            self._alive.clear()
            self._on_doubt()
        self._last = now
        return self.in_doubt

    def is_alive(self) -> None:
        """The store has said that this node lives: those who wait for `until_alive` may go on."""
        self._alive.set()

    def confirm(self) -> None:
        """Everything is as it was, or has been brought up to date."""
        self.in_doubt = False
        self._alive.set()

    def until_alive(self) -> Coroutine[object, object, object]:
        """To be awaited: waits while nobody knows whether this node lives."""
        return self._alive.wait()
