"""The whole command `moorline`, in this process: a start of another one costs half a second."""

from collections.abc import Mapping
from functools import cache

import typer
from typer.testing import CliRunner, Result

from broker.cli import add_groups, app


@cache
def _program() -> typer.Typer:
    add_groups(app)
    return app


def run(*arguments: str, environment: Mapping[str, str] | None = None) -> Result:
    """`moorline ARGUMENTS`."""
    plain = {"COLUMNS": "200", "NO_COLOR": "1"}
    return CliRunner().invoke(
        _program(), list(arguments), env={**plain, **(environment or {})}, prog_name="moorline"
    )
