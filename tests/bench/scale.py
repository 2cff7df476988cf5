"""A million retained messages: `python -m tests.bench.scale`, or `make scale`.

One node and its Redis. The topics are put into the store by its own requests; then clients subscribe to
filters that match some of them, while a publisher and a subscriber of another process (`bystander`) are
measured. Exit code 1 if a filter does not find what it should, or the others feel it too much."""

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import redis
import uvloop

from broker.mqtt import MQTT_5, Connect, Packet, Properties, Puback, Publish, Subscribe, SubscriptionRequest
from cluster.store import records, retained
from cluster.store.call import Request
from loadtest.peers import moorline_version, running_moorline
from tests.bench.bystander import Felt
from tests.cluster.wire import Wire, connack_of, open_wire
from tests.node.redis_server import running_redis
from tests.store.caller import Caller

LIMIT_MS: Final = 20.0
"""What the p99 of the others has to stay below."""
_PREFIX: Final = "mq:"
_PER_CALL: Final = 500
_PAYLOAD: Final = b'{"value": 21.5, "unit": "C", "at": "2026-01-01T00:00:00Z"}'
_ANSWER_SECONDS: Final = 120.0
_SETTLE_SECONDS: Final = 2.0
_QUIET_SECONDS: Final = 5.0
_CASE_SECONDS: Final = 5.0
_REWRITE_SECONDS: Final = 60.0
_END: Final = "$scale/end"  # matched by no wildcard
_NAMES: Final = ("state", *(f"sensor-{number:02}" for number in range(49)))


