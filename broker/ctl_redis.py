"""`moorline ctl redis`: how Redis is, and where its memory goes."""

from collections.abc import Iterator, Sequence
from typing import Final

import typer

from broker.ctl import LOCAL, AdminOption, Answer, JsonOption, ask, print_json, print_table, text
from broker.watching import watched

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP: Final = 1024
_WHOLE: Final = 100


@watched
def redis(admin: AdminOption = LOCAL, as_json: JsonOption = False) -> None:
    """Show how Redis is, and where its memory goes: measured where it can be, else estimated from samples."""
    answer, _ = ask(admin, "GET", "/redis")
    if as_json:
        print_json(answer)
        return
    counts = ", ".join(f"{number} {name}" for name, number in answer["counts"].items())
    for number, server in enumerate(answer["servers"]):
        if number:
            typer.echo()
        print_table([*_facts(server["server"]), ("counted", counts)])
        _print_account(server["account"])


def size(given: int | None) -> str:
    """Bytes for people."""
    if given is None:
        return "-"
    number = float(given)
    for unit in _UNITS:
        if number < _STEP or unit == _UNITS[-1]:
            break
        number /= _STEP
    return f"{number:.0f} {unit}" if unit == "B" or number >= _WHOLE else f"{number:.1f} {unit}"


def _facts(server: Answer) -> Iterator[tuple[str, str]]:
    yield "server", f"{server['server']}, {server['address']}"
    yield "latency", f"{server['latency_ms']:g} ms"
    yield "commands per second", text(server["operations_per_second"])
    yield "connections", text(server["connected_clients"])
    yield "replicas", text(server["replicas"])
    yield "memory", _memory(server)
    yield "of which data", size(server["dataset_bytes"])
    yield "at its highest", size(server["memory_peak_bytes"])
    yield "resident", f"{size(server['resident_bytes'])}, fragmentation {text(server['fragmentation'])}"
    yield "append-only file", _file(server)


def _memory(server: Answer) -> str:
    used, maximum = server["memory_used_bytes"], server["memory_maximum_bytes"]
    if not maximum or used is None:
        return f"{size(used)}, no maxmemory"
    return f"{size(used)} of {size(maximum)} ({used / maximum:.0%}), {text(server['memory_policy'] or None)}"


def _file(server: Answer) -> str:
    if not server["is_append_only"]:
        return "none"
    told = [f"{size(server['aof_bytes'])} ({size(server['aof_base_bytes'])} after its last rewrite)"]
    if server["is_rewriting"]:
        told.append("is being rewritten")
    told.append("last write ok" if server["aof_written"] else "LAST WRITE FAILED")
    if not server["aof_rewritten"]:
        told.append("LAST REWRITE FAILED")
    told.append(f"{text(server['aof_delayed_fsyncs'])} delayed fsyncs")
    return ", ".join(told)


def _print_account(account: Answer) -> None:
    typer.echo()
    print_table([("KIND", "KEYS", "MEMORY", "+-"), *_parts(account["kinds"])])
    typer.echo()
    print_table([("PREFIX", "KEYS", "MEMORY", "+-"), *_parts(account["prefixes"])])
    typer.echo()
    print_table([*_remarks(account)])
    if account["problem"]:
        typer.echo(account["problem"], err=True)


def _parts(parts: Sequence[Answer]) -> Iterator[tuple[str, str, str, str]]:
    for part in parts:
        yield part["name"], str(part["keys"]), size(part["bytes"]), size(part["margin_bytes"])


def _remarks(account: Answer) -> Iterator[tuple[str, str]]:
    yield (
        "how",
        f"{account['measured']} keys measured, {account['sampled']} samples stand for all {account['keys']}",
    )
    if account["unreadable"]:
        yield "unknown", f"{account['unreadable']} of the samples may not be looked at by our user"
    yield "a session", f"{size(account['session_bytes'])} without its queue"
    largest = account["largest"]
    if largest is not None:
        name = largest["key"] or f"with the prefix {largest['prefix'] or 'of something else'}"
        yield "largest key seen", f"{size(largest['bytes'])} ({largest['kind']}): {name}"
