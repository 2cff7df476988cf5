"""What sessions, messages and subscriptions take up: `python -m tests.bench.footprint`, or `make footprint`.

Redis and Valkey are started with the options of a node's private one. Sessions and messages are made by the
node's own requests; what they take is the difference of `used_memory`. For the subscriptions of a node, rows
are put into Redis in the same way; then a node starts and loads them, and others after it, while a client of
the first is watched. Exit code 1 if a goal is missed."""

import argparse
import contextlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar, cast

import redis

from broker.mqtt import MQTT_5
from cluster.store import entry, keys, queues, records, sessions, subscriptions
from cluster.store.call import Reply, Request
from cluster.store.embedded import OPTIONS
from cluster.store.library import library_source
from loadtest.peers import moorline_version, running_moorline
from tests.bench.bystander import Felt
from tests.bench.scale import Bystanders, wait_for_rewrite
from tests.store.caller import Caller
from tests.store.servers import KINDS, RunningServer, running_server

T = TypeVar("T")

_GB: Final = 10**9
_PER_CALL: Final = 200
_ROWS_PER_CALL: Final = 2000
_WINDOW: Final = 100
_DAY: Final = 86_400
_NEVER: Final = 0xFFFFFFFF
_QUEUES: Final = 1000
_OPTIONS: Final = records.pack_options(1, False, False, 0, 0)
_HEAD: Final = entry.pack_head(1, False, ())
_STARTS: Final = 3
_READY_SECONDS: Final = 5.0
_SETTLE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """A measured figure; `goal` is the most that it may be."""

    what: str
    measured: float
    unit: str
    goal: float | None = None
    note: str = ""

    @property
    def is_missed(self) -> bool:
        return self.goal is not None and self.measured > self.goal

    def __str__(self) -> str:
        goal = f"{self.goal:,g}" if self.goal is not None else ""
        verdict = f" ({'missed' if self.is_missed else 'met'})" if goal else ""
        return f"| {self.what} | {_short(self.measured)} {self.unit} | {goal}{verdict} | {self.note} |"


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 10 else f"{figure:.1f}"


def client_id(number: int) -> str:
    """15 characters."""
    return f"sensor-{number:08}"


