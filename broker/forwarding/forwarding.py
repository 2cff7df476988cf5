"""All forwards of a node, made of their settings."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

import anyio

from broker.client import Hub
from broker.forwarding.bridge import BridgeJob
from broker.forwarding.delivering import DeliveryRules
from broker.forwarding.forward import Forward, Job, SinkJob, client_id_of, requests_for
from broker.forwarding.redis_stream import open_redis_stream
from broker.forwarding.sink import Sink, load_plugin
from broker.forwarding.turn import Turns
from broker.forwarding.webhook import open_webhook
from broker.observability.forwards import ELSEWHERE, ForwardStatus
from broker.observability.logs import get_logger
from broker.settings import ForwardSettings
from cluster.control import Control
from cluster.store.connection import Connection
from cluster.store.errors import StoreError
from cluster.store.store import Store

_MEASURE_SECONDS: Final = 1.0
_OWN_PAUSE_SECONDS: Final = 5.0

logger = get_logger(__name__)


class Forwarding:
    """Of one node; of no forwards it does nothing."""

    def __init__(self, forwards: Sequence[Forward], turns: Turns, store: Store) -> None:
        self._forwards = forwards
        self._turns = turns
        self._store = store
        self._scope = anyio.CancelScope()
        self._has_ended = anyio.Event()

    async def run(self) -> None:
        """Until cancelled or stopped."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    if self._forwards:
                        tasks.start_soon(_run_logged, self._turns.run)
                        tasks.start_soon(_run_logged, self._measure)
                    for forward in self._forwards:
                        tasks.start_soon(_run_logged, forward.run)
        finally:
            if self._forwards:
                await self._turns.give_back()
            self._has_ended.set()

    async def stop(self) -> None:
        """Gives sessions and turns back: another node goes on at once."""
        self._scope.cancel()
        await self._has_ended.wait()

    async def _measure(self) -> None:
        """How much waits, now and then: beyond its window the session itself does not know."""
        while True:
            try:
                connection = await self._store.connect()
                try:
                    while True:
                        await self._measure_once(connection)
                        await anyio.sleep(_MEASURE_SECONDS)
                finally:
                    await connection.aclose()
            except StoreError as error:
                logger.debug("not known how much waits: %s", error)
            await anyio.sleep(_MEASURE_SECONDS)

    async def _measure_once(self, connection: Connection) -> None:
        here = [forward.status for forward in self._forwards if forward.status.state != ELSEWHERE]
        if here:
            client_ids = [client_id_of(status.name) for status in here]
            counts = await self._store.queue_lengths(connection, client_ids)
            for status, count in zip(here, counts, strict=True):
                status.waiting = count

    async def answer(self, _: bytes) -> object:
        """To the question of how they are, by name."""
        return {forward.status.name: forward.status.shown() for forward in self._forwards}


async def _run_logged(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception:  # the top of this task: clients are not to notice it
        logger.exception("forwarding failed; this node has no part in it until its next start")


def make_forwarding(
    settings: Mapping[str, ForwardSettings],
    hub: Hub,
    store: Store,
    control: Control,
    statuses: list[ForwardStatus],
) -> Forwarding:
    """StartError if a plug-in is missing. Those of an earlier incarnation keep what they have counted:
    `statuses` is all that there was."""
    known = {status.name: status for status in statuses}
    for name, forward in settings.items():
        if name not in known:
            known[name] = ForwardStatus(name, forward.kind)
    statuses[:] = known.values()
    turns = Turns(control, list(settings))
    forwards = [
        Forward(turns, _job(forward, hub, store, known[name]), known[name], _pause_seconds_maximum(forward))
        for name, forward in settings.items()
    ]
    return Forwarding(forwards, turns, store)


def _pause_seconds_maximum(settings: ForwardSettings) -> float:
    """Between two beginnings: of a bridge that depends on the other broker; else on our own Redis."""
    return settings.retry_seconds_maximum if settings.kind == "mqtt" else _OWN_PAUSE_SECONDS


def queue_limits(settings: Mapping[str, ForwardSettings]) -> dict[str, int] | None:
    """Of the sessions that have one of their own, by Client Identifier."""
    limits = {
        client_id_of(name): forward.queue_limit
        for name, forward in settings.items()
        if forward.queue_limit is not None
    }
    return limits or None


def _job(settings: ForwardSettings, hub: Hub, store: Store, status: ForwardStatus) -> Job:
    rules = _rules(settings)
    open_sink: Callable[[], AbstractAsyncContextManager[Sink]]
    if settings.kind == "mqtt":
        return BridgeJob(hub, status, settings)
    if settings.kind == "webhook":
        open_sink = partial(open_webhook, settings, rules.batch, hub.counters.auth_reloads)
    elif settings.kind == "redis_stream":
        open_sink = partial(open_redis_stream, settings, store)
    else:
        assert settings.sink is not None
        open_sink = partial(load_plugin(settings.sink), status.name, settings.options)
    requests = requests_for(settings.topics, settings.qos)
    return SinkJob(hub, status, open_sink, requests, settings.in_flight, rules)


def _rules(settings: ForwardSettings) -> DeliveryRules:
    usual = 1 if settings.kind == "webhook" else settings.in_flight
    return DeliveryRules(
        settings.batch or usual,
        settings.timeout_seconds,
        settings.retry_seconds_maximum,
        settings.refused_tries,
    )
