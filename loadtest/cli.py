"""The command line of the load generator.

Exit codes: 0 the broker kept its promises; 1 it didn't; 2 the load couldn't be run; 130 interrupted twice.
"""

import asyncio
import contextlib
import resource
import secrets
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer
import uvloop

from loadtest.client import ConnectFailed
from loadtest.conductor import LoadFailed, halting_on_interrupt, run_plan
from loadtest.connects import ConnectLoad, ConnectPlan, ConnectReport
from loadtest.cost import CostError, Pids
from loadtest.failover import FailOver, FailOverReport
from loadtest.idle import IdleLoad, IdlePlan, IdleReport
from loadtest.machine import facts_of
from loadtest.offline import OfflineLoad, OfflineReport, Pause
from loadtest.output import HtmlOption, JsonOption, SampleOption, put_out
from loadtest.payload import MINIMUM_SIZE
from loadtest.plan import Account, Plan, PlanError, Shape, check_plan, share_out
from loadtest.pods import Pods, PodsError
from loadtest.progress import ProgressLine
from loadtest.reading import add_commands
from loadtest.report import Report
from loadtest.result import Result
from loadtest.target import Target, TargetError, resolve_target

app = typer.Typer(help="Load an MQTT broker and verify what it delivers.", no_args_is_help=True)
add_commands(app)

_R = TypeVar("_R", bound=Report)
_OTHER_FILES: Final = 64
_LOCAL: Final = "127.0.0.1:1883"
_MESSAGES_HELP: Final = "Verifies each message; reports rates, latencies, loss, duplicates and order."

