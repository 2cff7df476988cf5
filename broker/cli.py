"""The command `moorline`: from flags to settings, from how a node ended to an exit code.

Exit codes of `serve`: 0 a clean stop, 1 a crash, 2 the settings or the environment allow no start.
"""

import gc
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Final, TypeVar

import anyio
import typer

from broker import __version__, build_mode
from broker.errors import SettingsError, start_errors
from broker.flags import Sources, with_sources
from broker.observability import logs
from broker.settings import Settings
from broker.settings.shown import shown_toml

EXIT_CRASH = 1
EXIT_REFUSED = 2

_WITHOUT_GROUPS: Final = (["serve"], ["worker"], ["--version"])

Order = TypeVar("Order")

logger = logs.get_logger(__name__)

app = typer.Typer(
    name="moorline",
    help="A clustered MQTT broker on Redis or Valkey.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of the console script."""
    asked = sys.argv[1:2]
    if asked not in _WITHOUT_GROUPS:
        add_groups(app, *asked)
    gc.freeze()  # modules stay: while a node imports the rest, no collection needs to look at these (0.03 s)
    app(prog_name="moorline")


def add_groups(to: typer.Typer, asked: str = "") -> None:
    """Adds the one that is asked for; all, if that is none of them."""
    for add in [_GROUPS[asked]] if asked in _GROUPS else _GROUPS.values():
        add(to)


# Imports are not at the top: nodes start without these, and one command without the others (up to 1 s less).


def _add_ctl(to: typer.Typer) -> None:
    from broker.ctl import app as ctl_app
    from broker.ctl_alarms import alarms
    from broker.ctl_bans import app as bans_app
    from broker.ctl_clients import add_commands as add_clients
    from broker.ctl_content import add_commands as add_content
    from broker.ctl_explain import explain
    from broker.ctl_forwards import forwards
    from broker.ctl_moving import add_commands as add_moving
    from broker.ctl_redis import redis
    from broker.ctl_reload import reload
    from broker.ctl_rights import review
    from broker.ctl_trace import events, trace
    from broker.ctl_users import rules_app, users_app
    from broker.ctl_waiting import add_commands as add_waiting

    ctl_app.add_typer(users_app, name="users")
    ctl_app.add_typer(rules_app, name="rules")
    ctl_app.add_typer(bans_app, name="bans")
    ctl_app.command()(review)
    add_content(ctl_app)
    ctl_app.command()(trace)
    ctl_app.command()(events)
    ctl_app.command()(reload)
    ctl_app.command("explain")(explain)
    ctl_app.command()(forwards)
    ctl_app.command()(alarms)
    ctl_app.command()(redis)
    add_clients(ctl_app)
    add_waiting(ctl_app)
    add_moving(ctl_app)
    to.add_typer(ctl_app, name="ctl")


def _add_passwd(to: typer.Typer) -> None:
    from broker.passwd import passwd

    to.command()(passwd)


def _add_token(to: typer.Typer) -> None:
    from broker.token import token

    to.command()(token)


def _add_doctor(to: typer.Typer) -> None:
    from broker.doctor.command import doctor

    to.command()(doctor)


def _add_redis(to: typer.Typer) -> None:
    from broker.redis_tools import app as redis_app

    to.add_typer(redis_app, name="redis")


def _add_loadtest(to: typer.Typer) -> None:
    from loadtest.cli import app as loadtest_app

    to.add_typer(loadtest_app, name="loadtest")


_GROUPS: Final[Mapping[str, Callable[[typer.Typer], None]]] = {
    "ctl": _add_ctl,
    "passwd": _add_passwd,
    "token": _add_token,
    "doctor": _add_doctor,
    "redis": _add_redis,
    "loadtest": _add_loadtest,
}


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"moorline {__version__} ({build_mode()})")
        raise typer.Exit


@app.callback()
def moorline(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and whether compiled.",
        ),
    ] = False,
) -> None:
    """A clustered MQTT broker on Redis or Valkey."""


@app.command()
@with_sources
def serve(
    sources: Sources,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config",
            help="Print the settings that it would run with, as a file for --config, and do nothing else.",
        ),
    ] = False,
) -> None:
    """Run a node, or several, until SIGTERM or Ctrl-C. A variable or a file can give every setting too."""
    try:
        settings = sources.read()
    except SettingsError as error:
        typer.echo(f"moorline: {error}", err=True)
        raise typer.Exit(EXIT_REFUSED) from None
    if print_config:
        typer.echo(shown_toml(settings), nl=False)
        raise typer.Exit
    logs.configure(settings.node.log_level, settings.node.log_format, settings.node.name)
    raise typer.Exit(run_node(settings, sources))


@app.command(hidden=True)
def worker(name: str) -> None:
    """Run one of several nodes; started by `serve --workers`, which says on standard input how."""
    # Not above: see run_node.
    from broker.supervisor.assignment import read_assignment
    from broker.supervisor.child import run_child, tell_refusal

    try:
        assignment = read_assignment(sys.stdin.buffer.read())
    except ValueError as error:
        typer.echo(f"moorline: {name} is for `moorline serve --workers` to start: {error}", err=True)
        raise typer.Exit(EXIT_REFUSED) from None
    node = assignment.settings.node
    logs.configure(node.log_level, node.log_format, node.name)
    raise typer.Exit(exit_code_of(run_child, assignment, tell_refusal))


def run_node(settings: Settings, sources: Sources) -> int:
    """Run a node to its end, or the parent of several; the exit code. The sources may be read again."""
    # Not above: `moorline --version` and `moorline loadtest` start without the broker (0.3 s less).
    if settings.node.workers > 1:
        from broker.supervisor.parent import run as run_workers

        return exit_code_of(partial(run_workers, sources=sources), settings)
    from broker.node import run

    return exit_code_of(partial(run, read=sources.read), settings)


def _complain(text: str) -> None:
    typer.echo(f"moorline: {text}", err=True)


def exit_code_of(
    run: Callable[[Order], Awaitable[int]], order: Order, tell_refusal: Callable[[str], None] = _complain
) -> int:
    """Run `run` in an event loop, uvloop's where there is one, and turn what it raises into an exit code.

    A StartError is told in one line on standard error, anything else is logged with its traceback.
    """
    use_uvloop = find_spec("uvloop") is not None
    try:
        return anyio.run(run, order, backend_options={"use_uvloop": use_uvloop})
    except (Exception, BaseExceptionGroup) as error:  # the top of the program
        refusals = dict.fromkeys(str(refusal) for refusal in start_errors(error))
        for refusal in refusals:
            tell_refusal(refusal)
        if refusals:
            return EXIT_REFUSED
        logger.critical("node crashed", exc_info=error)
        return EXIT_CRASH
