"""`moorline ctl clients`, `client`, `disconnect` and `session(s)`: who is connected, and which sessions there
are. What comes from clients may hold anything: it is printed with escapes."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import typer

from broker.ctl import LOCAL, AdminOption, Answer, JsonOption, ask, plain, print_json, print_table, text
from broker.watching import watched

PAGE: Final = 500

LimitOption = Annotated[
    int, typer.Option("--limit", min=1, metavar="N", help="At most so many; the rest is told to be there.")
]
AfterOption = Annotated[
    str | None, typer.Option("--after", metavar="CURSOR", help="Go on where a list has ended.")
]
ClientArgument = Annotated[str, typer.Argument(metavar="CLIENT_ID", help="Its Client Identifier.")]

_CLIENT_COLUMNS: Final = (
    *("client_id", "username", "address", "node", "listener", "connected_at", "protocol", "persistent"),
    *("subscriptions", "in_flight", "waiting", "state"),
)
_SESSION_COLUMNS: Final = (
    *("client_id", "state", "node", "epoch", "subscriptions", "queued", "queued_bytes", "released"),
    *("receiving", "expires_at"),
)


class By(StrEnum):
    """What clients are looked for by."""

    PREFIX = "prefix"
    USER = "user"
    ADDRESS = "address"


class State(StrEnum):
    """Of a session."""

    CONNECTED = "connected"
    AWAY = "away"


def add_commands(app: typer.Typer) -> None:
    """To `moorline ctl`."""
    app.command()(clients)
    app.command()(client)
    app.command()(disconnect)
    app.command()(sessions)
    app.add_typer(session_app, name="session")


@watched
def clients(
    search: Annotated[
        str, typer.Argument(metavar="[TEXT]", help="How the Client Identifier begins; or see --by.")
    ] = "",
    by: Annotated[
        By, typer.Option("--by", help="What TEXT is: the beginning of the id, a user name, or an address.")
    ] = By.PREFIX,
    node: Annotated[str | None, typer.Option("--node", metavar="NAME", help="Of this node only.")] = None,
    limit: LimitOption = 100,
    after: AfterOption = None,
    admin: AdminOption = LOCAL,
    as_json: JsonOption = False,
) -> None:
    """List clients that are connected, to any node, by id. An address may be a network."""
    query = {"by": by.value, "search": search, "node": node}
    print_list(admin, "clients", query, limit, after, _CLIENT_COLUMNS, as_json)


@watched
def client(client_id: ClientArgument, admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """Show a client that is connected."""
    answer, _ = ask(admin, "GET", _path("clients", client_id))
    print_one(answer, as_json)


def disconnect(client_id: ClientArgument, admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """End the connection of a client (0x98). It may come back: to keep it out see `ctl bans`."""
    answer, _ = ask(admin, "DELETE", _path("clients", client_id), {})
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"{plain(answer['client_id'])} is disconnected from {answer['node']}")


@watched
def sessions(
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="How the Client Identifier begins.")] = "",
    state: Annotated[State | None, typer.Option("--state", help="Only those.")] = None,
    limit: LimitOption = 100,
    after: AfterOption = None,
    admin: AdminOption = LOCAL,
    as_json: JsonOption = False,
) -> None:
    """List persistent sessions, connected or not, in the order of their ids."""
    query = {"prefix": prefix, "state": state.value if state is not None else None}
    print_list(admin, "sessions", query, limit, after, _SESSION_COLUMNS, as_json)


session_app = typer.Typer(help="One session.", no_args_is_help=True)


@session_app.command("show")
@watched
def show_session(client_id: ClientArgument, admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """Show a session, whether its client is connected or not."""
    answer, _ = ask(admin, "GET", _path("sessions", client_id))
    print_one(answer, as_json)


@session_app.command("delete")
def delete_session(
    client_id: ClientArgument, admin: AdminOption = LOCAL, as_json: JsonOption = False
) -> None:
    """Disconnect the client and end its session, with subscriptions and all that waits for it."""
    answer, _ = ask(admin, "DELETE", _path("sessions", client_id), {})
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"the session {plain(answer['client_id'])} has ended")


def print_one(answer: Answer, as_json: bool) -> None:
    """A line for each of its fields."""
    if as_json:
        print_json(answer)
    else:
        print_table([(name.replace("_", "-"), cell(value)) for name, value in answer.items()])


def print_list(
    admin: str,
    noun: str,
    query: Mapping[str, str | None],
    limit: int,
    after: str | None,
    columns: Sequence[str],
    as_json: bool,
) -> None:
    """At most `limit` items, of as many pages as it takes; whoever could not be asked is named."""
    silent: dict[str, None] = {}
    pages = _pages(admin, noun, query, limit, after, silent)
    following = after
    items: list[Mapping[str, Any]] = []
    for page in pages:
        items += page[noun]
        following = page["next"]
    if as_json:
        print_json({noun: items, "next": following, "silent": list(silent)})
        return
    head = [name.upper().replace("_", "-") for name in columns]
    print_table([head, *([cell(item.get(name)) for name in columns] for item in items)])
    if silent:
        typer.echo(f"did not answer, so something may be missing: {', '.join(silent)}", err=True)
    if following is not None:
        typer.echo(f"there are more: --after {plain(shlex.quote(following))}", err=True)


def _pages(
    admin: str,
    noun: str,
    query: Mapping[str, str | None],
    limit: int,
    after: str | None,
    silent: dict[str, None],
) -> Iterator[Answer]:
    left = limit
    while True:
        asked = {**query, "after": after, "limit": str(min(left, PAGE))}
        given = {name: value for name, value in asked.items() if value}
        page, _ = ask(admin, "GET", f"/{noun}?{urlencode(given)}")
        silent.update(dict.fromkeys(page.get("silent", [])))
        yield page
        left -= len(page[noun])
        after = page["next"]
        if left <= 0 or after is None:
            return


def cell(value: object) -> str:
    """As a table has it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return text(value)


def _path(noun: str, client_id: str) -> str:
    quoted = quote(client_id, safe="")
    return f"/{noun}/?client_id={quoted}" if "\n" in client_id else f"/{noun}/{quoted}"
