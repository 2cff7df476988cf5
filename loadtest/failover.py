"""The scenario `fail-over`: the pod that a subscriber is connected to is killed, and the subscriber goes on.

QoS 2, a persistent session. The subscriber connects to one pod by its own address, so that it is known which
to kill; the publisher to another one. What was acknowledged must come once, before or after, by way of the
Service.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from loadtest.board import Board
from loadtest.client import Client, ConnectFailed, connect_packet
from loadtest.plan import Plan
from loadtest.pods import Pod, Pods, PodsError
from loadtest.publisher import Publisher
from loadtest.report import Accounts, Row
from loadtest.subscriber import Subscriber
from loadtest.worker import remove_session

_C = TypeVar("_C", bound=Client)

_RETRY_SECONDS: Final = 0.2
_PACE_SECONDS: Final = 0.01
_LINGER_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class FailOverReport:
    """The report."""

    killed: str
    messages: int
    before: int
    away_seconds: float
    session_present: bool
    lost: int
    duplicates: int
    order_errors: int
    corrupt: int
    unacknowledged: int
    faults: list[str]

    @property
    def title(self) -> str:
        """See Report."""
        return f"fail-over: {self.killed} was killed, {self.messages} messages, QoS 2"

    def rows(self) -> list[Row]:
        """See Report."""
        return [
            ("delivered before", f"{self.before:,}"),
            ("from the cut to the next CONNACK", f"{self.away_seconds * 1000:,.0f} ms"),
            ("session present", "yes" if self.session_present else "no"),
            ("lost", f"{self.lost:,}"),
            ("duplicates", f"{self.duplicates:,}"),
            ("never acknowledged", f"{self.unacknowledged:,}"),
        ]

    def problems(self) -> list[str]:
        """See Report."""
        found = [] if self.session_present else ["the session was gone"]
        if self.unacknowledged:
            found.append(f"{self.unacknowledged:,} messages were never acknowledged")
        accounts = Accounts(2, self.lost, self.duplicates, self.order_errors, self.corrupt, self.faults)
        return found + accounts.problems()

    def remarks(self) -> list[str]:
        """See Report."""
        return []


@asynccontextmanager
async def _meanwhile(job: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run a job until the block ends; what the block raises comes out as it is."""
    task = asyncio.ensure_future(job)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class FailOver:
    """One run: `messages` are waited for before the pod is killed, and as many after it.

    The plan has QoS 2, one publisher and one subscriber; its target is the Service.
    """

    def __init__(
        self, plan: Plan, messages: int, pods: Pods, selector: str, watch: Callable[[str], None]
    ) -> None:
        self._plan = replace(plan, rate_per_second=1 / _PACE_SECONDS)
        self._messages = messages
        self._pods = pods
        self._selector = selector
        self._watch = watch
        self._board = Board()
        self._clients: list[Client] = []

    async def run(self) -> FailOverReport:
        """Connect, publish, kill, go on, verify, remove. Raises ConnectFailed, PodsError."""
        try:
            return await self._run()
        finally:
            for client in self._clients:
                client.abort()

    async def _run(self) -> FailOverReport:
        plan, board = self._plan, self._board
        victim, other = await self._two_pods()
        subscriber = await self._subscribe_at(victim)
        publisher = self._keep(Publisher(0, plan, board))
        await publisher.open(other.target, connect_packet(plan.account, plan.client_id("p", 0)))
        self._watch("publishing")
        async with _meanwhile(self._publish(publisher)):
            await self._wait_for(self._messages)
            before = board.delivered
            self._watch(f"killing {victim.name}")
            await asyncio.to_thread(self._pods.kill, victim)
            await self._wait_for_the_cut(subscriber, victim)
            cut = time.monotonic()
            resumed, is_present = await self._resume(subscriber)
            away = time.monotonic() - cut
            await self._wait_for(publisher.sent + self._messages)
        publisher.stop()
        await self._wait_for(publisher.sent)
        await self._wait_for_more()
        for client in (publisher, resumed):
            await client.disconnect()
        await remove_session(plan, plan.client_id("s", 0))
        return self._report(victim, publisher, resumed, before, away, is_present)

    async def _publish(self, publisher: Publisher) -> None:
        """All the time, at a pace: while nobody reads, the queue of the session must not overflow."""
        publisher.start()
        while True:
            publisher.publish_at(time.monotonic_ns())
            publisher.pump()
            await asyncio.sleep(_PACE_SECONDS)

    async def _wait_for(self, count: int) -> bool:
        """Until so many messages are acknowledged and have come; not for ever: what is missing is counted."""
        self._board.expect(acknowledged=count, received=count)
        try:
            async with asyncio.timeout(self._plan.drain_seconds + count * _PACE_SECONDS):
                return await self._board.reached(self._plan.drain_seconds)
        except TimeoutError:
            return False

    async def _wait_for_more(self) -> None:
        """Whatever comes now is one too many."""
        self._board.expect(received=1 << 62)
        await self._board.reached(_LINGER_SECONDS)

    def _keep(self, client: _C) -> _C:
        """Its connection is closed at the end, whatever that is."""
        self._clients.append(client)
        return client

    async def _two_pods(self) -> tuple[Pod, Pod]:
        pods = await asyncio.to_thread(self._pods.ready, self._selector)
        if len(pods) < 2:
            raise PodsError(f"{len(pods)} pods are ready; one is killed, so it takes two")
        return pods[0], pods[1]

    async def _subscribe_at(self, pod: Pod) -> Subscriber:
        plan = self._plan
        subscriber = self._keep(Subscriber(0, plan, self._board))
        packet = connect_packet(plan.account, plan.client_id("s", 0), persistent=True)
        await subscriber.connect(pod.target, packet)
        await subscriber.subscribe(plan.topic_filter(0), plan.qos)
        return subscriber

    async def _wait_for_the_cut(self, subscriber: Subscriber, victim: Pod) -> None:
        """The kubelet may take seconds to kill. Whatever else was lost stays a fault."""
        try:
            async with asyncio.timeout(self._plan.duration_seconds):
                await subscriber.closed()
        except TimeoutError:
            raise PodsError(
                f"{victim.name} is still connected after {self._plan.duration_seconds:g} s"
            ) from None
        self._board.faults[:] = [
            fault for fault in self._board.faults if not fault.startswith(subscriber.name)
        ]

    async def _resume(self, before: Subscriber) -> tuple[Subscriber, bool]:
        """Connect by way of the Service until that succeeds, as a client does. Raises ConnectFailed."""
        plan = self._plan
        deadline = time.monotonic() + plan.duration_seconds
        packet = connect_packet(plan.account, plan.client_id("s", 0), persistent=True)
        while True:
            subscriber = self._keep(before.successor())
            try:
                answer = await subscriber.connect(plan.target, packet)
            except ConnectFailed:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return subscriber, answer.session_present

    def _report(
        self,
        victim: Pod,
        publisher: Publisher,
        subscriber: Subscriber,
        before: int,
        away_seconds: float,
        is_present: bool,
    ) -> FailOverReport:
        board, stream = self._board, subscriber.streams[0]
        return FailOverReport(
            killed=victim.name,
            messages=publisher.sent,
            before=before,
            away_seconds=away_seconds,
            session_present=is_present,
            lost=stream.missing(publisher.sent - publisher.refused - publisher.outstanding),
            duplicates=stream.duplicates,
            order_errors=stream.order_errors,
            corrupt=board.corrupt,
            unacknowledged=publisher.outstanding,
            faults=board.faults,
        )
