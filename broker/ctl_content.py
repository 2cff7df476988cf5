"""`moorline ctl retained`, `publish`, `metrics` and `settings`.

What comes from clients (topics, payloads) may hold anything, also what a terminal takes for commands: it is
printed with escapes; `retained show --raw` writes a payload as it is.
"""

import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import typer

from broker.ctl import (
    EXIT_REFUSED,
    LOCAL,
    AdminOption,
    Answer,
    JsonOption,
    ask,
    plain,
    print_json,
    print_table,
    text,
)
from broker.watching import watched

_PAGE: Final = 500
_PAYLOAD_BYTES: Final = 1 << 20  # that the API takes

retained_app = typer.Typer(help="Retained messages.", no_args_is_help=True)

TopicArgument = Annotated[str, typer.Argument(metavar="TOPIC", help="A Topic Name, as it is stored.")]
PrefixArgument = Annotated[str, typer.Argument(metavar="[PREFIX]", help="What the topics begin with.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]


def add_commands(to: typer.Typer) -> None:
    """Registers all of these."""
    to.add_typer(retained_app, name="retained")
    for command in (publish, metrics, settings):
        to.command()(command)


@retained_app.command("list")
@watched
def list_retained(
    prefix: PrefixArgument = "",
    admin: AdminOption = LOCAL,
    after: Annotated[str | None, typer.Option("--after", metavar="TOPIC", help="Begin behind it.")] = None,
    limit: LimitOption = 1000,
    as_json: JsonOption = False,
) -> None:
    """List topics with a retained message, in order."""
    found, following = _pages(admin, "retained", {"prefix": prefix}, after, limit)
    if as_json:
        print_json({"retained": found, "next": following})
        return
    rows = [
        (each["topic"], text(each["qos"]), text(each["bytes"]), text(each["expires_at"])) for each in found
    ]
    print_table([("TOPIC", "QOS", "BYTES", "EXPIRES"), *rows])
    if following is not None:
        typer.echo(f"there are more: --after {plain(following)}", err=True)


@retained_app.command()
@watched
def tree(
    prefix: PrefixArgument = "",
    admin: AdminOption = LOCAL,
    depth: Annotated[int, typer.Option("--depth", min=1, max=100, help="So many levels.")] = 1,
    limit: LimitOption = 1000,
    as_json: JsonOption = False,
) -> None:
    """Show levels of topics: with how many topics below, and * for those that have a message."""
    levels: list[tuple[int, Answer]] = []
    for each in _below(admin, prefix, depth, limit):
        levels.append(each)
        if len(levels) == limit:
            break
    if as_json:
        print_json({"levels": [level for _, level in levels]})
        return
    for indent, level in levels:
        mark = " *" if level["retained"] else ""
        below = f" ({level['below']})" if level["below"] else ""
        typer.echo(f"{'  ' * indent}{plain(level['name']) or '(empty)'}{below}{mark}")
    if len(levels) == limit:
        typer.echo("there may be more: --limit", err=True)


@retained_app.command()
def show(
    topic: TopicArgument,
    admin: AdminOption = LOCAL,
    raw: Annotated[bool, typer.Option("--raw", help="Write nothing but the payload, as it is.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a retained message with its payload."""
    answer, _ = ask(admin, "GET", _path(topic))
    if as_json:
        print_json(answer)
    elif raw:
        sys.stdout.buffer.write(_payload(answer))
    else:
        fields = ("topic", "qos", "bytes", "expires_at", "content_type", "response_topic")
        rows = [(name.replace("_", " "), text(answer[name])) for name in fields]
        rows += [("property", f"{name}: {value}") for name, value in answer["user_properties"]]
        is_text = answer["payload"] is not None
        rows.append(("payload", answer["payload"] if is_text else text(answer["payload_base64"])))
        print_table(rows)
        if not is_text and answer["payload_base64"] is not None:
            typer.echo("the payload is no text: this is base64", err=True)


@retained_app.command()
def delete(topic: TopicArgument, admin: AdminOption = LOCAL) -> None:
    """Clear a retained message. Who subscribes to its topic gets an empty message."""
    answer, _ = ask(admin, "DELETE", _path(topic), {})
    typer.echo(f"{plain(answer['topic'])} is cleared")
    if not answer["node"]:
        typer.echo(plain(answer["result"]), err=True)


def publish(
    topic: TopicArgument,
    payload: Annotated[
        str | None, typer.Argument(metavar="[PAYLOAD]", help="Text. None: see --file.")
    ] = None,
    admin: AdminOption = LOCAL,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Take the payload from there; - is standard input."),
    ] = None,
    qos: Annotated[int, typer.Option("--qos", "-q", min=0, max=2)] = 0,
    retain: Annotated[bool, typer.Option("--retain", help="Keep it for those who subscribe later.")] = False,
    expiry: Annotated[
        int | None, typer.Option("--expiry", min=0, metavar="SECONDS", help="Message Expiry Interval.")
    ] = None,
    content_type: Annotated[str | None, typer.Option("--content-type", metavar="TEXT")] = None,
    response_topic: Annotated[str | None, typer.Option("--response-topic", metavar="TOPIC")] = None,
    correlation_data: Annotated[str | None, typer.Option("--correlation-data", metavar="TEXT")] = None,
    user_property: Annotated[
        list[str] | None,
        typer.Option("--user-property", metavar="NAME=VALUE", help="May be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a message. It is stored wherever it has to be when this returns."""
    body: dict[str, Any] = {
        "topic": topic,
        "qos": qos,
        "retain": retain,
        "expiry_seconds": expiry,
        "content_type": content_type,
        "response_topic": response_topic,
        "correlation_data_base64": _base64(correlation_data),
        "user_properties": [_pair(each) for each in user_property or ()],
        **_given_payload(payload, file),
    }
    answer, _ = ask(admin, "POST", "/publish", body)
    if as_json:
        print_json(answer)
        return
    reached = ", ".join(
        f"{answer[name]} {name if answer[name] != 1 else name[:-1]}"
        for name in ("sessions", "groups", "nodes")
        if answer[name]
    )
    kept = f"; retained: {answer['retained']}" if retain else ""
    typer.echo(f"{plain(answer['topic'])}: {answer['result']}{f' to {reached}' if reached else ''}{kept}")


@watched
def metrics(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="What the names begin with.")] = "moorline_",
    admin: AdminOption = LOCAL,
    cluster: Annotated[bool, typer.Option("--cluster", help="Those of all nodes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a node counts. Buckets of histograms are in --json only."""
    query = {"name": name, "cluster": str(cluster).lower()}
    answer, _ = ask(admin, "GET", f"/metrics?{urlencode(query)}")
    if as_json:
        print_json(answer)
    else:
        samples = [each for each in answer["metrics"] if "le" not in each["labels"]]
        rows = [(each["node"], _sample(each), _number(each["value"])) for each in samples]
        print_table([("NODE", "METRIC", "VALUE"), *rows])
    for node in answer["silent"]:
        typer.echo(f"{node} does not answer", err=True)
    if answer["silent"]:
        raise typer.Exit(EXIT_REFUSED)


def settings(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="Only this one: mqtt, say.")] = None,
    admin: AdminOption = LOCAL,
    changed: Annotated[bool, typer.Option("--changed", help="Only those that are no defaults.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the settings that a node runs with; * marks those that are no defaults. Secrets are hidden."""
    answer, _ = ask(admin, "GET", f"/settings?changed={str(changed).lower()}")
    tables: Answer = answer["settings"]
    if table is not None:
        if table not in tables:
            raise typer.BadParameter(f"there is no table {table}; there are: {', '.join(tables)}")
        tables = {table: tables[table]}
    if as_json:
        print_json({**answer, "settings": tables})
        return
    rows = [
        (f"{group}.{name}", "*" if each["changed"] else "", _value(each["value"]), text(each["unit"] or None))
        for group, fields in tables.items()
        for name, each in fields.items()
    ]
    print_table([("SETTING", "", "VALUE", "UNIT"), *rows])


def _pages(
    admin: str, noun: str, query: dict[str, str], after: str | None, limit: int
) -> tuple[list[Answer], str | None]:
    """At most so many, and where to go on."""
    found: list[Answer] = []
    while len(found) < limit:
        own = query | {"limit": str(min(_PAGE, limit - len(found)))}
        page, _ = ask(
            admin, "GET", f"/retained?{urlencode(own | ({} if after is None else {'after': after}))}"
        )
        found += page[noun]
        after = page["next"]
        if after is None:
            break
    return found, after


def _below(admin: str, prefix: str, depth: int, limit: int, indent: int = 0) -> Iterator[tuple[int, Answer]]:
    """Levels with their depth, those below behind each."""
    found, _ = _pages(admin, "levels", {"prefix": prefix, "levels": "true"}, None, limit)
    for level in found:
        yield indent, level
        if level["below"] and depth > 1:
            yield from _below(admin, f"{level['level']}/", depth - 1, limit, indent + 1)


def _path(topic: str) -> str:
    return (
        f"/retained/?topic={quote(topic, safe='')}" if "\n" in topic else f"/retained/{quote(topic, safe='')}"
    )


def _payload(answer: Answer) -> bytes:
    if answer["payload"] is not None:
        return str(answer["payload"]).encode()
    return b64decode(answer["payload_base64"] or "")


def _given_payload(payload: str | None, file: Path | None) -> dict[str, str]:
    if payload is not None and file is not None:
        raise typer.BadParameter("either PAYLOAD or --file")
    if file is None:
        return {"payload": payload or ""}
    try:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as opened:
            content = opened.read(_PAYLOAD_BYTES + 1)
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None
    if len(content) > _PAYLOAD_BYTES:
        raise typer.BadParameter(f"{file}: more than {_PAYLOAD_BYTES} bytes; an MQTT client can publish that")
    return {"payload_base64": b64encode(content).decode()}


def _base64(given: str | None) -> str | None:
    return None if given is None else b64encode(given.encode()).decode()


def _pair(given: str) -> Sequence[str]:
    name, equals, value = given.partition("=")
    if not equals:
        raise typer.BadParameter(f"{given}: not NAME=VALUE", param_hint="--user-property")
    return name, value


def _sample(sample: Answer) -> str:
    labels = ", ".join(f"{name}={plain(value)}" for name, value in sample["labels"].items())
    return f"{sample['name']} {{{labels}}}" if labels else str(sample["name"])


def _number(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else text(value)


def _value(value: object) -> str:
    return (
        plain(value)
        if isinstance(value, str)
        else "-"
        if value is None
        else json.dumps(value, ensure_ascii=False)
    )
