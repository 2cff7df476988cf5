"""`moorline passwd`: makes and changes the password file of `auth.password_file`.

A password is asked for, or read from standard input; on the command line others could see it.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from broker.auth.password_file import hash_password, is_user_name, read_passwords
from broker.files import replace_file
from broker.prompting import ask_password


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
            users[_checked(name)] = hash_password(text)
    _write(file, users)


def _read(file: Path) -> dict[str, str]:
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


def _write(file: Path, users: Mapping[str, str]) -> None:
    try:
        replace_file(file, (f"{name}:{hashed}\n" for name, hashed in users.items()))
    except OSError as error:
        _refuse(f"{file}: {error.strerror}")


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"moorline: {reason}", err=True)
    raise typer.Exit(2)
