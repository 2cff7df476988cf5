"""`moorline ctl trace` and `events`: what happens now, line by line, until it is over or Ctrl-C."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPException, HTTPResponse
from typing import Annotated, Final
from urllib.parse import urlencode

import typer

from broker.ctl import EXIT_REFUSED, LOCAL, AdminOption, Answer, JsonOption, ask, first_of, open_stream
from broker.mqtt import REASON_CODES

_SILENCE_SECONDS: Final = 40.0
"""There is a sign of life each ten."""
_LINE_BYTES: Final = 1 << 20
_SHOWN_FIRST: Final = frozenset({"at", "node", "client_id", "direction", "packet", "event", "topic"})
_DIRECTIONS: Final = {"in": "RECV", "out": "SEND"}


def trace(
    client: Annotated[
        str | None,
        typer.Option("--client", metavar="ID", help="Packets of this client; ID* for all that begin so."),
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option("--topic", metavar="FILTER", help="Messages to topics that match, of all clients."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="CIDR", help="Packets of clients from this address or network."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, max=600.0, help="For how long at most.")
    ] = 60.0,
    payloads: Annotated[
        bool, typer.Option("--payloads", help="Show payloads, too (needs the role admin).")
    ] = False,
    admin: AdminOption = LOCAL,
    as_json: JsonOption = False,
) -> None:
    """Follow the packets of a client, a topic or an address on all nodes, as they come and go."""
    asked = {"client_id": client, "topic": topic, "address": address}
    given = {name: value for name, value in asked.items() if value is not None}
    if len(given) != 1:
        raise typer.BadParameter("give one of --client, --topic, --address")
    begun, base = ask(admin, "POST", "/traces", {**given, "seconds": seconds, "payloads": payloads})
    path = f"/traces/{begun['id']}"
    try:
        _print_all(base, path, packet_line, as_json)
    except KeyboardInterrupt:
        ask(base, "DELETE", path)


def events(
    kinds: Annotated[
        str,
        typer.Option("--kinds", metavar="A,B", help="Only these: connected, disconnected, refused, ..."),
    ] = "",
    client: Annotated[
        str, typer.Option("--client", metavar="ID", help="Of this client; ID* for all that begin so.")
    ] = "",
    admin: AdminOption = LOCAL,
    as_json: JsonOption = False,
) -> None:
    """Follow what becomes of clients on all nodes: who connects, leaves, subscribes, is refused."""
    query = urlencode({"kinds": kinds, "client_id": client})
    try:
        while True:  # a node ends it after an hour
            _print_all(admin, f"/events?{query}", event_line, as_json)
    except KeyboardInterrupt:
        return


def _print_all(admin: str, path: str, line_of: Callable[[Answer], str], as_json: bool) -> None:
    """Until it is over."""
    with closing(first_of(admin, lambda base: open_stream(base, path, _SILENCE_SECONDS))) as stream:
        for kind, data in read_events(stream):
            if kind == "end":
                return
            if as_json:
                typer.echo(json.dumps({"kind": kind, **data}))
            elif kind == "left_out":
                typer.echo(left_out_line(data), err=True)
            elif kind == "silent":
                typer.echo(f"... {_plain(data['node'])} tells nothing: {_plain(data['reason'])}", err=True)
            else:
                typer.echo(line_of(data))
    typer.echo("moorline ctl: the stream has ended; is the node still there?", err=True)
    raise typer.Exit(EXIT_REFUSED)


def read_events(stream: HTTPResponse) -> Iterator[tuple[str, Answer]]:
    """Kind and JSON of each event, until the stream ends or breaks."""
    kind = ""
    try:
        while line := stream.readline(_LINE_BYTES):
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)
    except (OSError, HTTPException):
        return


def packet_line(packet: Answer) -> str:
    """A packet as people read it, from the broker's side."""
    head = [
        packet["at"],
        _plain(packet["node"]),
        _DIRECTIONS.get(packet["direction"], "-"),
        _plain(packet["client_id"] or "?"),
        packet["packet"],
    ]
    return " ".join([*head, *_fields(packet)])


def event_line(event: Answer) -> str:
    """An event as people read it."""
    head = [event["at"], _plain(event["node"]), _plain(event["client_id"]), event["event"]]
    return " ".join([*head, *_fields(event)])


def left_out_line(left_out: Answer) -> str:
    """What is missing here."""
    node, records, unseen = _plain(left_out["node"]), left_out["records"], left_out["unseen"]
    parts = [f"{records} records left out"] if records else []
    parts += [f"{unseen} packets not looked at"] if unseen else []
    return f"... {node}: {', '.join(parts)}: there is too much"


def _fields(shown: Answer) -> Iterator[str]:
    """All but the head; what is not so, or not there, is not shown."""
    if "topic" in shown:
        yield _plain(shown["topic"])
    for name, value in shown.items():
        if name in _SHOWN_FIRST or value is None or value is False:
            continue
        if value is True:
            yield name
        elif name == "bytes":
            yield f"{value} bytes"
        elif name == "reason_code":
            yield _reason(value)
        elif name == "reason_codes":
            yield "reason_codes=" + ",".join(map(_reason, value))
        elif name == "properties":
            yield from (f"{each}={_plain(of)}" for each, of in value.items())
        else:
            yield f"{name}={_plain(value)}"


def _reason(code: int) -> str:
    name = REASON_CODES[code].name.lower() if code in REASON_CODES and code >= 0x80 else ""
    return f"0x{code:02X} {name}".rstrip()


def _plain(value: object) -> str:
    """Nothing that a terminal would take for an order."""
    if isinstance(value, str) and value.isprintable() and value and " " not in value:
        return value
    return json.dumps(value)
