"""`moorline ctl explain`, `moorline ctl session explain`: what holds up a client, who gets a topic, where a
message is."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final
from urllib.parse import urlencode

import typer

from broker.ctl import LOCAL, AdminOption, Answer, JsonOption, ask, print_json, print_table, text
from broker.ctl_clients import session_app
from broker.watching import watched

_WIDTH: Final = 100

ClientArgument = Annotated[str, typer.Argument(metavar="CLIENT", help="Client Identifier.")]


@session_app.command("explain")
@watched
def explain_session(client: ClientArgument, admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """Tell what holds up a client, in sentences, and what there is of its session."""
    explain(client=client, admin=admin, as_json=as_json)


@watched
def explain(
    admin: AdminOption = LOCAL,
    client: Annotated[str | None, typer.Option("--client", metavar="CLIENT", help="A client.")] = None,
    number: Annotated[
        int | None,
        typer.Option("--number", metavar="N", min=0, help="With --client: where that entry of its queue is."),
    ] = None,
    topic: Annotated[
        str | None, typer.Option("--topic", metavar="TOPIC", help="Who gets a message with that topic.")
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", metavar="HEX", help="Who has the QoS 2 message of a token.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what holds up a client, who gets a topic, or where a message is."""
    given = {"client_id": client, "n": number, "topic": topic, "token": token}
    asked = {name: value for name, value in given.items() if value is not None}
    if set(asked) not in ({"client_id"}, {"client_id", "n"}, {"topic"}, {"token"}):
        raise typer.BadParameter("one of --client, --client with --number, --topic, --token")
    answer, _ = ask(admin, "GET", "/explain?" + urlencode(asked))
    if as_json:
        print_json(answer)
    elif "events" in answer:
        _print_client(answer)
    else:
        _print_message(answer)


def _print_message(answer: Answer) -> None:
    """Of a topic, a token, an entry."""
    _print_sentences(answer)
    sessions = ("client_id", "filter", "qos", "state", "node", "queued")
    listed = answer.get("sessions") or []
    _print_listed("sessions", [name for name in sessions if any(name in each for each in listed)], listed)
    _print_listed("clients", ("client_id", "filter", "qos", "node"), answer.get("direct") or [])
    groups = answer.get("groups") or []
    if groups and isinstance(groups[0], dict):
        _print_listed("groups", ("name", "members", "waiting", "given"), groups)


def _print_client(answer: Answer) -> None:
    typer.echo(f"{answer['client_id']} at {answer['at']}")
    _print_sentences(answer)
    for title, rows in (
        ("session", _session_rows(answer["session"])),
        ("connection", _connection_rows(answer["connection"])),
        ("queue", _queue_rows(answer["queue"])),
    ):
        _print_section(title, rows)
    _print_listed("subscriptions", ("filter", "qos", "no_local", "replaying"), _subscriptions(answer))
    if answer["queue"] is not None:
        head, tail = answer["queue"]["head"], answer["queue"]["tail"]
        fields = ("n", "topic", "qos", "bytes", "expires_at")
        _print_listed("head of the queue", fields, head)
        _print_listed("tail of the queue", fields, [each for each in tail if each not in head])
    _print_listed("lost", ("reason", "count", "first", "last", "topics"), answer["drops"])
    _print_events(answer["events"])


def _print_sentences(answer: Answer) -> None:
    for place, sentence in enumerate(answer["verdict"], 1):
        _print_wrapped(f"{place}. {sentence}")


def _subscriptions(answer: Answer) -> list[Mapping[str, object]]:
    for part in (answer["session"], answer["connection"]):
        if part is not None and part["subscriptions"]:
            return list(part["subscriptions"])
    return []


def _session_rows(session: Answer | None) -> list[tuple[str, str]]:
    if session is None:
        return []
    will = session["will"]
    rows = [
        ("state", session["state"]),
        ("node", text(session["incarnation"])),
        ("epoch", text(session["epoch"])),
        ("kind", f"{session['kind']}, {_protocol(session)}expiry {session['expiry_seconds']} s"),
        ("away since", _joined(session["away_since"], session["away_reason"])),
        ("expires", text(session["expires_at"])),
        ("will", f"{will['topic']} (QoS {will['qos']}), due {text(will['due'])}" if will else "-"),
        ("subscriptions", text(session["subscription_count"])),
        ("receiving", f"{session['receiving_count']} QoS 2 messages" if session["receiving_count"] else "-"),
        ("releasing", f"{len(session['releasing'])} QoS 2 messages" if session["releasing"] else "-"),
    ]
    return [row for row in rows if row[1] != "-"]


def _protocol(session: Answer) -> str:
    """Known only while it is connected."""
    return f"MQTT {session['protocol']}, " if session["protocol"] else ""


def _connection_rows(connection: Answer | None) -> list[tuple[str, str]]:
    if connection is None:
        return []
    flow = connection["flow"]
    rows = [
        ("from", connection["peer"]),
        ("user", connection["username"] or "-"),
        ("listener", connection["listener"] or "-"),
        ("connected at", text(connection["connected_at"])),
        ("last byte", f"{connection['silent_seconds']:.0f} s ago"),
        ("keep alive", f"{connection['keep_alive_seconds']:g} s"),
        ("reading paused", ", ".join(connection["reading_paused"]) or "-"),
        ("unsent", f"{connection['unsent_bytes']} bytes" if connection["unsent_bytes"] else "-"),
    ]
    if flow is not None:
        rows.append(("window", f"{flow['window'] - flow['free']} of {flow['window']} taken"))
        if flow["oldest_seconds"] is not None:
            oldest = f"{flow['oldest_seconds']:.0f} s, waits for {flow['awaited']}"
            rows.append(("oldest in flight", oldest))
    return [row for row in rows if row[1] != "-"]


def _queue_rows(queue: Answer | None) -> list[tuple[str, str]]:
    if queue is None:
        return []
    return [
        ("length", f"{queue['length']} of {text(queue['limit'])}"),
        ("numbers", f"last {queue['last_n']}, sent up to {queue['sent_up_to_n']}"),
    ]


def _joined(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part is not None) or "-"


def _print_section(title: str, rows: Sequence[tuple[str, str]]) -> None:
    if rows:
        typer.echo(f"\n{title}")
        print_table([(f"  {name}", value) for name, value in rows])


def _print_listed(title: str, fields: Sequence[str], items: Sequence[Mapping[str, object]]) -> None:
    if not items:
        return
    typer.echo(f"\n{title}")
    rows = [[_cell(item.get(field)) for field in fields] for item in items]
    print_table([[field.upper().replace("_", " ") for field in fields], *rows])


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "yes" if value is True else "-" if value is False else text(value)


def _print_events(events: Sequence[Mapping[str, object]]) -> None:
    if not events:
        return
    typer.echo("\nlast events")
    rows = []
    for event in events:
        rest = {name: value for name, value in event.items() if name not in ("at", "kind")}
        details = ", ".join(f"{name} {_cell(value)}" for name, value in rest.items() if value)
        rows.append((text(event["at"]), text(event["kind"]), details))
    print_table(rows)


def _print_wrapped(sentence: str) -> None:
    """For a terminal; what is cut at spaces stays whole when it is copied."""
    line = ""
    for word in sentence.split(" "):
        if line and len(line) + 1 + len(word) > _WIDTH:
            typer.echo(line)
            line = "   " + word
        else:
            line = f"{line} {word}" if line else word
    typer.echo(line)
