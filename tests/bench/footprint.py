"""What sessions, messages and subscriptions take up: `python -m tests.bench.footprint`, or `make footprint`.

Redis and Valkey are started with the options of a node's private one. Sessions and messages are made by the
node's own requests; what they take is the difference of `used_memory`. For the subscriptions of a node, rows
are put into Redis in the same way; then a node starts and loads them, and others after it, while a client of
the first is watched. Exit code 1 if a goal is missed."""

import argparse
import contextlib
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.store import records, subscriptions
from loadtest.peers import moorline_version, running_moorline
from tests.bench.bystander import Felt
from tests.bench.scale import Bystanders, wait_for_rewrite
from tests.bench.squeezing import measure_compression
from tests.bench.storing import (
    TOPIC,
    Line,
    ask,
    client_id,
    commands,
    measure_messages,
    measure_retained,
    measure_sessions,
    parts,
    server_of,
)
from tests.bench.written import measure_written
from tests.store.caller import Caller
from tests.store.servers import KINDS

_ROWS_PER_CALL: Final = 2000
_OPTIONS: Final = records.pack_options(1, False, False, 0, 0)
_STARTS: Final = 3
_READY_SECONDS: Final = 5.0
_SETTLE_SECONDS: Final = 1.0


# --- a node -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shape:
    """What a million subscriptions look like: the filters of each client."""

    what: str
    filters: Callable[[str], Sequence[str]]
    per_client: int
    goal_bytes: float


SHAPES: Final = (
    Shape("`devices/<id>/commands`, one each", commands, 1, 200),
    Shape(
        "`devices/<id>/commands/<0..9>`, ten each",
        lambda name: [f"devices/{name}/commands/{i}" for i in range(10)],
        10,
        200,
    ),
    Shape("the same filter, `news/all`", lambda name: ["news/all"], 1, 200),
    Shape("`devices/<id>/#`, one each", lambda name: [f"devices/{name}/#"], 1, 600),
    Shape("`devices/<id>/+/set`, one each", lambda name: [f"devices/{name}/+/set"], 1, 600),
    Shape(
        "`devices/<id>/{+/set, config/#}`, two each",
        lambda name: [f"devices/{name}/+/set", f"devices/{name}/config/#"],
        2,
        600,
    ),
)


