"""The commands that load nothing by themselves: show a result, set two beside each other, compare brokers."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from loadtest import compare as comparing
from loadtest import diff as differing
from loadtest.machine import facts_of
from loadtest.matrix import SCENARIOS
from loadtest.output import HtmlOption, JsonOption, put_out, write
from loadtest.peers import MOORLINE, PEERS, BrokerFailed
from loadtest.result import Result, ResultError

ResultArgument = Annotated[Path, typer.Argument(metavar="RESULT.json", help="What --json has written.")]
_KEYS: Final = [scenario.key for scenario in SCENARIOS]
_OTHERS: Final = [name for name in PEERS if name != MOORLINE]


def _load(path: Path) -> Result:
    try:
        return Result.load(path)
    except ResultError as error:
        raise _refused(str(error)) from error


def _refused(text: str) -> typer.Exit:
    typer.echo(f"loadtest: {text}", err=True)
    return typer.Exit(2)


def show(result: ResultArgument, json_to: JsonOption = None, html_to: HtmlOption = None) -> None:
    """Show a result again, that a run has kept with --json."""
    put_out(_load(result), json_to, html_to)


def diff(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="What --json has written.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="The same, of another run.")],
    json_to: JsonOption = None,
    html_to: HtmlOption = None,
) -> None:
    """Set two results beside each other: each figure, and how many times A's B's is."""
    difference = differing.compare_results(_load(before), _load(after))
    write(
        differing.render_table(difference),
        differing.render_json(difference),
        differing.render_html(difference),
        json_to,
        html_to,
    )


def compare(
    peers: Annotated[list[str], typer.Argument(metavar="PEER ...", help=f"Of {', '.join(_OTHERS)}.")],
    scenarios: Annotated[
        list[str] | None,
        typer.Option("--scenario", metavar="NAME", help=f"One of {', '.join(_KEYS)}; repeatable.  [all]"),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Of each load on each broker.")] = 3,
    duration: Annotated[float, typer.Option("--duration", min=0.1, help="Seconds of a run.")] = 5.0,
    json_to: JsonOption = None,
    html_to: HtmlOption = None,
) -> None:
    """Start peers from their packages, and a Moorline; run the same loads on each in turn, and compare."""
    for names, known in ((peers, _OTHERS), (scenarios or [], _KEYS)):
        if unknown := [name for name in names if name not in known]:
            raise _refused(f"{', '.join(unknown)} is none of {', '.join(known)}")
    options = comparing.Options(
        scenarios=tuple(each for each in SCENARIOS if not scenarios or each.key in scenarios),
        brokers=(MOORLINE, *dict.fromkeys(peers)),
        runs=runs,
        duration_seconds=duration,
    )
    try:
        versions = comparing.versions_of(options.brokers)
    except BrokerFailed as error:
        raise _refused(str(error)) from error
    comparison = comparing.Comparison(options, lambda text: typer.echo(text, err=True))
    try:
        comparison.measure()
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error
    facts, notes = {**facts_of(sys.argv), **versions}, comparing.notes_on(versions)
    write(
        comparing.render_table(comparison, notes),
        comparing.render_json(comparison, facts),
        comparing.render_html(comparison, facts, notes),
        json_to,
        html_to,
    )
    if any(failure.broker == MOORLINE for failure in comparison.failures):
        raise typer.Exit(1)


def add_commands(to: typer.Typer) -> None:
    """Adds `show`, `diff` and `compare`."""
    for command in (show, diff, compare):
        to.command()(command)
