"""Runs a plan with one or more workers and adds up what they saw."""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from loadtest.cost import Pids, Usage, measure_usage
from loadtest.dashboard import ViewReport
from loadtest.group import add_up_group
from loadtest.hiccups import Meter, Steadiness, metering
from loadtest.histogram import Histogram, Latency
from loadtest.link import (
    Assign,
    Begin,
    Closed,
    Endpoint,
    Expect,
    Failed,
    Halt,
    LocalEndpoint,
    Message,
    Outcome,
    Progress,
    Published,
    Ready,
    SocketEndpoint,
)
from loadtest.plan import Plan, Share, share_out
from loadtest.report import BrokerCost, GeneratorCost, MessageReport
from loadtest.returns import ReturnReport
from loadtest.timeline import Lap, Recorder
from loadtest.worker import Worker

Watcher = Callable[[float, int, int, int], None]
"""Told (seconds since the start, messages sent, deliveries, subscribers not connected) now and then."""

_LEAD_NS: Final = 50_000_000
"""Between the order to begin and the beginning: time for it to reach all workers."""

_M = TypeVar("_M", bound=Message)


class LoadFailed(Exception):
    """The load couldn't be run; the message says why."""


class Conductor:
    """Leads the workers of one run through its stages."""

    def __init__(self, plan: Plan, pids: Pids, watch: Watcher) -> None:
        self._plan = plan
        self._pids = pids
        warm_up = 0.0 if plan.count is not None else plan.warm_up_seconds
        self._recorder = Recorder(plan.sample_seconds, warm_up, pids)
        self._watch = watch
        self._endpoints: list[Endpoint] = []
        self._progress: list[Progress] = []
        self._started = time.monotonic()
        self.interrupted = False

    def halt(self) -> None:
        """End the run now; the report is of what was done up to here."""
        self.interrupted = True
        self._tell(Halt())

    async def run(self) -> MessageReport:
        """Run the plan. Raises LoadFailed, CostError."""
        if not self._plan.watch_machine:
            return await self._run()
        async with metering() as meter:
            report = await self._run()
            return replace(report, machine=await self._steadiness(meter))

    async def _steadiness(self, meter: Meter) -> Steadiness:
        return Steadiness.of(await meter.pace(), self._recorder.measured_steps())

    async def _run(self) -> MessageReport:
        async with _start_workers(share_out(self._plan)) as self._endpoints:
            self._progress = [Progress(0, 0)] * len(self._endpoints)
            if self.interrupted:
                self._tell(Halt())
            await self._from_each(Ready)
            at_ns = time.monotonic_ns() + _LEAD_NS
            self._started = at_ns / 1e9
            self._tell(Begin(at_ns))
            before_usage = asyncio.ensure_future(self._usage_after_warm_up(at_ns))
            published = await self._from_each(Published)
            before = await before_usage
            peak = measure_usage(self._pids).rss_bytes
            sent = {number: count for part in published for number, count in part.sent.items()}
            owed = {number: count for part in published for number, count in part.owed.items()}
            self._tell(Expect(sent, owed))
            outcomes = _with_group_account(await self._from_each(Outcome), owed)
            after = measure_usage(self._pids)
        report = add_up(
            self._plan, outcomes, sum(sent.values()), (before, after, peak), interrupted=self.interrupted
        )
        return replace(report, timeline=self._recorder.timeline())

    async def _usage_after_warm_up(self, at_ns: int) -> Usage:
        warm_up = 0.0 if self._plan.count is not None else self._plan.warm_up_seconds
        await asyncio.sleep(max(0.0, at_ns / 1e9 + warm_up - time.monotonic()))
        return measure_usage(self._pids)

    def _tell(self, message: Message) -> None:
        for endpoint in self._endpoints:
            endpoint.send(message)

    async def _from_each(self, kind: type[_M]) -> list[_M]:
        return await asyncio.gather(*(self._next(number, kind) for number in range(len(self._endpoints))))

    async def _next(self, number: int, kind: type[_M]) -> _M:
        """The next message of this kind from one worker; progress is noted on the way."""
        while True:
            try:
                message = await self._endpoints[number].receive()
            except Closed as error:
                raise LoadFailed("a worker process died") from error
            if isinstance(message, kind):
                return message
            if isinstance(message, Failed):
                raise LoadFailed(message.text)
            if isinstance(message, Progress):
                self._note(number, message)
            if isinstance(message, Lap):
                self._recorder.take(number, message)

    def _note(self, number: int, progress: Progress) -> None:
        self._progress[number] = progress
        sent = sum(part.sent for part in self._progress)
        delivered = sum(part.delivered for part in self._progress)
        away = sum(part.away for part in self._progress)
        self._watch(time.monotonic() - self._started, sent, delivered, away)


@contextlib.asynccontextmanager
async def _start_workers(shares: Sequence[Share]) -> AsyncIterator[list[Endpoint]]:
    """A single worker runs in this process, several ones each in their own."""
    start = _start_task if len(shares) == 1 else _start_process
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(start(share)) for share in shares]


