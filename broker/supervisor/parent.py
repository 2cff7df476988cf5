"""The parent of the workers: builds and wires what there is once, starts and stops it in order.

Start: ports, admin, private Redis (if no URL is given), store, workers.
Stop: workers (they tell their clients, and store what they owe), store, private Redis.
"""

import os
import secrets
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from broker import __version__
from broker.admin import front_routes, make_api, make_door, serve_app
from broker.chores import Chores, plan
from broker.durability import private_redis
from broker.flags import Sources
from broker.listeners import bind_tcp, bound_address
from broker.node import HURRY, REREAD
from broker.observability import logs
from broker.observability.audit import audit_file, reopen_audit_file
from broker.observability.chores import ChoreCounters
from broker.observability.health import Health
from broker.observability.logs import get_logger
from broker.observability.metrics import Counters
from broker.process import given_url, reach_store, say_where
from broker.reloading import Reloading
from broker.settings import Address, ListenerSettings, Settings, worker_name
from broker.settings.live import with_live
from broker.supervisor.app import make_app
from broker.supervisor.assignment import Assignment
from broker.supervisor.crew import Crew
from broker.supervisor.outlook import Outlook
from broker.supervisor.worker import Worker
from cluster.control import Control, ControlError, Desk
from cluster.drain import Departure
from cluster.store.data_directory import SOCKET_PATH_MAXIMUM
from cluster.store.errors import StoreError
from cluster.store.store import Store

STOP_MARGIN_SECONDS: Final = 5.0
"""What a worker gets on top of its own timeout, before it is killed."""

_PING_SECONDS: Final = 1.0
_PING_TIMEOUT_SECONDS: Final = 2.0
_TELL_TIMEOUT_SECONDS: Final = 2.0

logger = get_logger(__name__)


@dataclass(slots=True)
class Surroundings:
    """What is there before Redis is, and outlives it."""

    settings: Settings
    """With the ports that the system picked; of what is live there may be newer ones, all the time."""
    given: Settings
    """As the command was given them; the same."""
    sources: Sources
    crew: Crew
    admin: Sequence[Address]
    stopping: Departure
    desk: Desk


async def run(given: Settings, sources: Sources) -> int:
    """Runs the workers until SIGTERM or SIGINT; the exit code. Raises StartError."""
    settings = given
    stopping = Departure()
    at_once = anyio.Event()
    desk = Desk(stopping, _worker_names(settings))
    with (
        ExitStack() as reserved,
        _private_directory() as directory,
        audit_file(settings.auth.audit_file, settings.node.name, settings.auth.audit_logins),
        anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, REREAD) as signals,
    ):
        settings = await _reserve_all(settings, reserved)
        crew = Crew(_workers(settings, directory, stopping), Health(), ChoreCounters())
        chores = plan(settings, stopping, desk, crew.chores)
        async with anyio.create_task_group() as process:
            process.start_soon(_hurry, at_once, crew, process.cancel_scope)
            admin = list(settings.node.admin)
            around = Surroundings(settings, given, sources, crew, admin, stopping, desk)
            counters = Counters(settings.node.name, __version__)
            door, watches = make_door(settings.admin, counters, desk)
            front = front_routes(door)
            for follow in watches:
                process.start_soon(follow)
            for place, address in enumerate(admin):  # first of all: probes may ask while we wait for Redis
                api = make_api(
                    crew.health, counters, desk, address, settings.auth.scram_keys, asks=door.asks,
                    settings=lambda: around.settings,
                )  # fmt: skip
                app = make_app(crew, [*front, api])
                admin[place] = await process.start(serve_app, address, app, door)
            adopt = partial(_adopt, around, chores)
            reloading = Reloading(given, sources.read, adopt, counters.settings_reloads)
            reload = partial(process.start_soon, reloading.at_signal)
            process.start_soon(_watch_signals, signals, stopping, at_once, crew, reload)
            outlook = Outlook(crew, desk, stopping)
            process.start_soon(outlook.run)
            process.start_soon(chores.run, lambda: outlook.state)
            await _run_with_redis(around)
            process.cancel_scope.cancel()
    return 1 if at_once.is_set() else 0


def _adopt(around: Surroundings, chores: Chores, _: frozenset[str], settings: Settings) -> None:
    """Here, and by the workers that start from now on: those that run read for themselves."""
    around.settings = with_live(around.settings, settings)
    around.given = settings
    logs.set_level(settings.node.log_level)
    chores.change(settings.cluster)


async def _watch_signals(
    signals: AsyncIterator[signal.Signals],
    stopping: Departure,
    at_once: anyio.Event,
    crew: Crew,
    reload: Callable[[], object],
) -> None:
    async for number in signals:
        if number == REREAD:
            reload()
        elif number == signal.SIGHUP:
            reopen_audit_file()
            reload()
            for worker in crew.workers:
                worker.hang_up()
        elif stopping.is_set() and not stopping.hurry():
            logger.warning("second signal: stopping at once", extra={"signal": number.name})
            at_once.set()
        else:
            stopping.begin(number.name)


async def _hurry(at_once: anyio.Event, crew: Crew, everything: anyio.CancelScope) -> None:
    await at_once.wait()
    crew.send_signal(signal.SIGKILL)
    everything.cancel()


async def _run_with_redis(around: Surroundings) -> None:
    url = given_url(around.settings.redis)
    if url is not None:
        return await _run_with_store(around, url)
    async with private_redis(around.settings) as private:
        return await _run_with_store(around, private.url)


