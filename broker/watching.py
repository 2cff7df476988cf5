"""`--watch SECONDS` for commands that show something: again and again, until Ctrl-C, which is exit code 0.

    @app.command()
    @watched
    def nodes(admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None: ...

On a terminal each round replaces the one before; elsewhere an empty line stands between them. A round that
fails (the node restarts, something is not well) says so and is followed by the next one; wrong usage ends it.
"""

import inspect
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import wraps
from io import StringIO
from itertools import count
from typing import Annotated, Final

import typer

_ROUND_FAILED: Final = 1
_HOME_AND_CLEAR: Final = "\x1b[2J\x1b[H"

WatchOption = Annotated[
    float | None,
    typer.Option(
        "--watch", min=0.1, max=86_400, metavar="SECONDS", help="Show it again so often, until Ctrl-C."
    ),
]


def watched(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the option `--watch`; typer gives it all arguments by name."""

    @wraps(command)
    def watching(watch: float | None = None, **arguments: object) -> None:
        if watch is None:
            command(**arguments)
        else:
            _repeat(lambda: command(**arguments), watch)

    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter("watch", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=WatchOption)
    parameters = [*signature.parameters.values(), option]
    vars(watching)["__signature__"] = signature.replace(parameters=parameters)
    return watching


def _repeat(show: Callable[[], None], seconds: float) -> None:
    show_round = _replace if sys.stdout.isatty() else _append
    try:
        for number in count():
            show_round(show, number, seconds)
            time.sleep(seconds)
    except KeyboardInterrupt:
        return


def _append(show: Callable[[], None], number: int, _seconds: float) -> None:
    if number:
        typer.echo()
    _show(show)
    sys.stdout.flush()


def _replace(show: Callable[[], None], _number: int, seconds: float) -> None:
    """The old round stays until the new one is there: no flicker."""
    shown = StringIO()
    with redirect_stdout(shown), redirect_stderr(shown):
        _show(show)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    typer.echo(f"{_HOME_AND_CLEAR}every {seconds:g} s, {moment}\n\n{shown.getvalue()}", nl=False)


def _show(show: Callable[[], None]) -> None:
    try:
        show()
    except typer.Exit as end:
        if end.exit_code != _ROUND_FAILED:
            raise
