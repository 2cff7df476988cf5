"""What happened when: at each step of a run the workers tell their counts, and the broker's cost is noted.

The counts grow from the beginning of the run; a Lap carries them as they are, and rates are made of two laps
of each worker: nothing is lost when a lap comes late. When there are too many steps, two become one.
"""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from loadtest.cost import Pids, Usage, glance_at_usage
from loadtest.histogram import Histogram, Latency

STEPS_LIMIT: Final = 600
"""Of one timeline. It bounds memory, and what a report weighs."""
SHORTEST_STEP_SECONDS: Final = 0.1
"""Processor time is counted in hundredths of a second."""


@dataclass(frozen=True, slots=True)
class Lap:
    """What a worker has seen up to the end of a step."""

    number: int  # of the step; 0 is the beginning of the run
    at_ns: int
    flow: Mapping[str, int]  # what there is a rate of: sent, delivered, ...
    so_far: Mapping[str, int]  # what should not be there: missing, duplicates, ...
    latency: Histogram  # since the lap before
    cpu_seconds: float  # of this worker


@dataclass(frozen=True, slots=True)
class Load:
    """What some processes took within a step."""

    cores: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One step of a run."""

    at_seconds: float  # its end
    per_second: dict[str, float]
    latency_ms: Latency | None
    so_far: dict[str, int]
    generator_cores: float
    broker: Load | None  # without Redis; None if no process was named, or it was gone
    redis: Load | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The steps of a run, in order."""

    step_seconds: float
    warm_up_seconds: float
    samples: list[Sample]


class Counted(Protocol):
    """Who knows the counts of a run, such as a Board."""

    @property
    def flow(self) -> dict[str, int]:
        """See Lap."""

    @property
    def so_far(self) -> dict[str, int]:
        """See Lap."""

    def lap(self) -> Histogram:
        """The latencies since it was asked before."""


@contextlib.asynccontextmanager
async def telling_laps(
    step_seconds: float, begin_ns: int, counted: Counted, tell: Callable[[Lap], None]
) -> AsyncIterator[None]:
    """Tell a lap at the beginning, at each step, and at the end of the block. Nothing at a step of 0."""
    number = 0

    def tell_lap(of_step: int) -> None:
        tell(
            Lap(
                of_step,
                time.monotonic_ns(),
                counted.flow,
                counted.so_far,
                counted.lap(),
                time.process_time(),
            )
        )

    async def tell_each() -> None:
        nonlocal number
        while True:
            await asyncio.sleep(max(0.0, begin_ns / 1e9 + number * step_seconds - time.monotonic()))
            # Steps that this process was too busy for are one with the next.
            number = max(number, int((time.monotonic() - begin_ns / 1e9) / step_seconds))
            tell_lap(number)
            number += 1

    if not step_seconds:
        yield
        return
    teller = asyncio.ensure_future(tell_each())
    try:
        yield
    finally:
        teller.cancel()
        if number:
            # Rates of a moment say nothing: a short rest belongs to the step before.
            rest = time.monotonic() - begin_ns / 1e9 - (number - 1) * step_seconds
            tell_lap(number if rest > step_seconds / 2 or number == 1 else number - 1)


@dataclass(slots=True)
class _Step:
    """What the workers told of one step."""

    laps: dict[int, Lap] = field(default_factory=dict)  # by worker
    latency: Histogram = field(default_factory=Histogram)
    usage: Usage | None = None
    usage_at: float = 0.0

    def take(self, worker: int, lap: Lap) -> None:
        if self.laps:
            self.latency.add(lap.latency)
        else:
            self.latency = lap.latency
        self.laps[worker] = lap

    @property
    def end_ns(self) -> int:
        """When the last worker told: what all have done was done by then."""
        return max(lap.at_ns for lap in self.laps.values())

    def followed_by(self, later: "_Step") -> "_Step":
        """Both as one. In either there may be nothing, when all workers were too busy."""
        if not later.laps:
            return self
        latency = Histogram()
        latency.add(self.latency)
        latency.add(later.latency)
        return _Step({**self.laps, **later.laps}, latency, later.usage, later.usage_at)


