"""Sessions, messages and retained messages as nodes put them into Redis, and what they take up there.

Redis and Valkey are started with the options of a node's private one. What something takes is the
difference of `used_memory`, or of the size of the append-only file once it has been rewritten.
"""

import contextlib
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar, cast

import redis

from broker.mqtt import MQTT_5
from cluster.store import entry, keys, queues, records, retained, sessions, subscriptions
from cluster.store.call import Reply, Request
from cluster.store.embedded import OPTIONS
from cluster.store.library import library_source
from tests.bench.scale import wait_for_rewrite
from tests.store.caller import Caller
from tests.store.servers import RunningServer, running_server

T = TypeVar("T")

GB: Final = 10**9
TOPIC: Final = "plant/7/line/3/state"
PAYLOADS: Final = (16, 256, 1024)
_PER_CALL: Final = 200
_WINDOW: Final = 100
_DAY: Final = 86_400
_NEVER: Final = 0xFFFFFFFF
_OPTIONS: Final = records.pack_options(1, False, False, 0, 0)
_HEAD: Final = entry.pack_head(1, False, ())


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


def parts(items: Iterable[T], size: int = _PER_CALL) -> Iterator[list[T]]:
    """As many as are in a call."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


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


def rewritten_size(client: redis.Redis) -> int:
    """Bytes of the append-only file, made anew."""
    wait_for_rewrite(client)
    client.bgrewriteaof()
    wait_for_rewrite(client)
    return cast(dict[str, int], client.info("persistence"))["aof_base_size"]


def payload_of(size_bytes: int, seed: int) -> bytes:
    """Bytes that can't be compressed: what is measured is the least that a file may save."""
    return random.Random(seed).randbytes(size_bytes)


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
    for part in parts(names):
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
    for part in parts(rows):
        ask(caller, [subscriptions.rows(part, [])])


def no_filters(_: str) -> list[str]:
    return []


def commands(name: str) -> list[str]:
    """32 characters."""
    return [f"devices/{name}/commands"]


def five_filters(name: str) -> list[str]:
    """25 to 32 characters."""
    nouns = ("commands", "config", "files", "time", "firmware")
    return [f"devices/{name}/{noun}" for noun in nouns]


def long_filter(name: str) -> list[str]:
    """80 characters."""
    return [f"devices/{name}/commands".ljust(80, "x")]


def measure_sessions(kind: str, count: int) -> Iterator[Line]:
    """Bytes of Redis for a session that nobody has."""
    cases: Sequence[tuple[str, Callable[[str], Sequence[str]], int, float | None]] = (
        ("no subscription", no_filters, _DAY, GB / 3e6),
        ("one subscription", commands, _DAY, GB / 2e6),
        ("five subscriptions", five_filters, _DAY, None),
        ("no subscription, never expires", no_filters, _NEVER, None),
        ("one subscription of 80 characters", long_filter, _DAY, None),
    )
    for what, filters, expiry_seconds, goal in cases:
        with server_of(kind) as (_, caller):
            before = used_memory(caller.redis)
            make_sessions(caller, map(client_id, range(count)), filters, expiry_seconds)
            size = (used_memory(caller.redis) - before) / count
        yield Line(f"{kind}: idle session, {what}", size, "B", goal, f"{GB / size / 1e6:.1f} M per GB")


def measure_messages(kind: str, count: int) -> Iterator[Line]:
    """Bytes of Redis, and of its rewritten append-only file, for a message that waits."""
    for payload_bytes in PAYLOADS:
        for waiting in (1, 10, 100):
            yield from _measure_queues(kind, payload_bytes, waiting, count // waiting)


def _measure_queues(kind: str, payload_bytes: int, waiting: int, queues_count: int) -> Iterator[Line]:
    names = [client_id(number) for number in range(queues_count)]
    with server_of(kind) as (_, caller):
        make_sessions(caller, names, commands)
        memory, file = used_memory(caller.redis), rewritten_size(caller.redis)
        at_once = min(waiting, 10)
        for first in range(0, waiting, at_once):
            bodies = [
                entry.pack_body(TOPIC, payload_of(payload_bytes, number), b"", 0)
                for number in range(first, first + at_once)
            ]
            for part in parts(names):
                ask(caller, [_enqueue(name, at_once) for name in part], bodies)
        memory, file = used_memory(caller.redis) - memory, rewritten_size(caller.redis) - file
    what = f"{kind}: message of {payload_bytes} B, {waiting} in each queue"
    yield Line(what, memory / waiting / queues_count, "B")
    yield Line(f"{what}, in the rewritten file", file / waiting / queues_count, "B")


def _enqueue(name: str, count: int) -> Request:
    """Of the bodies of the call, the first so many."""
    (filter,) = commands(name)
    entries = [item for number in range(count) for item in (filter, _HEAD, number, False, 0)]
    return queues.enqueue(keys.bucket_of(name), name, 1000, True, entries)


def measure_retained(kind: str, count: int) -> Iterator[Line]:
    """Bytes of Redis, and of its rewritten append-only file, for a retained message."""
    for payload_bytes in PAYLOADS:
        topics = (f"devices/{client_id(number)}/state" for number in range(count))
        payload = payload_of(payload_bytes, 0)
        with server_of(kind) as (_, caller):
            memory, file = used_memory(caller.redis), rewritten_size(caller.redis)
            for part in parts(topics):
                record = records.pack_retained(payload, 1, b"", 0)
                ask(caller, [retained.retain(topic, record, 0, False, 0) for topic in part])
            memory, file = used_memory(caller.redis) - memory, rewritten_size(caller.redis) - file
        what = f"{kind}: retained message of {payload_bytes} B"
        yield Line(what, memory / count, "B")
        yield Line(f"{what}, in the rewritten file", file / count, "B")
