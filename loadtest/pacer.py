"""A schedule of sends, and a clock that keeps it.

uvloop's timers have millisecond steps and run late by more than one; a latency measured from the intended
send time would show the generator's own lateness. So the clock is a timerfd where there is one (Linux):
late by some 50 us.
"""

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Final

_SHORTEST_STEP_NS: Final = 200_000
"""At most 5,000 wake-ups a second: above that rate, the messages of a step are meant to go out together."""
_CLOCK_MONOTONIC: Final = 1
_NONBLOCK: Final = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE: Final = 1


class Schedule:
    """When each message of an open loop is to be sent: message i belongs to a step of a fixed grid."""

    __slots__ = ("_done", "_rate", "_start_ns", "step_ns")

    def __init__(self, rate_per_second: float, start_ns: int) -> None:
        self._rate = rate_per_second
        self._start_ns = start_ns
        self._done = 0
        self.step_ns = max(int(1e9 / rate_per_second), _SHORTEST_STEP_NS)

    def due(self, now_ns: int) -> list[int]:
        """The intended send times of all messages that are due now and were not asked for before."""
        total = int((now_ns - self._start_ns) * self._rate / 1e9) + 1 if now_ns >= self._start_ns else 0
        times = [self._intended(number) for number in range(self._done, total)]
        while times and times[-1] > now_ns:  # not before its step has come, whatever the rounding
            times.pop()
        self._done += len(times)
        return times

    def _intended(self, number: int) -> int:
        offset = int(number * 1e9 / self._rate)
        steps = -(-offset // self.step_ns)
        return self._start_ns + steps * self.step_ns


class Ticker:
    """Calls `tick` on the event loop at each step from `start_ns` (monotonic) on, until it is stopped."""

    def __init__(self, step_ns: int, start_ns: int, tick: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick = tick
        self._step_ns = step_ns
        self._next_ns = start_ns
        self._timer: asyncio.TimerHandle | None = None
        self._fd = _open_timer(start_ns, step_ns) if sys.platform == "linux" else -1
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._expired)
        else:
            self._arm()

    def stop(self) -> None:
        """No further calls."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        os.read(self._fd, 8)  # how often it went off: the schedule knows by the clock
        self._tick()

    def _arm(self) -> None:
        delay = max(0, self._next_ns - time.monotonic_ns()) / 1e9
        self._timer = self._loop.call_later(delay, self._timed)

    def _timed(self) -> None:
        self._next_ns += self._step_ns
        self._arm()
        self._tick()


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def _open_timer(start_ns: int, step_ns: int) -> int:
    """A timerfd (timerfd_create(2); `os` has it only from Python 3.13 on). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    spec = _TimerSpec(
        _Timespec(step_ns // 1_000_000_000, step_ns % 1_000_000_000),
        _Timespec(start_ns // 1_000_000_000, start_ns % 1_000_000_000),
    )
    if libc.timerfd_settime(fd, _ABSOLUTE, ctypes.byref(spec), None) < 0:
        os.close(fd)
        raise OSError(ctypes.get_errno(), "timerfd_settime")
    return fd