async def _run_with_store(around: Surroundings, url: str) -> None:
    """Workers start when Redis is there: so one process waits for it, and says if it can't be used."""
    settings = around.settings
    incarnation = f"{settings.node.name}.{secrets.token_hex(6)}"
    health = around.crew.health
    store = await reach_store(url, settings, incarnation, around.stopping, lambda _: None)
    if store is None:
        return
    async with store, anyio.create_task_group() as services:
        around.desk.control = Control(store, incarnation)
        health.redis_back()
        health.started()
        services.start_soon(store.watch_primary)
        services.start_soon(_watch_redis, store, health)
        services.start_soon(_say_where, around, store)
        services.start_soon(_stop, around)
        async with anyio.create_task_group() as crew:
            for worker in around.crew.workers:
                crew.start_soon(worker.run, partial(_assignment, around, url, worker))
        services.cancel_scope.cancel()
    logger.info("stopped")


def _assignment(around: Surroundings, url: str, worker: Worker) -> Assignment:
    """The settings of the command, but for what is the parent's, as those of a single node."""
    settings = around.settings
    node = settings.node.model_copy(update={"name": worker.name, "admin": tuple(around.admin), "workers": 1})
    redis = settings.redis.model_copy(update={"url": url})
    own = settings.model_copy(update={"node": node, "redis": redis})
    return Assignment(own, worker.socket, os.getpid(), around.given, around.sources)


async def _watch_redis(store: Store, health: Health) -> None:
    """Asks whether it is there: the parent has nothing to store that would show it."""
    while True:
        try:
            with anyio.fail_after(_PING_TIMEOUT_SECONDS):
                await store.ping()
        except TimeoutError:
            health.redis_away(f"no answer within {_PING_TIMEOUT_SECONDS:g} s")
        except StoreError as error:
            health.redis_away(str(error))
        else:
            health.redis_back()
        await anyio.sleep(_PING_SECONDS)


async def _say_where(around: Surroundings, store: Store) -> None:
    """Once all workers have been tried and clients can connect."""
    workers = around.crew.workers
    for worker in workers:
        await worker.tried.wait()
    async with anyio.create_task_group() as first:
        for worker in workers:
            first.start_soon(_until_up, worker, first.cancel_scope)
    who = f"nodes {workers[0].name} to {workers[-1].name}"
    say_where(who, around.settings.all_listeners(), around.admin, around.settings, store)


async def _until_up(worker: Worker, waiting: anyio.CancelScope) -> None:
    await worker.been_up.wait()
    waiting.cancel()


async def _stop(around: Surroundings) -> None:
    """Ends the workers when it is time."""
    crew = around.crew
    pause_seconds = around.settings.cluster.drain_pause_seconds
    await around.stopping.wait()
    crew.health.drain()
    async with anyio.create_task_group() as telling:
        for worker in crew.workers:
            telling.start_soon(_tell_to_stop, around, worker)
    if not await around.stopping.pause(pause_seconds):
        crew.send_signal(HURRY)
    limit_seconds = _stop_timeout(around.settings) - pause_seconds
    await anyio.sleep(limit_seconds)
    logger.error("not every worker has ended within %g s: killed", limit_seconds)
    around.crew.send_signal(signal.SIGKILL)


async def _tell_to_stop(around: Surroundings, worker: Worker) -> None:
    """By a signal; by Redis if its clients are to be told not to come back, which a signal can't say."""
    control = around.desk.control
    if around.stopping.moved and control is not None:
        try:
            with anyio.fail_after(_TELL_TIMEOUT_SECONDS):
                await control.drain(worker.name, moved=True)
        except (ControlError, StoreError, TimeoutError) as error:
            logger.warning("could not tell that clients are to move", extra={"error": str(error)})
        else:
            return
    worker.send_signal(signal.SIGTERM)


def _workers(settings: Settings, directory: Path, stopping: Departure) -> list[Worker]:
    return [
        Worker(name, directory / str(number), stopping, _stop_timeout(settings))
        for number, name in enumerate(_worker_names(settings), 1)
    ]


def _worker_names(settings: Settings) -> list[str]:
    return [worker_name(settings.node.name, number + 1) for number in range(settings.node.workers)]


def _stop_timeout(settings: Settings) -> float:
    """The longest that a stop of a worker may take, from the first signal on."""
    pause_seconds = settings.cluster.drain_pause_seconds
    return pause_seconds + settings.node.shutdown_timeout_seconds + STOP_MARGIN_SECONDS


async def _reserve_all(settings: Settings, reserved: ExitStack) -> Settings:
    """Holds the addresses of all listeners; the settings with the ports that they got."""
    listeners: list[ListenerSettings] = []
    for listener in settings.all_listeners():
        assert isinstance(listener.address.address, Address)  # there is no other with several workers
        port = reserved.enter_context(await _reserve(listener.address.address))
        listeners.append(listener.bound_to(bound_address(port)))
    return settings.bound_to(listeners)


async def _reserve(address: Address) -> socket.socket:
    """Holds an address, and the port that the system picked for it, for workers that come and go.

    Bound without sharing, which fails if anybody has it, other workers of this user too; shared from then on,
    with those who ask for it. It does not listen, so no connection ever goes to it.
    """
    reserved = await bind_tcp(address)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return reserved


@contextmanager
def _private_directory() -> Iterator[Path]:
    """For the sockets of the workers; ours alone. Under /tmp if the usual place makes paths too long."""
    longest = SOCKET_PATH_MAXIMUM - len("/moorline-12345678/1024")
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) > longest:
        parent = "/tmp"
    with tempfile.TemporaryDirectory(prefix="moorline-", dir=parent, ignore_cleanup_errors=True) as path:
        yield Path(path)
