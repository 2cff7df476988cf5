"""`moorline ctl users` and `moorline ctl rules`: users and rules that are kept in Redis.

A password is asked for, or read from standard input; on the command line others could see it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import quote, urlencode

import typer

from broker.ctl import (
    EXIT_REFUSED,
    LOCAL,
    AdminOption,
    Answer,
    JsonOption,
    ask,
    print_json,
    print_table,
    text,
)
from broker.prompting import ask_password

_PAGE: Final = 500

users_app = typer.Typer(help="Users that are kept in Redis.", no_args_is_help=True)
rules_app = typer.Typer(help="Rules that are kept in Redis, for all nodes.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The user name.")]
GroupsOption = Annotated[
    list[str] | None, typer.Option("--group", metavar="GROUP", help="A group, for rules; may be repeated.")
]


@users_app.command("list")
def list_users(
    admin: AdminOption = LOCAL,
    after: Annotated[str | None, typer.Option("--after", metavar="NAME", help="Begin behind it.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """List users by name."""
    found: list[Answer] = []
    while len(found) < limit:
        query = {"limit": str(min(_PAGE, limit - len(found)))} | (
            {"after": after} if after is not None else {}
        )
        page, _ = ask(admin, "GET", f"/users?{urlencode(query)}")
        found += page["users"]
        after = page["next"]
        if after is None:
            break
    if as_json:
        print_json({"users": found, "next": after})
        return
    _print_users(found)
    if after is not None:
        typer.echo(f"there may be more: --after {after}", err=True)


@users_app.command()
def show(name: NameArgument, admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """Show a user; never its hash."""
    answer, _ = ask(admin, "GET", _path(name))
    if as_json:
        print_json(answer)
        return
    rules = answer["rules"] or {}
    own = [(f"may {action}", each) for action in ("publish", "subscribe") for each in rules.get(action, ())]
    fields = [
        (key, _value(answer[key])) for key in ("name", "enabled", "groups", "scram", "created", "changed")
    ]
    print_table([*fields, *own])


@users_app.command()
def add(
    name: NameArgument,
    admin: AdminOption = LOCAL,
    group: GroupsOption = None,
    publish: Annotated[
        list[str] | None,
        typer.Option(
            "--publish", metavar="FILTER", help="Where the user may publish in any case; may be repeated."
        ),
    ] = None,
    subscribe: Annotated[
        list[str] | None,
        typer.Option("--subscribe", metavar="FILTER", help="What it may subscribe to; may be repeated."),
    ] = None,
) -> None:
    """Make a user. The password is asked for, or read from standard input."""
    body: dict[str, Any] = {"password": ask_password(_refuse), "groups": group or [], "expect": "new"}
    if publish or subscribe:
        body["rules"] = {"publish": publish or [], "subscribe": subscribe or []}
    _put(admin, name, body, "is there now")


@users_app.command()
def passwd(name: NameArgument, admin: AdminOption = LOCAL) -> None:
    """Give a user another password. Its clients are disconnected."""
    _change(admin, name, {"password": ask_password(_refuse)}, "has another password")


@users_app.command()
def groups(name: NameArgument, admin: AdminOption = LOCAL, group: GroupsOption = None) -> None:
    """Put a user into these groups, and no others."""
    _change(admin, name, {"groups": group or []}, f"is in {', '.join(group or ['no group'])}")


@users_app.command()
def disable(name: NameArgument, admin: AdminOption = LOCAL) -> None:
    """Let a user in no more, until it is enabled. Its clients are disconnected."""
    _change(admin, name, {"enabled": False}, "is disabled")


@users_app.command()
def enable(name: NameArgument, admin: AdminOption = LOCAL) -> None:
    """Let a user in again."""
    _change(admin, name, {"enabled": True}, "is enabled")


@users_app.command()
def delete(name: NameArgument, admin: AdminOption = LOCAL) -> None:
    """Delete a user. Its clients are disconnected."""
    ask(admin, "DELETE", _path(name), {})
    typer.echo(f"{name} is deleted")


@users_app.command("import")
def import_users(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A password file, of lines NAME:HASH[:KEYS].")],
    admin: AdminOption = LOCAL,
) -> None:
    """Make the users of a password file, or give them the hashes and keys in there. May be repeated."""
    # Not above: it needs argon2, and the other commands don't.
    from broker.auth.password_file import read_passwords

    try:
        users = read_passwords(file)
    except ValueError as error:
        _refuse(str(error))
    for name, kept in users.items():
        ask(admin, "PUT", _path(name), {"hash": kept.hashed, "scram": kept.keys})
    typer.echo(f"{len(users)} users")


@rules_app.command("show")
def show_rules(admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """Print the rules."""
    answer, _ = ask(admin, "GET", "/rules")
    if as_json:
        print_json(answer)
    elif answer["text"] is None:
        typer.echo("there are no rules", err=True)
    else:
        typer.echo(answer["text"], nl=not answer["text"].endswith("\n"))


@rules_app.command()
def check(file: Annotated[Path, typer.Argument(metavar="FILE")], admin: AdminOption = LOCAL) -> None:
    """Look for mistakes in a file of rules, and change nothing."""
    answer, _ = ask(admin, "POST", "/rules/check", {"text": _text_of(file)})
    for mistake in answer["mistakes"]:
        typer.echo(f"{file}: {mistake}", err=True)
    if answer["mistakes"]:
        raise typer.Exit(EXIT_REFUSED)
    typer.echo("no mistakes")


@rules_app.command("set")
def set_rules(file: Annotated[Path, typer.Argument(metavar="FILE")], admin: AdminOption = LOCAL) -> None:
    """Replace the rules by those of a file, on all nodes, within a second."""
    answer, _ = ask(admin, "PUT", "/rules", {"text": _text_of(file)})
    typer.echo(f"version {answer['version']}")


@rules_app.command()
def clear(admin: AdminOption = LOCAL) -> None:
    """Take the rules away."""
    answer, _ = ask(admin, "DELETE", "/rules", {})
    typer.echo(f"version {answer['version']}")


def _change(admin: str, name: str, body: Mapping[str, Any], done: str) -> None:
    _put(admin, name, {**body, "expect": "existing"}, done)


def _put(admin: str, name: str, body: Mapping[str, Any], done: str) -> None:
    ask(admin, "PUT", _path(name), body)
    typer.echo(f"{name} {done}")


def _path(name: str) -> str:
    return f"/users/{quote(name, safe='')}"


def _print_users(users: Sequence[Answer]) -> None:
    keys = ("name", "enabled", "groups", "scram", "changed")
    print_table([[key.upper() for key in keys], *([_value(user[key]) for key in keys] for user in users)])


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(value) or "-"
    return text(value)


def _text_of(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        _refuse(f"{file}: {error.strerror}")
    except UnicodeDecodeError:
        _refuse(f"{file}: not UTF-8")


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"moorline ctl: {reason}", err=True)
    raise typer.Exit(2)
