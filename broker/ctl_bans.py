"""`moorline ctl bans`: who is banned from the cluster."""

import getpass
import json
import re
from typing import Annotated, Final

import typer

from broker.ctl import LOCAL, AdminOption, Answer, JsonOption, ask, print_json, print_table, text

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

app = typer.Typer(help="Who is banned from the cluster.", no_args_is_help=True)

KindArgument = Annotated[
    str,
    typer.Argument(
        metavar="KIND",
        help="client (a Client Identifier; * stands for any characters), user, address (or a network such as"
        " 192.0.2.0/24), or pair (an address, a space and a Client Identifier).",
    ),
]
ValueArgument = Annotated[str, typer.Argument(metavar="VALUE", help="Which one.")]


@app.command("list")
def list_bans(admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """List all bans."""
    bans = _all(admin)
    if as_json:
        typer.echo(json.dumps({"bans": bans}, indent=2))
        return
    fields = ("kind", "value", "until", "since", "by", "reason")
    rows = [[text(ban[field]) for field in fields] for ban in bans]
    print_table([[field.upper() for field in fields], *rows])


@app.command()
def add(
    kind: KindArgument,
    value: ValueArgument,
    admin: AdminOption = LOCAL,
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who look at the list.")] = "",
    lasting: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="How long: 90s, 15m, 12h, 30d.", show_default="for ever"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ban somebody, on all nodes, within a second. Who is connected is disconnected."""
    body = {"kind": kind, "value": value, "reason": reason, "seconds": _seconds(lasting), "by": _own_name()}
    answer, _ = ask(admin, "POST", "/bans", body)
    if as_json:
        print_json(answer)
    else:
        until = f"until {answer['until']}" if answer["until"] else "for ever"
        typer.echo(f"{answer['kind']} {answer['value']} is banned {until}")


@app.command()
def remove(kind: KindArgument, value: ValueArgument, admin: AdminOption = LOCAL) -> None:
    """Let somebody in again."""
    answer, _ = ask(admin, "POST", "/bans/remove", {"kind": kind, "value": value, "by": _own_name()})
    typer.echo(f"{answer['kind']} {answer['value']} is not banned any more")


def _all(admin: str) -> list[Answer]:
    """All pages; one ban may be in two."""
    found: dict[tuple[str, str], Answer] = {}
    following = "0"
    while following:
        page, _ = ask(admin, "GET", f"/bans?cursor={following}")
        found.update({(ban["kind"], ban["value"]): ban for ban in page["bans"]})
        following = page["next"]
    return [found[key] for key in sorted(found)]


def _seconds(lasting: str | None) -> int | None:
    if lasting is None:
        return None
    parsed = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", lasting)
    if parsed is None:
        raise typer.BadParameter("not a number with s, m, h or d behind it, such as 12h", param_hint="--for")
    return int(parsed[1]) * _UNITS[parsed[2]]


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # nobody in particular
        return ""
