"""How fast the machine itself is during a load: some have moments in which all takes many times as long.

A virtual machine whose host is busy may do so every second; what a broker does then says nothing of the
broker, and a p99 is made of just such moments. So a process beside the load does the same small piece of work
again and again, and notes how much processor time that took. Not how long: waiting for a turn is what the
load does to itself.
"""

import asyncio
import contextlib
import gc
import json
import select
import statistics
import sys
import time
from bisect import bisect_left
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from loadtest.histogram import Histogram, Latency
from loadtest.report import Row, latency_rows

COMMAND: Final = (sys.executable, "-m", "loadtest.hiccups")
"""The process that measures: from a first, empty line until the end of its standard input."""
PAUSE_SECONDS: Final = 0.002
SLOW_TIMES: Final = 3.0
"""Work that takes so many times its median was done in a slow moment. Caches that the load has emptied make
it twice as long at most."""
AFTER_SECONDS: Final = 0.05
"""What has piled up in a slow moment is worked off by then."""
_KEYS: Final = 200_000
_STRIDE: Final = 997
"""Lookups all over some megabytes: what is slow in such moments is memory before all."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The slow moments of a run (monotonic, in order), and how many times its usual time the slowest took."""

    slow_ns: list[int]
    worst: float

    @classmethod
    def of(cls, at_ns: list[int], took_ns: list[int]) -> "Pace":
        """Of measurements, in order."""
        usual = statistics.median(took_ns) if took_ns else 1
        slow = [at for at, took in zip(at_ns, took_ns, strict=True) if took > SLOW_TIMES * usual]
        return cls(slow, max(took_ns, default=0) / usual)

    @classmethod
    def parse(cls, told: bytes) -> "Pace":
        """What the process that measures says at its end."""
        read = json.loads(told)
        return cls(read["slow_ns"], read["worst"])

    def was_steady(self, begin_ns: int, end_ns: int) -> bool:
        """Whether there was no slow moment, and none just before."""
        place = bisect_left(self.slow_ns, begin_ns - int(AFTER_SECONDS * 1e9))
        return place == len(self.slow_ns) or self.slow_ns[place] > end_ns


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What of a run is the machine's doing. `latency_ms` is that of the steps in which it was not slow."""

    steps: int
    slow_steps: int
    worst: float
    latency_ms: Latency | None

    @classmethod
    def of(cls, pace: Pace, steps: list[tuple[int, int, Histogram]]) -> "Steadiness":
        """Of the steps of a timeline: begin, end, latencies."""
        steady = Histogram()
        slow_steps = 0
        for begin_ns, end_ns, latency in steps:
            if pace.was_steady(begin_ns, end_ns):
                steady.add(latency)
            else:
                slow_steps += 1
        return cls(len(steps), slow_steps, round(pace.worst, 1), Latency.of(steady))

    def rows(self) -> list[Row]:
        """See report.Part."""
        share = 100 * self.slow_steps / self.steps if self.steps else 0.0
        slow = f"in {share:.0f} % of the steps, up to {self.worst:.1f} times slower"
        rows = [("the machine was slow", slow)]
        if self.latency_ms is not None:
            rows += [("without these steps, " + name, value) for name, value in latency_rows(self.latency_ms)]
        return rows

    def problems(self) -> list[str]:
        """See report.Part."""
        return []


class Meter:
    """The process that measures."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    async def pace(self) -> Pace:
        """What it has measured; it ends."""
        told, _ = await self._process.communicate(b"")  # which ends its standard input
        return Pace.parse(told)


@contextlib.asynccontextmanager
async def metering() -> AsyncIterator[Meter]:
    """Measures while the block runs."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()  # it has begun
        yield Meter(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def main() -> None:
    """Measures until standard input ends, then tells."""
    table = {number: number for number in range(_KEYS)}
    keys = range(0, _KEYS, _STRIDE)
    at_ns: list[int] = []
    took_ns: list[int] = []
    gc.disable()  # nothing here has cycles
    print(flush=True)
    has_ended = False
    while not has_ended:
        begin = time.thread_time_ns()
        for key in keys:
            table[key]
        took_ns.append(time.thread_time_ns() - begin)
        at_ns.append(time.monotonic_ns())
        has_ended = bool(select.select([sys.stdin], [], [], PAUSE_SECONDS)[0])
    pace = Pace.of(at_ns, took_ns)
    print(json.dumps({"slow_ns": pace.slow_ns, "worst": pace.worst}))


if __name__ == "__main__":
    main()