BrokerOption = Annotated[str, typer.Option("--broker", metavar="HOST:PORT", help="The broker's address.")]
SubscribeAtOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Another node of the broker, where the subscribers are."),
]
OwnOption = Annotated[
    bool, typer.Option("--i-own-this-target", help="Allow a broker that isn't on this machine.")
]
VersionOption = Annotated[
    int, typer.Option("--mqtt-version", min=3, max=5, help="3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0.")
]
UserOption = Annotated[str | None, typer.Option("--username", help="User name in CONNECT.")]
PasswordOption = Annotated[
    str | None,
    typer.Option(
        "--password", envvar="MOORLINE_LOADTEST_PASSWORD", help="Password in CONNECT.", show_envvar=True
    ),
]
PidOption = Annotated[
    list[int] | None,
    typer.Option("--pid", help="A process of the broker, measured with its children. Repeatable."),
]
RedisPidOption = Annotated[
    list[int] | None,
    typer.Option("--redis-pid", help="The same, of its Redis; one that is a child is found. Repeatable."),
]
QosOption = Annotated[int, typer.Option("--qos", min=0, max=2, help="Of publishers and subscribers.")]
PersistentOption = Annotated[
    bool, typer.Option("--persistent/--clean", help="Subscribers' sessions outlive their connections.")
]
PersistentPublishersOption = Annotated[
    bool, typer.Option("--persistent-publishers", help="Publishers' sessions outlive their connections, too.")
]
PayloadOption = Annotated[int, typer.Option("--payload", help="Bytes per message, at least 16.")]
WindowOption = Annotated[
    int,
    typer.Option(
        "--window",
        help="Closed loop: messages outstanding per publisher, until delivered (QoS 0) or acknowledged.",
    ),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--rate", help="Open loop: messages per second of all publishers; latency from the intended time."
    ),
]
DurationOption = Annotated[float, typer.Option("--duration", help="Seconds to measure.")]
CountOption = Annotated[
    int | None, typer.Option("--count", help="Messages per publisher, instead of a duration and a warm-up.")
]
WarmUpOption = Annotated[float, typer.Option("--warm-up", help="Seconds before measuring begins.")]
DrainOption = Annotated[
    float, typer.Option("--drain-timeout", help="Seconds without news after which the rest counts as lost.")
]
ProcessesOption = Annotated[int, typer.Option("--processes", help="Worker processes of the generator.")]
PublishersOption = Annotated[int | None, typer.Option("--publishers", "-n", min=1, help="How many publish.")]
SubscribersOption = Annotated[
    int | None, typer.Option("--subscribers", "-m", min=1, help="How many subscribe.")
]


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    """Turn what can go wrong before or during a run into one line and exit code 2."""
    try:
        yield
    except (TargetError, PlanError, CostError, LoadFailed, ConnectFailed, PodsError) as error:
        typer.echo(f"loadtest: {error}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error


def _allow_connections(wanted: int) -> None:
    """Raise the limit of open files as far as needed. Raises PlanError if that isn't allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise PlanError(
                f"{wanted:,} connections in one process, but only {hard:,} open files are allowed"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _show(scenario: str, report: Report, json_to: str | None, html_to: Path | None) -> None:
    """Print the report; exit with 1 if the broker broke a promise."""
    result = Result.of(scenario, report, facts_of(sys.argv))
    put_out(result, json_to, html_to)
    if result.problems:
        raise typer.Exit(1)


def _run(main: Callable[[ProgressLine], Coroutine[None, None, _R]]) -> _R:
    line = ProgressLine()
    try:
        return uvloop.run(main(line))
    finally:
        line.clear()


def _new_run_id() -> str:
    return secrets.token_hex(3)


def _clients(shape: Shape, publishers: int | None, subscribers: int | None) -> tuple[int, int]:
    """How many of each: what a shape leaves open has a small default."""
    match shape:
        case Shape.PAIRS:
            either = publishers or subscribers or 10
            return publishers or either, subscribers or either
        case Shape.FAN_IN:
            return publishers or 10, subscribers or 1
        case Shape.FAN_OUT:
            return publishers or 1, subscribers or 10


def messages(
    context: typer.Context,
    publishers: PublishersOption = None,
    subscribers: SubscribersOption = None,
    broker: BrokerOption = _LOCAL,
    subscribe_at: SubscribeAtOption = None,
    own: OwnOption = False,
    version: VersionOption = 4,
    username: UserOption = None,
    password: PasswordOption = None,
    qos: QosOption = 0,
    persistent: PersistentOption = False,
    persistent_publishers: PersistentPublishersOption = False,
    payload: PayloadOption = MINIMUM_SIZE,
    window: WindowOption = 20,
    rate: RateOption = None,
    duration: DurationOption = 10.0,
    count: CountOption = None,
    warm_up: WarmUpOption = 1.0,
    drain: DrainOption = 5.0,
    processes: ProcessesOption = 1,
    pids: PidOption = None,
    redis_pids: RedisPidOption = None,
    sample: SampleOption = 1.0,
    json_to: JsonOption = None,
    html_to: HtmlOption = None,
) -> None:
    """Publish, receive, verify, and report rates and latencies."""
    shape = Shape(context.info_name or "")
    with _explaining():
        many = _clients(shape, publishers, subscribers)
        plan = Plan(
            target=resolve_target(broker, owned=own),
            subscribers_target=resolve_target(subscribe_at, owned=own) if subscribe_at else None,
            run_id=_new_run_id(),
            account=Account(version, username, password),
            shape=shape,
            publishers=many[0],
            subscribers=many[1],
            qos=qos,
            persistent=persistent,
            persistent_publishers=persistent_publishers,
            payload_bytes=payload,
            window=window,
            rate_per_second=rate,
            duration_seconds=duration,
            count=count,
            warm_up_seconds=warm_up,
            drain_seconds=drain,
            processes=processes,
            sample_seconds=sample,
        )
        check_plan(plan)
        _allow_connections(max(share.connections for share in share_out(plan)))
        report = _run(lambda line: run_plan(plan, Pids.of(pids, redis_pids), line.messages))
        _show(str(shape), report, json_to, html_to)


app.command("pairs", help="Publisher i to subscriber i. " + _MESSAGES_HELP)(messages)
app.command("fan-in", help="All publishers to one subscriber. " + _MESSAGES_HELP)(messages)
app.command("fan-out", help="One publisher to all subscribers. " + _MESSAGES_HELP)(messages)


@app.command()
def connect(
    at_once: Annotated[int, typer.Option("--at-once", "-k", min=1, help="Clients connecting at once.")] = 50,
    broker: BrokerOption = _LOCAL,
    own: OwnOption = False,
    version: VersionOption = 4,
    username: UserOption = None,
    password: PasswordOption = None,
    persistent: PersistentOption = False,
    duration: DurationOption = 10.0,
    pids: PidOption = None,
    redis_pids: RedisPidOption = None,
    sample: SampleOption = 1.0,
    json_to: JsonOption = None,
    html_to: HtmlOption = None,
) -> None:
    """Connect and disconnect over and over: connects per second."""
    with _explaining():
        plan = ConnectPlan(
            target=resolve_target(broker, owned=own),
            run_id=_new_run_id(),
            account=Account(version, username, password),
            at_once=at_once,
            duration_seconds=duration,
            persistent=persistent,
            sample_seconds=sample,
        )
        _allow_connections(at_once)

        async def main(line: ProgressLine) -> ConnectReport:
            load = ConnectLoad(plan, Pids.of(pids, redis_pids), line.connects)
            with halting_on_interrupt(load.halt):
                return await load.run()

        _show("connect", _run(main), json_to, html_to)


@app.command()
def idle(
    connections: Annotated[int, typer.Option("--connections", "-n", min=1, help="How many.")] = 1000,
    hold: Annotated[float, typer.Option("--hold", min=0.1, help="Seconds to hold them.")] = 10.0,
    broker: BrokerOption = _LOCAL,
    own: OwnOption = False,
    version: VersionOption = 4,
    username: UserOption = None,
    password: PasswordOption = None,
    pids: PidOption = None,
    redis_pids: RedisPidOption = None,
    sample: SampleOption = 1.0,
    json_to: JsonOption = None,
    html_to: HtmlOption = None,
) -> None:
    """Hold connections that do nothing: memory and processor time they cost (with --pid)."""
    with _explaining():
        plan = IdlePlan(
            target=resolve_target(broker, owned=own),
            run_id=_new_run_id(),
            account=Account(version, username, password),
            connections=connections,
            hold_seconds=hold,
            sample_seconds=sample,
        )
        _allow_connections(connections)

        async def main(line: ProgressLine) -> IdleReport:
            load = IdleLoad(plan, Pids.of(pids, redis_pids), line.show)
            with halting_on_interrupt(load.halt):
                return await load.run()

        _show("idle", _run(main), json_to, html_to)


@app.command()
def offline(
    sessions: Annotated[int, typer.Option("--sessions", "-n", min=1, help="Persistent sessions.")] = 20,
    count: Annotated[int, typer.Option("--count", min=1, help="Messages stored for each.")] = 1000,
    pause: Annotated[
        bool,
        typer.Option(
            "--pause", help="Wait for a line on standard input before draining: empty, or a new HOST:PORT."
        ),
    ] = False,
    broker: BrokerOption = _LOCAL,
    own: OwnOption = False,
    version: VersionOption = 4,
    username: UserOption = None,
    password: PasswordOption = None,
    qos: QosOption = 1,
    payload: PayloadOption = MINIMUM_SIZE,
    window: WindowOption = 20,
    drain: DrainOption = 5.0,
    pids: PidOption = None,
    redis_pids: RedisPidOption = None,
    sample: SampleOption = 1.0,
    json_to: JsonOption = None,
    html_to: HtmlOption = None,
) -> None:
    """Store messages for sessions that are away, drain them, and verify that all came, once and in order."""
    with _explaining():
        plan = Plan(
            target=resolve_target(broker, owned=own),
            run_id=_new_run_id(),
            account=Account(version, username, password),
            publishers=sessions,
            subscribers=sessions,
            qos=qos,
            persistent=True,
            payload_bytes=payload,
            window=window,
            count=count,
            drain_seconds=drain,
            sample_seconds=sample,
        )
        check_plan(plan)
        _allow_connections(sessions)

        async def main(line: ProgressLine) -> OfflineReport:
            load = OfflineLoad(
                plan, Pids.of(pids, redis_pids), line.show, _pause_for(line, own) if pause else None
            )
            with halting_on_interrupt(load.halt):
                return await load.run()

        _show("offline", _run(main), json_to, html_to)


@app.command("fail-over")
def fail_over(
    selector: Annotated[
        str, typer.Option("--selector", metavar="LABEL=VALUE,...", help="Labels of the broker's pods.")
    ],
    broker: BrokerOption = _LOCAL,
    own: OwnOption = False,
    version: VersionOption = 4,
    username: UserOption = None,
    password: PasswordOption = None,
    count: Annotated[
        int, typer.Option("--count", min=1, help="Messages to wait for before, and as many after.")
    ] = 100,
    duration: Annotated[
        float, typer.Option("--duration", help="Seconds that the end of the pod, and coming back, may take.")
    ] = 60.0,
    drain: DrainOption = 10.0,
    json_to: JsonOption = None,
    html_to: HtmlOption = None,
) -> None:
    """In a pod on Kubernetes: kill a pod of the broker under its subscriber; verify that all came, once."""
    with _explaining():
        plan = Plan(
            target=resolve_target(broker, owned=own),
            run_id=_new_run_id(),
            account=Account(version, username, password),
            qos=2,
            persistent=True,
            duration_seconds=duration,
            drain_seconds=drain,
        )
        check_plan(plan)
        pods = Pods.of_this_pod()

        async def main(line: ProgressLine) -> FailOverReport:
            return await FailOver(plan, count, pods, selector, line.show).run()

        _show("fail-over", _run(main), json_to, html_to)


def _pause_for(line: ProgressLine, own: bool) -> Pause:
    async def wait_for_operator() -> Target | None:
        line.clear()
        typer.echo("stored; press Enter to drain, or name another HOST:PORT to drain from", err=True)
        answer = (await asyncio.to_thread(sys.stdin.readline)).strip()
        return resolve_target(answer, owned=own) if answer else None

    return wait_for_operator