@contextlib.asynccontextmanager
async def _start_task(share: Share) -> AsyncIterator[Endpoint]:
    ours, its = LocalEndpoint.pair()
    task = asyncio.ensure_future(Worker(share, its).run())

    def report_crash(done: "asyncio.Task[None]") -> None:
        if not done.cancelled() and done.exception() is not None:
            its.send(Failed(f"the worker crashed: {done.exception()!r}"))  # itself it is raised below

    task.add_done_callback(report_crash)
    try:
        yield ours
        await task  # it closes its connections
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def _start_process(share: Share) -> AsyncIterator[Endpoint]:
    ours, its = socket.socketpair()
    with its:
        # Its own session: Ctrl-C reaches only us, and the worker hears of it by the link.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "loadtest.worker", str(its.fileno()),
            pass_fds=[its.fileno()], start_new_session=True,
        )  # fmt: skip
    endpoint = await SocketEndpoint.open(ours)
    try:
        endpoint.send(Assign(share))
        yield endpoint
        await process.wait()
    finally:
        await endpoint.close()
        if process.returncode is None:
            process.kill()
            await process.wait()


def _with_group_account(outcomes: list[Outcome], owed: dict[int, int]) -> list[Outcome]:
    """What members of a shared group in several processes got tells only together what is missing."""
    parts = [outcome.extra.group for outcome in outcomes if outcome.extra.group is not None]
    if not parts:
        return outcomes
    account = add_up_group(parts, owed)
    return [replace(outcomes[0], missing=account.lost, duplicates=account.duplicates), *outcomes[1:]]


def add_up(
    plan: Plan,
    outcomes: Sequence[Outcome],
    sent_in_all: int,
    usage: tuple[Usage, Usage, int],
    *,
    interrupted: bool,
) -> MessageReport:
    """The report of a run: the sum of what the workers saw, and of what the broker's processes used."""
    seconds = (max(o.ended.at_ns for o in outcomes) - min(o.begun.at_ns for o in outcomes)) / 1e9
    whole = (max(o.finished.at_ns for o in outcomes) - min(o.begun.at_ns for o in outcomes)) / 1e9
    deliveries = sum(o.ended.delivered - o.begun.delivered for o in outcomes)
    deliveries_whole = sum(o.finished.delivered - o.begun.delivered for o in outcomes)
    sent = sum(o.ended.sent - o.begun.sent for o in outcomes)
    before, after, rss_bytes = usage
    returns = [o.extra.returns for o in outcomes if o.extra.returns is not None]
    views = [o.extra.views for o in outcomes if o.extra.views is not None]
    return MessageReport(
        shape=str(plan.shape),
        qos=plan.qos,
        persistent=plan.persistent,
        mqtt_version=plan.account.version,
        publishers=plan.publishers,
        subscribers=plan.subscribers,
        payload_bytes=plan.payload_bytes,
        window=plan.window if plan.rate_per_second is None else None,
        rate_per_second=plan.rate_per_second,
        processes=len(outcomes),
        seconds=seconds,
        sent=sent_in_all,
        deliveries=sum(o.finished.delivered for o in outcomes),
        sent_per_second=sent / seconds if seconds else 0.0,
        deliveries_per_second=deliveries / seconds if seconds else 0.0,
        lost=sum(o.missing for o in outcomes),
        duplicates=sum(o.duplicates for o in outcomes),
        order_errors=sum(o.order_errors for o in outcomes),
        corrupt=sum(o.corrupt for o in outcomes),
        refused=sum(o.refused for o in outcomes),
        unacknowledged=sum(o.unacknowledged for o in outcomes),
        written_off=sum(o.written_off for o in outcomes),
        faults=[fault for o in outcomes for fault in o.faults],
        latency_ms=Latency.of(_sum_of(o.latency for o in outcomes)),
        broker=BrokerCost.of(before, after, rss_bytes, deliveries_whole, whole),
        generator=_generator_cost(outcomes, whole, deliveries_whole),
        interrupted=interrupted,
        persistent_publishers=plan.persistent_publishers,
        stored_ms=Latency.of(_sum_of(o.extra.stored for o in outcomes)),
        returns=ReturnReport.of(returns) if returns else None,
        views=ViewReport.of(plan.source_count, views) if views else None,
    )


def _sum_of(histograms: Iterable[Histogram]) -> Histogram:
    total = Histogram()
    for histogram in histograms:
        total.add(histogram)
    return total


def _generator_cost(outcomes: Sequence[Outcome], seconds: float, deliveries: int) -> GeneratorCost:
    used = [o.finished.cpu_seconds - o.begun.cpu_seconds for o in outcomes]
    return GeneratorCost(
        cpu_seconds=sum(used),
        busiest_percent=100 * max(used) / seconds if seconds else 0.0,
        cpu_us_per_delivery=1e6 * sum(used) / deliveries if deliveries else 0.0,
    )


@contextlib.contextmanager
def halting_on_interrupt(halt: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C asks for the report so far; a second one ends the program."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        halt()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def run_plan(plan: Plan, pids: Pids, watch: Watcher) -> MessageReport:
    """Run a plan on the running event loop. Raises LoadFailed, CostError."""
    conductor = Conductor(plan, pids, watch)
    with halting_on_interrupt(conductor.halt):
        return await conductor.run()
