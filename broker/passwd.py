"""`moorline passwd`: makes and changes the password file of `auth.password_file`.

A password is asked for, or read from standard input; on the command line others could see it.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from broker.auth.password_file import Kept, hash_password, is_user_name, read_passwords
from broker.auth.scram_keys import format_keys, keys_of_user
from broker.files import replace_file
from broker.prompting import ask_password
from broker.settings.auth_redis import (
    SCRAM_ITERATIONS,
    SCRAM_ITERATIONS_LEAST,
    SCRAM_ITERATIONS_MOST,
)


def passwd(
    file: Annotated[Path, typer.Argument(help="The password file; made if it isn't there.")],
    user: Annotated[str | None, typer.Argument(help="Who gets a password; not with --batch.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Take the user out.")] = False,
    batch: Annotated[
        bool, typer.Option("--batch", help="Read lines USER:PASSWORD from standard input.")
    ] = False,
    password: Annotated[
        str | None, typer.Option(help="The password. Other users of this machine can see it.", metavar="TEXT")
    ] = None,
    scram: Annotated[
        bool | None,
        typer.Option(
            "--scram/--no-scram",
            help="Keep keys for SCRAM-SHA-256 beside the hash; not given: for those who have some. Whoever"
            " steals them can try passwords faster.",
        ),
    ] = None,
    iterations: Annotated[
        int,
        typer.Option(
            min=SCRAM_ITERATIONS_LEAST,
            max=SCRAM_ITERATIONS_MOST,
            help="Of the hash in these keys. The same for all users, or they can be told from unknown ones.",
        ),
    ] = SCRAM_ITERATIONS,
) -> None:
    """Make, change or delete users in a password file. Nodes read it again by themselves."""
    if (user is None) != batch or (delete and batch) or (password is not None and (delete or batch)):
        _refuse("give a USER, or --batch; and a password only for a USER who is not deleted")
    users = _read(file)
    if delete:
        if users.pop(user or "", None) is None:
            _refuse(f"{file}: there is no such user")
    else:
        given = _lines() if batch else [(user or "", ask_password(_refuse) if password is None else password)]
        for name, text in given:
            kept = users.get(_checked(name))
            with_keys = kept is not None and kept.keys is not None if scram is None else scram
            users[name] = _kept(name, text, iterations if with_keys else None)
    _write(file, users)


def _kept(name: str, text: str, scram_iterations: int | None) -> Kept:
    """What the file has in place of the password; without keys if there are no iterations."""
    if scram_iterations is None:
        return Kept(hash_password(text))
    keys = keys_of_user(name, text, scram_iterations)
    if keys is None:
        typer.echo(f"{name}: SCRAM does not have that name or password; no keys for it", err=True)
    return Kept(hash_password(text), format_keys(keys) if keys is not None else None)


def _read(file: Path) -> dict[str, Kept]:
    if not file.exists():
        return {}
    try:
        return read_passwords(file)
    except ValueError as error:
        _refuse(str(error))


def _checked(name: str) -> str:
    if not is_user_name(name):
        _refuse("a user name has 1 to 255 characters, no colon and no control characters, no # in front")
    return name


def _lines() -> Iterator[tuple[str, str]]:
    for number, line in enumerate(sys.stdin, 1):
        name, colon, text = line.rstrip("\r\n").partition(":")
        if not colon or not text:
            _refuse(f"standard input, line {number}: not USER:PASSWORD")
        yield name, text


def _write(file: Path, users: Mapping[str, Kept]) -> None:
    try:
        replace_file(file, (f"{name}:{':'.join(filter(None, kept))}\n" for name, kept in users.items()))
    except OSError as error:
        _refuse(f"{file}: {error.strerror}")


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"moorline: {reason}", err=True)
    raise typer.Exit(2)
