"""Where results go: a table for people on the terminal, JSON and HTML into files."""

from pathlib import Path
from typing import Annotated

import typer

from loadtest.page import result_page
from loadtest.result import Result
from loadtest.timeline import SHORTEST_STEP_SECONDS

JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="Write the report as JSON; - is standard output."),
]
HtmlOption = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write the report, with plots, as one HTML file."),
]


def _checked_step(seconds: float) -> float:
    if seconds and seconds < SHORTEST_STEP_SECONDS:
        raise typer.BadParameter(f"at least {SHORTEST_STEP_SECONDS:g}, or 0 for none")
    return seconds


SampleOption = Annotated[
    float,
    typer.Option("--sample", callback=_checked_step, help="Seconds of a step of the timeline; 0 for none."),
]

WatchOption = Annotated[
    bool,
    typer.Option(
        "--watch-machine",
        help="Measure how fast the machine itself is, and give the latencies without its slow steps, too.",
    ),
]


def put_out(result: Result, json_to: str | None, html_to: Path | None) -> None:
    """Print a result, and write what was asked for."""
    write(result.table(), result.json(), result_page(result), json_to, html_to)
    for problem in result.problems:
        typer.echo(f"FAILED: {problem}", err=True)


def write(table: str, json: bytes, html: str, json_to: str | None, html_to: Path | None) -> None:
    """The table goes to standard error if the JSON takes standard output. Raises typer.Exit."""
    try:
        if json_to is not None and json_to != "-":
            Path(json_to).write_bytes(json)
        if html_to is not None:
            html_to.write_text(html)
    except OSError as error:
        typer.echo(f"loadtest: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(table, err=json_to == "-")
    if json_to == "-":
        typer.echo(json, nl=False)