def topics(count: int) -> Iterator[str]:
    """A half is 50 topics of each device, four tenths one topic of each device of a plant, one tenth has
    first levels of its own."""
    for device in range(count // 100):
        for name in _NAMES:
            yield f"dev/{device}/{name}"
    for device in range(count * 4 // 10):
        yield f"plant/{device % 400}/dev/{device // 400}/state"
    for site in range(count // 100):
        for number in range(10):
            yield f"site-{site}/status/{number}"


@dataclass(frozen=True, slots=True)
class Case:
    """A filter, and how many topics it matches of so many."""

    filter: str
    matches: Callable[[int], int]
    what: str
    qos: int = 1
    is_persistent: bool = False
    subscribers: int = 1


CASES: Final = (
    Case("dev/+/state", lambda count: count // 100, "one of 50 topics of each device"),
    Case("dev/+/state", lambda count: count // 100, "the same", qos=0),
    Case("dev/+/state", lambda count: count // 100, "the same", is_persistent=True),
    Case("dev/+/state", lambda count: count // 100, "20 at the same time", subscribers=20),
    Case("plant/+/dev/7/state", lambda count: 400, "one device of each plant"),
    Case("plant/7/#", lambda count: count // 1000, "all of one plant"),
    Case("+/status/3", lambda count: count // 100, "in all 64 buckets"),
    Case("+/+/+/+/none", lambda count: 0, "nothing, but each topic is looked at"),
    Case("#", lambda count: count, "everything"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What the subscribers got, ms since SUBSCRIBE, and what the others have felt."""

    case: Case
    counts: set[int]
    first: float
    last: float
    felt: Felt


def fill(caller: Caller, count: int) -> tuple[float, float]:
    """Puts the topics into the store; bytes of memory per topic, and topics per second."""
    before = _used_memory(caller.redis)
    started = time.perf_counter()
    record = records.pack_retained(_PAYLOAD, 1, b"", 0)
    requests: list[Request] = []
    for topic in topics(count):
        requests.append(retained.retain(topic, record, 0, False, 0))
        if len(requests) == _PER_CALL:
            caller.call(requests)
            requests = []
    requests.append(retained.retain(_END, record, 0, False, 0))
    caller.call(requests)
    seconds = time.perf_counter() - started
    return (_used_memory(caller.redis) - before) / count, count / seconds


def wait_for_rewrite(client: redis.Redis) -> None:
    """The append-only file has doubled several times; Redis rewrites it in a process of its own."""
    deadline = time.monotonic() + _REWRITE_SECONDS
    while time.monotonic() < deadline:
        state = cast(dict[str, int], client.info("persistence"))
        if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
            return
        time.sleep(0.1)
    raise TimeoutError("Redis rewrites its file for too long")


def _used_memory(client: redis.Redis) -> int:
    return cast(dict[str, int], client.info("memory"))["used_memory"]


class Bystanders:
    """The process that is measured meanwhile."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "tests.bench.bystander", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.begin()
        self.felt()

    def begin(self) -> None:
        """What they have felt before does not count."""
        self._say("begin")

    def felt(self) -> Felt:
        """Since `begin`."""
        self._say("end")
        assert self._process.stdout is not None
        return Felt(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()

    def _say(self, order: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()


class Reader:
    """Counts and acknowledges what comes."""

    def __init__(self, wire: Wire) -> None:
        self.count = 0
        self.first = 0.0
        self.last = 0.0
        self._wire = wire
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wire.adopt(self._take)

    @classmethod
    async def connect(cls, port: int, case: Case, name: str) -> "Reader":
        """Raises ConnectionError."""
        properties = Properties(session_expiry_interval=600) if case.is_persistent else None
        connect = Connect(f"reader-{name}", MQTT_5, True, 0, None, None, None, properties)
        wire = await open_wire(port, MQTT_5, str(port), connect)
        connack = await connack_of(wire, _ANSWER_SECONDS)
        if connack is None or connack.reason_code:
            raise ConnectionError(f"{name} at {port}: {connack!r}")
        return cls(wire)

    async def read(self, case: Case) -> None:
        """Subscribes, and returns when all is there."""
        filters = [case.filter, _END]  # they are served in order
        self._wire.send(Subscribe(1, [SubscriptionRequest(each, case.qos) for each in filters]))
        async with asyncio.timeout(_ANSWER_SECONDS):
            await self._ended
        self._wire.abort()

    def _take(self, packet: Packet) -> None:
        if not isinstance(packet, Publish):
            return
        if packet.qos:
            self._wire.send(Puback(packet.packet_id))
        if not packet.retain:  # of the bystanders
            return
        self.last = time.perf_counter()
        self.first = self.first or self.last
        if packet.topic != _END:
            self.count += 1
        elif not self._ended.done():
            self._ended.set_result(None)


async def measure(port: int, case: Case, number: int, bystanders: Bystanders) -> Result:
    """Subscribes and reads until all is there, for so long that what the others feel can be told."""
    counts: set[int] = set()
    first: list[float] = []
    last: list[float] = []
    deadline = time.perf_counter() + _CASE_SECONDS
    bystanders.begin()
    while not first or time.perf_counter() < deadline:
        name = f"{number}-{len(first)}"
        readers = [await Reader.connect(port, case, f"{name}-{i}") for i in range(case.subscribers)]
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(reader.read(case))
        counts |= {reader.count for reader in readers}
        first.append((max(reader.first for reader in readers) - started) * 1e3)
        last.append((max(reader.last for reader in readers) - started) * 1e3)
    return Result(case, counts, statistics.median(first), statistics.median(last), bystanders.felt())


def row(result: Result) -> str:
    """Of the table."""
    case, felt = result.case, result.felt
    session = "persistent" if case.is_persistent else "clean"
    counts = " or ".join(f"{count:,}" for count in sorted(result.counts))
    return (
        f"| {case.subscribers} x `{case.filter}`, QoS {case.qos}, {session}: {case.what} | {counts} "
        f"| {result.first:,.0f} | {result.last:,.0f} "
        f"| {felt.p50:.1f} | {felt.p99:.1f} | {felt.longest:.0f} | {felt.longest_ping:.0f} |"
    )


def failures(results: Sequence[Result], count: int) -> list[str]:
    """What is not as it must be."""
    found = []
    for result in results:
        case = result.case
        if result.counts != {case.matches(count)}:
            found.append(f"{case.filter}: {result.counts} messages")
        if result.felt.p99 > LIMIT_MS:
            found.append(f"{case.filter}: p99 of the others {result.felt.p99:.1f} ms")
    return found


def page(head: Sequence[str], rows: Sequence[str]) -> str:
    """docs/scale.md."""
    return "\n".join(
        [
            "# Retained messages at scale",
            "",
            "Made by `make scale`: one node and its Redis, the clients beside them on the same machine. A",
            "client subscribes and acknowledges what comes; meanwhile another process publishes 250 messages",
            "per second at QoS 1 to itself, and pings. Times in ms: from SUBSCRIBE to the first and the last",
            "message (of the last client, if there are several); for the others from PUBLISH to delivery,",
            "and the longest from PINGREQ to PINGRESP. Each line is measured for 5 s or more, by subscribing",
            "again and again; first and last are medians of that.",
            "",
            *head,
            "",
            "| subscription | messages | first | last | others p50 | p99 | longest | longest ping |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def keep_sections(file: Path, part: str) -> None:
    """Writes a part of a page, which begins with its heading, and keeps the others: the beginning of the page
    is one part, and each section (`## `) another."""
    parts = [text for text in re.split(r"^(?=## )", file.read_text(), flags=re.MULTILINE) if text]
    heading = part.splitlines()[0]
    is_first = heading.startswith("# ")
    rest = parts[1:] if is_first else [text for text in parts if text.splitlines()[0] != heading]
    found = [part, *rest] if is_first else [*rest, part]
    file.write_text("\n".join(text.rstrip("\n") + "\n" for text in found))


def _run(count: int, only: str) -> tuple[list[str], list[Result], list[str]]:
    """What is to be said first, results, and rows."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running_redis(directory / "redis"))
        node = stack.enter_context(running_moorline(directory, "--redis", server.url))
        client = stack.enter_context(server.client())
        per_topic, rate = fill(Caller(client, _PREFIX), count)
        head = [
            f"{moorline_version()}; {count:,} retained messages of {len(_PAYLOAD)} bytes:",
            f"{per_topic:.0f} bytes of Redis each, topic and payload included.",
            f"One process stored {rate:,.0f} of them per second.",
        ]
        print(*head, flush=True)
        port = int(node.address.rpartition(":")[2])
        bystanders = stack.enter_context(contextlib.closing(Bystanders(port)))
        time.sleep(_SETTLE_SECONDS)  # what the start of the others has cost
        wait_for_rewrite(client)
        bystanders.begin()
        time.sleep(_QUIET_SECONDS)
        felt = bystanders.felt()
        rows = [
            f"| none | | | | {felt.p50:.1f} | {felt.p99:.1f} | {felt.longest:.0f} | {felt.longest_ping:.0f} |"
        ]
        print(rows[0], flush=True)
        results = []
        for number, case in enumerate(CASES):
            if only in case.filter:
                results.append(uvloop.run(measure(port, case, number, bystanders)))
                rows.append(row(results[-1]))
                print(rows[-1], flush=True)
        return head, results, rows


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topics", type=int, default=1_000_000, help="a multiple of 40,000")
    parser.add_argument("--only", default="", help="part of a filter")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args(arguments)
    head, results, rows = _run(options.topics, options.only)
    if options.write is not None:
        keep_sections(options.write, page(head, rows))
    found = failures(results, options.topics)
    for failure in found:
        print(failure)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
