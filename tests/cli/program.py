"""The whole command `moorline`, in this process: a start of another one costs half a second."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from broker.cli import add_groups, app


@cache
def make_program() -> Any:
    """To make all commands anew takes as long as thirty runs, and the runner does each time."""
    add_groups(app)
    return get_command(app)


def run(
    *arguments: str, environment: Mapping[str, str] | None = None, given: str | bytes | None = None
) -> Result:
    """`moorline ARGUMENTS`; `given` is on standard input."""
    plain = {"COLUMNS": "200", "NO_COLOR": "1"}
    made = make_program()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", lambda _: made)
        return CliRunner().invoke(
            app, list(arguments), given, env={**plain, **(environment or {})}, prog_name="moorline"
        )
