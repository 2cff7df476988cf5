"""The command line of the load generator.

Exit codes: 0 the broker kept its promises; 1 it didn't; 2 the load couldn't be run; 130 interrupted twice.
"""

import asyncio
import contextlib
import resource
import secrets
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
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
from loadtest.options import (
    BrokerOption,
    BrokersOption,
    CaOption,
    CertOption,
    CountOption,
    DrainOption,
    DurationOption,
    InsecureOption,
    KeyOption,
    OwnOption,
    PasswordOption,
    PayloadOption,
    PersistentOption,
    PersistentPublishersOption,
    PidOption,
    ProcessesOption,
    PublishersOption,
    QosOption,
    RateOption,
    RedisPidOption,
    SubscribeAtOption,
    SubscribersOption,
    UserOption,
    VersionOption,
    WarmUpOption,
    WindowOption,
)
from loadtest.output import HtmlOption, JsonOption, SampleOption, WatchOption, put_out
from loadtest.payload import MINIMUM_SIZE
from loadtest.plan import Account, Plan, PlanError, Shape, check_plan, share_out
from loadtest.pods import Pods, PodsError
from loadtest.progress import ProgressLine
from loadtest.reading import add_commands
from loadtest.report import Report
from loadtest.result import Result
from loadtest.scenario import (
    ScenarioError,
    builtin_names,
    check_draft,
    description_of,
    find_source,
    make_draft,
    make_plan,
)
from loadtest.target import Security, Target, TargetError, resolve_target

app = typer.Typer(help="Load an MQTT broker and verify what it delivers.", no_args_is_help=True)
add_commands(app)

_R = TypeVar("_R", bound=Report)
_OTHER_FILES: Final = 64
_LOCAL: Final = "127.0.0.1:1883"
_MESSAGES_HELP: Final = "Verifies each message; reports rates, latencies, loss, duplicates and order."


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    """Turn what can go wrong before or during a run into one line and exit code 2."""
    try:
        yield
    except (TargetError, PlanError, CostError, LoadFailed, ConnectFailed, PodsError, ScenarioError) as error:
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


def _targets(
    addresses: Sequence[str] | None, owned: bool, security: Security, default: str = _LOCAL
) -> tuple[Target, ...]:
    return tuple(resolve_target(text, owned=owned, security=security) for text in addresses or [default])


def _clients(shape: Shape, publishers: int | None, subscribers: int | None) -> tuple[int, int]:
    """How many of each: what a shape leaves open has a small default."""
    match shape:
        case Shape.PAIRS:
            either = publishers or subscribers or 10
            return publishers or either, subscribers or either
        case Shape.FAN_IN:
            return publishers or 10, subscribers or 1
        case _:
            return publishers or 1, subscribers or 10


# Longer than others: a table of options, and what each is of a plan.
def messages(
    context: typer.Context,
    publishers: PublishersOption = None,
    subscribers: SubscribersOption = None,
    brokers: BrokersOption = None,
    subscribe_at: SubscribeAtOption = None,
    own: OwnOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    insecure: InsecureOption = False,
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
    watch_machine: WatchOption = False,
    json_to: JsonOption = None,
    html_to: HtmlOption = None,
) -> None:
    """Publish, receive, verify, and report rates and latencies."""
    shape = Shape(context.info_name or "")
    with _explaining():
        many = _clients(shape, publishers, subscribers)
        security = Security(ca, cert, key, insecure)
        targets = _targets(brokers, own, security)
        plan = Plan(
            target=targets[0],
            further_targets=targets[1:],
            subscribers_targets=_targets(subscribe_at, own, security) if subscribe_at else (),
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
            watch_machine=watch_machine,
        )
        check_plan(plan)
        _allow_connections(max(share.connections for share in share_out(plan)))
        report = _run(lambda line: run_plan(plan, Pids.of(pids, redis_pids), line.messages))
        _show(str(shape), report, json_to, html_to)


app.command("pairs", help="Publisher i to subscriber i. " + _MESSAGES_HELP)(messages)
app.command("fan-in", help="All publishers to one subscriber. " + _MESSAGES_HELP)(messages)
app.command("fan-out", help="One publisher to all subscribers. " + _MESSAGES_HELP)(messages)


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(metavar="NAME|FILE", help="One of `scenarios`, or a TOML file.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value in place of the file's. Repeatable."),
    ] = None,
    brokers: BrokersOption = None,
    subscribe_at: SubscribeAtOption = None,
    own: OwnOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help="Believe any certificate.")] = None,
    version: Annotated[int | None, typer.Option("--mqtt-version", help="3, 4 (MQTT 3.1.1) or 5.")] = None,
    username: UserOption = None,
    password: PasswordOption = None,
    pids: PidOption = None,
    redis_pids: RedisPidOption = None,
    sample: SampleOption = 1.0,
    watch_machine: WatchOption = False,
    json_to: JsonOption = None,
    html_to: HtmlOption = None,
) -> None:
    """Run a scenario: one that comes with the program, or your own."""
    with _explaining():
        draft = make_draft(find_source(scenario), settings or [])
        draft.put_flags(
            {
                "target.brokers": ("--broker", brokers or None),
                "target.subscribe_at": ("--subscribe-at", subscribe_at or None),
                "target.ca_file": ("--ca-file", ca),
                "target.cert_file": ("--cert-file", cert),
                "target.key_file": ("--key-file", key),
                "target.insecure": ("--insecure", insecure),
                "mqtt_version": ("--mqtt-version", version),
                "username": ("--username", username),
            }
        )
        made = make_plan(check_draft(draft), draft, owned=own, run_id=_new_run_id(), password=password)
        plan = replace(made, sample_seconds=sample, watch_machine=watch_machine)
        _allow_connections(max(share.connections for share in share_out(plan)))
        report = _run(lambda line: run_plan(plan, Pids.of(pids, redis_pids), line.messages))
        _show(draft.source.name, report, json_to, html_to)


@app.command()
def scenarios(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this one, to be changed.")] = None,
) -> None:
    """List the scenarios that come with the program, or print one."""
    with _explaining():
        if name is not None:
            typer.echo(find_source(name).text, nl=False)
            return
        names = builtin_names()
        width = max(map(len, names))
        for each in names:
            typer.echo(f"{each:<{width}}  {description_of(find_source(each))}")


@app.command()
def connect(
    at_once: Annotated[int, typer.Option("--at-once", "-k", min=1, help="Clients connecting at once.")] = 50,
    brokers: BrokersOption = None,
    own: OwnOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    insecure: InsecureOption = False,
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
            targets=_targets(brokers, own, Security(ca, cert, key, insecure)),
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
    brokers: BrokersOption = None,
    own: OwnOption = False,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    insecure: InsecureOption = False,
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
            targets=_targets(brokers, own, Security(ca, cert, key, insecure)),
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
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    insecure: InsecureOption = False,
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
        security = Security(ca, cert, key, insecure)
        plan = Plan(
            target=resolve_target(broker, owned=own, security=security),
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
                plan, Pids.of(pids, redis_pids), line.show, _pause_for(line, own, security) if pause else None
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
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    insecure: InsecureOption = False,
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
            target=resolve_target(broker, owned=own, security=Security(ca, cert, key, insecure)),
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


def _pause_for(line: ProgressLine, own: bool, security: Security) -> Pause:
    async def wait_for_operator() -> Target | None:
        line.clear()
        typer.echo("stored; press Enter to drain, or name another HOST:PORT to drain from", err=True)
        answer = (await asyncio.to_thread(sys.stdin.readline)).strip()
        return resolve_target(answer, owned=own, security=security) if answer else None

    return wait_for_operator