def fill_rows(caller: Caller, shape: Shape, count: int) -> None:
    """Puts rows of sessions that are away where a starting node finds them."""
    names = map(client_id, range(count // shape.per_client))
    rows = (
        (name, filter, _OPTIONS, number)
        for number, name in enumerate(names, 1)
        for filter in shape.filters(name)
    )
    for part in parts(rows, _ROWS_PER_CALL):
        ask(caller, [subscriptions.rows(part, [])])


@dataclass(frozen=True, slots=True)
class Start:
    """How long a node took until it served, and its memory then."""

    seconds: float
    rss_bytes: int


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def started(url: str, prefix: str = "mq:") -> Iterator[tuple[int, Start]]:
    """A node that serves; its port."""
    with tempfile.TemporaryDirectory() as directory:
        begun = time.perf_counter()
        with running_moorline(Path(directory), "--redis", url, "--prefix", prefix) as node:
            seconds = time.perf_counter() - begun
            time.sleep(_SETTLE_SECONDS)
            yield int(node.address.rpartition(":")[2]), Start(seconds, resident(node.pid))


def measure_node(shape: Shape, count: int) -> Iterator[Line]:
    """What a node takes for subscriptions of clients that it has not, and how soon it serves."""
    with server_of("valkey") as (server, caller):
        fill_rows(caller, shape, count)
        wait_for_rewrite(caller.redis)
        with started(server.url, "empty:") as (_, empty):
            pass
        with started(server.url) as (port, first), contextlib.closing(Bystanders(port)) as bystanders:
            starts = [first]
            quiet = _felt(bystanders, lambda: time.sleep(_READY_SECONDS))
            for _ in range(_STARTS - 1):
                bystanders.begin()
                with started(server.url) as (_, start):
                    felt = bystanders.felt()
                    starts.append(start)
    size = (min(start.rss_bytes for start in starts) - empty.rss_bytes) / count
    yield Line(f"{shape.what}: memory each", size, "B", shape.goal_bytes)
    note = (
        f"{empty.seconds:.1f} s with none; the other client: p99 {felt.p99:.1f} ms,"
        f" longest {felt.longest:.0f} (before: {quiet.p99:.1f}, {quiet.longest:.0f})"
    )
    seconds = min(start.seconds for start in starts)
    yield Line(f"{shape.what}: start until it serves", seconds, "s", _READY_SECONDS, note)


def _felt(bystanders: Bystanders, action: Callable[[], None]) -> Felt:
    bystanders.begin()
    action()
    return bystanders.felt()


# --- the page -----------------------------------------------------------------------------------------------


Section = tuple[str, Sequence[Line] | str]
"""Its title, and what was measured; or its text, as it was."""


def page(head: str, count: int, sections: Sequence[Section]) -> str:
    """docs/footprint.md."""
    text = [
        "# What sessions, messages and subscriptions take up",
        "",
        f"Made by `make footprint`: {head}.",
        "",
        "Client Identifiers have 15 characters (`sensor-00000042`), filters up to 34; each further one takes",
        "a byte in every place that has it. Redis and Valkey have the options of a node's private server;",
        "for one of your own see [operations](operations.md#memory-of-redis). A GB has 10^9 bytes.",
        "",
        f"Sessions expire after a day. Messages come from the topic `{TOPIC}`, retained ones have",
        "`devices/sensor-00000042/state`; payloads are random bytes. *In the rewritten file*: of the",
        "append-only file, after BGREWRITEAOF. *Written to the append-only file*: until then, of",
        "messages that are delivered as they come; alone, or ten of one client in a batch.",
        "",
        f"A node: its resident memory with {count:,} subscriptions of sessions that are away or on other",
        "nodes, less that of a node with none, for each; and the time from its start until it takes",
        f"connections, both the best of {_STARTS} starts, as others use this machine, too. *The other",
        "client* is one of a node that serves meanwhile: from PUBLISH at QoS 1 to delivery, 250 per second.",
    ]
    for title, lines in sections:
        text += ["", f"## {title}", ""]
        if isinstance(lines, str):
            text.append(lines)
        else:
            text += ["| | measured | at most | |", "| --- | --- | --- | --- |", *map(str, lines)]
    return "\n".join([*text, ""])


def _head() -> str:
    model = next(
        (
            line.partition(": ")[2]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return f"{moorline_version()}, Python {platform.python_version()}, {os.cpu_count()} cores of {model}"


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscriptions", type=int, default=1_000_000)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--only", default="", help="part of the title of a section, or of a subscription")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args(arguments)
    before = options.write.read_text() if options.write is not None and options.write.exists() else ""
    sections: list[Section] = []
    measured: list[Line] = []
    for title, lines in (
        ("Sessions in Redis", _of_servers(measure_sessions, options.sessions)),
        ("Messages in queues", _of_servers(measure_messages, options.sessions // 5)),
        ("Retained messages", _of_servers(measure_retained, options.sessions // 2)),
        ("Written to the append-only file", _of_servers(measure_written, options.sessions // 100)),
        ("Compression of payloads", measure_compression()),
        ("Subscriptions in a node", _of_shapes(options.subscriptions, options.only)),
    ):
        found = list(_told(lines)) if options.only in title or title.endswith("node") else []
        measured += found
        sections.append((title, found or _text_of(before, title)))
    if options.write is not None:
        options.write.write_text(page(_head(), options.subscriptions, sections))
    return 1 if any(line.is_missed for line in measured) else 0


def _text_of(before: str, title: str) -> str:
    """A section as it stands on the page, if it does: one that is not measured stays."""
    found = re.search(rf"^## {re.escape(title)}\n+(.*?)\n*(?=^## |\Z)", before, re.MULTILINE | re.DOTALL)
    return found[1] if found is not None else ""


def _of_servers(measure: Callable[[str, int], Iterator[Line]], count: int) -> Iterator[Line]:
    for kind in KINDS:
        yield from measure(kind, count)


def _of_shapes(count: int, only: str) -> Iterator[Line]:
    for shape in SHAPES:
        if only in shape.what or only in "Subscriptions in a node":
            yield from measure_node(shape, count)


def _told(lines: Iterable[Line]) -> Iterator[Line]:
    for line in lines:
        print(line, flush=True)
        yield line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