def _parts(items: Iterable[T], size: int = _PER_CALL) -> Iterator[list[T]]:
    """As many as are in a call."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


# --- Redis --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def server_of(kind: str) -> Iterator[tuple[RunningServer, Caller]]:
    """With the options of a private one."""
    flags = [part for name, value in OPTIONS.items() for part in (f"--{name}", value)]
    with (
        tempfile.TemporaryDirectory() as directory,
        running_server(kind, Path(directory), *flags) as server,
        redis.Redis(unix_socket_path=server.url.removeprefix("unix://")) as client,
    ):
        client.function_load(library_source(), replace=True)
        yield server, Caller(client, "mq:")


def used_memory(client: redis.Redis) -> int:
    """Without the change log, which has a limit of its own."""
    client.delete(keys.change_log("mq:"))
    wait_for_rewrite(client)
    return cast(dict[str, int], client.info("memory"))["used_memory"]


def aof_size(client: redis.Redis) -> int:
    """Bytes that have been written to the append-only file."""
    return cast(dict[str, int], client.info("persistence"))["aof_current_size"]


def claim_of(name: str, expiry_seconds: int) -> Request:
    """Of a session that is new."""
    return sessions.claim(
        name,
        nonce=name.encode(),
        clean_start=False,
        expiry_seconds=expiry_seconds,
        protocol=MQTT_5,
        window=_WINDOW,
        will=None,
        will_delay_seconds=0,
    )


def ask(caller: Caller, requests: Sequence[Request], bodies: Sequence[bytes] = ()) -> list[Reply]:
    """One call, of which nothing may fail."""
    replies = caller.call(requests, bodies)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def make_sessions(
    caller: Caller, names: Iterable[str], filters: Callable[[str], Sequence[str]], expiry_seconds: int = _DAY
) -> None:
    """Each connects, subscribes and goes away."""
    for part in _parts(names):
        claims = ask(caller, [claim_of(name, expiry_seconds) for name in part])
        epochs = [sessions.parse_claim(reply).epoch for reply in claims]
        wanted = [
            (name, epoch, [(filter, _OPTIONS, 0) for filter in filters(name)])
            for name, epoch in zip(part, epochs, strict=True)
        ]
        _subscribe(caller, [each for each in wanted if each[2]])
        detaches = [
            sessions.detach(name, epoch, sent=0, expiry_seconds=None, fire_will=True)
            for name, epoch, _ in wanted
        ]
        ask(caller, detaches)


def _subscribe(caller: Caller, wanted: Sequence[tuple[str, int, list[tuple[str, bytes, int]]]]) -> None:
    answers = ask(caller, [subscriptions.subscribe(*each) for each in wanted])
    rows = [
        (name, filter, options, cast(int, cast(list[object], answer)[1]))
        for (name, _, several), answer in zip(wanted, answers, strict=True)
        for filter, options, _ in several
    ]
    for part in _parts(rows):
        ask(caller, [subscriptions.rows(part, [])])


def no_filters(_: str) -> list[str]:
    return []


def commands(name: str) -> list[str]:
    """32 characters."""
    return [f"devices/{name}/commands"]


def long_filter(name: str) -> list[str]:
    """80 characters."""
    return [f"devices/{name}/commands".ljust(80, "x")]


def measure_sessions(kind: str, count: int) -> Iterator[Line]:
    """Bytes of Redis for a session that nobody has."""
    cases: Sequence[tuple[str, Callable[[str], Sequence[str]], int, float | None]] = (
        ("no subscription", no_filters, _DAY, _GB / 3e6),
        ("one subscription", commands, _DAY, _GB / 2e6),
        ("no subscription, never expires", no_filters, _NEVER, None),
        ("one subscription of 80 characters", long_filter, _DAY, None),
    )
    for what, filters, expiry_seconds, goal in cases:
        with server_of(kind) as (_, caller):
            before = used_memory(caller.redis)
            make_sessions(caller, map(client_id, range(count)), filters, expiry_seconds)
            size = (used_memory(caller.redis) - before) / count
        yield Line(f"{kind}: idle session, {what}", size, "B", goal, f"{_GB / size / 1e6:.1f} M per GB")


def measure_messages(kind: str, count: int) -> Iterator[Line]:
    """Bytes of Redis, and of its append-only file, for a message that waits."""
    for payload_bytes in (16, 256):
        for waiting in (1, 10, 100):
            yield from _measure_queues(kind, payload_bytes, waiting, count // waiting)


def _measure_queues(kind: str, payload_bytes: int, waiting: int, queues_count: int) -> Iterator[Line]:
    names = [client_id(number) for number in range(queues_count)]
    body = entry.pack_body("plant/7/line/3/state", bytes(payload_bytes), b"", 0)
    with server_of(kind) as (_, caller):
        make_sessions(caller, names, commands)
        memory, written = used_memory(caller.redis), aof_size(caller.redis)
        at_once = min(waiting, 10)
        for part in _parts(names):
            requests = [
                queues.enqueue(
                    keys.bucket_of(name), name, 1000, True, [*commands(name), _HEAD, 0, False, 0] * at_once
                )
                for name in part
            ]
            for _ in range(waiting // at_once):
                ask(caller, requests, [body])
        memory, written = used_memory(caller.redis) - memory, aof_size(caller.redis) - written
    what = f"{kind}: message of {payload_bytes} B, {waiting} in each queue"
    yield Line(what, memory / waiting / queues_count, "B")
    yield Line(f"{what}, written", written / waiting / queues_count, "B")


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
    for part in _parts(rows, _ROWS_PER_CALL):
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


def page(head: str, count: int, sections: Sequence[tuple[str, Sequence[Line]]]) -> str:
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
        "Sessions expire after a day. Messages come from the topic `plant/7/line/3/state`. *Written*: bytes",
        "that a message adds to the append-only file until it is rewritten, without those of its PUBACK.",
        "",
        f"A node: its resident memory with {count:,} subscriptions of sessions that are away or on other",
        "nodes, less that of a node with none, for each; and the time from its start until it takes",
        f"connections, both the best of {_STARTS} starts, as others use this machine, too. *The other",
        "client* is one of a node that serves meanwhile: from PUBLISH at QoS 1 to delivery, 250 per second.",
    ]
    for title, lines in sections:
        text += [
            "",
            f"## {title}",
            "",
            "| | measured | at most | |",
            "| --- | --- | --- | --- |",
            *map(str, lines),
        ]
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
    sections: list[tuple[str, Sequence[Line]]] = []
    for title, lines in (
        ("Sessions in Redis", _of_servers(measure_sessions, options.sessions)),
        ("Messages in queues", _of_servers(measure_messages, options.sessions // 5)),
        ("Subscriptions in a node", _of_shapes(options.subscriptions, options.only)),
    ):
        if options.only in title or title.endswith("node"):
            sections.append((title, list(_told(lines))))
    if options.write is not None:
        options.write.write_text(page(_head(), options.subscriptions, sections))
    return 1 if any(line.is_missed for _, lines in sections for line in lines) else 0


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
