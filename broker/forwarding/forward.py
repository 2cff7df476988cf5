"""One forward in one node: waits for its turn, then works until it is another's."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, Protocol

import anyio

from broker.client import RESERVED_PREFIX, Hub
from broker.forwarding.delivering import Delivery, DeliveryRules
from broker.forwarding.inner import open_inner
from broker.forwarding.link import LinkLost
from broker.forwarding.sink import Retry, Sink
from broker.forwarding.turn import Turns
from broker.mqtt import SubscriptionRequest
from broker.observability.forwards import RUNNING, STARTING, ForwardStatus
from broker.observability.logs import get_logger
from cluster.kubernetes.backoff import Backoff
from cluster.store import letters
from cluster.store.lane import Reply

NO_REPLAY: Final = 2
"""Retain Handling: what was retained before there was a forward is nobody's news."""

logger = get_logger(__name__)


class Job(Protocol):
    """What is done while this node has the forward."""

    async def run(self) -> None:
        """Until cancelled. Raises Retry, LinkLost: it has to begin again."""


class Forward:
    """`run` is to be cancelled when the node stops."""

    def __init__(self, turns: Turns, job: Job, status: ForwardStatus, retry_seconds_maximum: float) -> None:
        self.status = status
        self._turns = turns
        self._job = job
        self._retry_seconds_maximum = retry_seconds_maximum

    async def run(self) -> None:
        """Works whenever it is its turn."""
        extra = {"forward": self.status.name}
        while True:
            await self._turns.until_ours(self.status.name)
            logger.info("this node forwards", extra=extra)
            try:
                with self._turns.held(self.status.name):
                    await self._work()
            finally:
                self.status.leave()
                logger.info("this node does not forward any more", extra=extra)

    async def _work(self) -> None:
        """Again and again."""
        backoff = Backoff(self._retry_seconds_maximum)
        self.status.turn(STARTING)
        while True:
            sent = self.status.sent + self.status.received
            reason = await self._reason_of_end()
            if self.status.sent + self.status.received > sent:
                backoff.reset()
            self.status.note_failure(reason)
            logger.warning(
                "a forward has to begin again", extra={"forward": self.status.name, "reason": reason}
            )
            await anyio.sleep(backoff.after_failure())

    async def _reason_of_end(self) -> str:
        reason = ""
        try:
            await self._job.run()
        except* (LinkLost, Retry) as ended:
            reason = _text_of(ended)
        except* Exception:  # the top of what one forward does
            logger.exception("a forward failed", extra={"forward": self.status.name})
            reason = "failed; the log says why"
        return reason


class SinkJob:
    """Brings the messages of the session to a sink."""

    def __init__(
        self,
        hub: Hub,
        status: ForwardStatus,
        open_sink: Callable[[], AbstractAsyncContextManager[Sink]],
        requests: Sequence[SubscriptionRequest],
        in_flight: int,
        rules: DeliveryRules,
    ) -> None:
        self._hub = hub
        self._status = status
        self._open_sink = open_sink
        self._requests = requests
        self._in_flight = in_flight
        self._rules = rules

    async def run(self) -> None:
        """See Job."""
        client_id = client_id_of(self._status.name)
        with open_inner(self._hub, self._status) as inner:
            async with self._open_sink() as sink, anyio.create_task_group() as tasks:
                await inner.connect(client_id, self._in_flight)
                tasks.start_soon(inner.fail_when_lost)
                await inner.subscribe(self._requests)
                self._status.turn(RUNNING)
                drop = partial(write_letter, self._hub, client_id)
                await Delivery(inner, sink, self._rules, self._status, drop).run()


def client_id_of(name: str) -> str:
    """Of the session of a forward."""
    return RESERVED_PREFIX + name


def requests_for(filters: Sequence[str], qos: int) -> list[SubscriptionRequest]:
    """Not what the forward itself publishes: that came from where it would go."""
    return [SubscriptionRequest(filter, qos, True, True, NO_REPLAY) for filter in filters]


async def write_letter(hub: Hub, client_id: str, topic: str, reason: str) -> None:
    """Returns when the dead letter is stored. Raises LinkLost if it can't be."""
    is_done = anyio.Event()
    replies: list[Reply] = []

    def answered(reply: Reply) -> None:
        replies.append(reply)
        is_done.set()

    hub.committer.request(letters.letter(client_id, topic, reason), answered, frees_memory=True)
    await is_done.wait()
    if isinstance(replies[0], Exception):
        raise LinkLost(f"no dead letter: {replies[0]}")


def _text_of(group: BaseExceptionGroup[BaseException]) -> str:
    """Of the first that says something."""
    for error in group.exceptions:
        text = _text_of(error) if isinstance(error, BaseExceptionGroup) else str(error)
        if text:
            return text
    return "ended"
