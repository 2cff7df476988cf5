"""`moorline token`: makes and deletes tokens of the admin address, in the file of `admin.tokens_file`.

The file has hashes only: a token is printed when it is made, and never again.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from broker.auth.admin_tokens import ROLES, Token, is_token_name, make_token, read_tokens
from broker.files import replace_file


class RoleName(StrEnum):
    """Values of --role."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


def token(
    file: Annotated[Path, typer.Argument(help="The file with tokens; made if it isn't there.")],
    name: Annotated[str, typer.Argument(help="What the token is called in the audit log.")],
    role: Annotated[
        RoleName | None,
        typer.Option(
            help="read: figures and nodes; operate: also drain and rebalance; admin: also users, rules, bans."
        ),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Take the token out.")] = False,
) -> None:
    """Make a token for the admin address and print it, or delete one. Nodes read the file by themselves."""
    if (role is None) != delete:
        _refuse("give --role for a new token, or --delete")
    if not is_token_name(name):
        _refuse("a token is called by up to 64 letters, digits, and . _ - @")
    tokens = _read(file)
    if role is None:
        if tokens.pop(name, None) is None:
            _refuse(f"{file}: there is no such token")
        _write(file, tokens)
        return
    if name in tokens:
        _refuse(f"{file}: there is a token of this name; delete it first")
    text, tokens[name] = make_token(name, ROLES[role])
    _write(file, tokens)
    typer.echo(text)


def _read(file: Path) -> dict[str, Token]:
    if not file.exists():
        return {}
    try:
        return {each.name: each for each in read_tokens(file)}
    except ValueError as error:
        _refuse(str(error))


def _write(file: Path, tokens: dict[str, Token]) -> None:
    try:
        replace_file(file, (each.to_line() for each in tokens.values()))
    except OSError as error:
        _refuse(f"{file}: {error.strerror}")


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"moorline: {reason}", err=True)
    raise typer.Exit(2)