class Recorder:
    """Takes the laps of all workers and makes a timeline of them."""

    def __init__(self, step_seconds: float, warm_up_seconds: float, pids: Pids) -> None:
        self._step_seconds = step_seconds
        self._warm_up_seconds = warm_up_seconds
        self._pids = pids
        self._begin = _Step()
        self._steps: list[_Step] = []
        self._laps_per_step = 1

    def take(self, worker: int, lap: Lap) -> None:
        """Note a lap, and what the broker has used by now."""
        step = self._step_of(lap.number)
        if worker in step.laps or not step.laps:
            step.usage, step.usage_at = glance_at_usage(self._pids), time.monotonic()
        step.take(worker, lap)

    def _step_of(self, number: int) -> _Step:
        if number == 0:
            return self._begin
        place = (number - 1) // self._laps_per_step
        if place >= STEPS_LIMIT:
            self._halve()
            return self._step_of(number)
        while place >= len(self._steps):
            self._steps.append(_Step())
        return self._steps[place]

    def _halve(self) -> None:
        pairs = itertools.zip_longest(self._steps[::2], self._steps[1::2], fillvalue=_Step())
        self._steps = [one.followed_by(other) for one, other in pairs]
        self._laps_per_step *= 2

    def timeline(self) -> Timeline | None:
        """All that was told; None if that was nothing."""
        samples = []
        before = self._begin
        for step in self._steps:
            if not step.laps:
                continue
            # A worker that has ended before the others is as it was then.
            known = _Step({**before.laps, **step.laps}, step.latency, step.usage, step.usage_at)
            samples.append(self._sample(before, known))
            before = known
        if not samples:
            return None
        return Timeline(self._step_seconds * self._laps_per_step, self._warm_up_seconds, samples)

    def measured_steps(self) -> list[tuple[int, int, Histogram]]:
        """Begin and end (monotonic, in ns) and latencies of each step after the warm-up."""
        found = []
        before = self._begin
        for step in self._steps:
            if not step.laps:
                continue
            if before.end_ns >= self._begin.end_ns + self._warm_up_seconds * 1e9:
                found.append((before.end_ns, step.end_ns, step.latency))
            before = step
        return found

    def _sample(self, before: _Step, after: _Step) -> Sample:
        begin_ns = min(lap.at_ns for lap in self._begin.laps.values())
        seconds = (after.end_ns - before.end_ns) / 1e9
        flow: Counter[str] = Counter()
        so_far: Counter[str] = Counter()
        cpu_seconds = 0.0
        for worker, lap in after.laps.items():
            earlier = before.laps.get(worker, lap)
            for name, count in lap.flow.items():
                flow[name] += count - earlier.flow[name]
            for name, count in lap.so_far.items():
                so_far[name] += count
            cpu_seconds += lap.cpu_seconds - earlier.cpu_seconds
        broker, redis = _loads(before, after)
        return Sample(
            at_seconds=round((after.end_ns - begin_ns) / 1e9, 3),
            per_second={name: round(count / seconds, 1) if seconds else 0.0 for name, count in flow.items()},
            latency_ms=Latency.of(after.latency),
            so_far=dict(so_far),
            generator_cores=round(cpu_seconds / seconds, 3) if seconds else 0.0,
            broker=broker,
            redis=redis,
        )


def _loads(before: _Step, after: _Step) -> tuple[Load | None, Load | None]:
    """Of the broker and of Redis."""
    now, then = after.usage, before.usage
    if now is None or then is None or not now.cpu_seconds:
        return None, None
    seconds = after.usage_at - before.usage_at

    def load(part: Usage) -> Load:
        cores = part.cpu_seconds_since(then) / seconds if seconds > 0 else 0.0
        return Load(round(cores, 3), part.rss_bytes)

    return load(now.broker), load(now.redis) if now.redis is not None else None


@contextlib.asynccontextmanager
async def recording(
    step_seconds: float, counted: Counted, pids: Pids, warm_up_seconds: float = 0.0
) -> AsyncIterator[Recorder]:
    """The timeline of a load that runs in this process: complete when the block has ended."""
    recorder = Recorder(step_seconds, warm_up_seconds, pids)
    async with telling_laps(step_seconds, time.monotonic_ns(), counted, lambda lap: recorder.take(0, lap)):
        yield recorder
