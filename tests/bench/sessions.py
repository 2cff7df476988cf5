"""Sessions by the hundred thousand, as operators see them: `python -m tests.bench.sessions`, or `make scale`.

Two nodes and their Redis. The sessions are put into the store by the node's own requests, then some clients
connect. Each route is asked again and again over one connection, while a publisher and a subscriber of
another process (`bystander`) are measured, and Redis notes what kept it for long. Exit code 1 if a goal is
missed."""

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx
import redis

from cluster.store import keys, queues
from loadtest.peers import moorline_version
from tests.bench.bystander import Felt
from tests.bench.pacing import watching
from tests.bench.scale import LIMIT_MS, Bystanders, keep_sections, wait_for_rewrite
from tests.bench.storing import client_id, make_sessions
from tests.cluster.conftest import running_nodes
from tests.node.redis_server import running_redis
from tests.node.wire import WireClient, connected
from tests.store.caller import BODY, HEAD, Caller
from tests.tools import NO_TLS

TITLE: Final = "## Sessions at scale"
CALL_MS: Final = 100.0
"""What the p99 of each call has to stay below."""
REDIS_MS: Final = 5.0
"""The longest that any call may keep Redis."""

_PREFIX: Final = "mq:"
_FIRST: Final = -15  # niceness
_WAITING: Final = 100  # messages, of each hundredth session
_CONNECTED: Final = 500
_SECONDS: Final = 5.0
_SETTLE_SECONDS: Final = 2.0
_ASKED_PER_SECOND: Final = 20.0


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked for: `{id}` is a session, another one each time, `{busy}` one with messages."""

    what: str
    path: str
    method: str = "GET"


CASES: Final = (
    Case("sessions, a page of 100 from anywhere", "/sessions?after={id}"),
    Case("sessions, a page of 500", "/sessions?limit=500&after={id}"),
    Case("sessions whose ids begin so", "/sessions?prefix={id}"),
    Case("sessions that are connected, looked for", "/sessions?state=connected&after={id}"),
    Case("a session", "/sessions/{id}"),
    Case("a session is explained", "/explain?client_id={id}"),
    Case("a session with messages is explained", "/explain?client_id={busy}"),
    Case("clients, a page of 100", "/clients"),
    Case("clients by address", "/clients?by=address&search=127.0.0.0/8&limit=500"),
    Case("subscriptions of a client", "/subscriptions?client_id={id}"),
    Case("subscriptions that match a topic", "/subscriptions?topic=devices/{id}/commands"),
    Case("subscriptions whose filters begin so", "/subscriptions?filter=devices/{id}"),
    Case("subscriptions, a page of 100 from anywhere", "/subscriptions?filter=devices/sensor-0"),
    Case("what waits in a queue, 100 messages", "/queue?client_id={busy}"),
    Case("dead letters", "/letters"),
    Case("a session is deleted", "/sessions/{id}", "DELETE"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """In ms. `longest`: that a call of the library kept Redis. Those that are steady are of requests that had
    nothing of the machine's slow moments (docs/loadtest.md)."""

    case: Case
    p50: float
    p99: float
    steady_p99: float
    longest: float
    steady_longest: float
    felt: Felt

    def __str__(self) -> str:
        felt = self.felt
        cells = [
            self.case.what,
            f"`{self.case.method} {self.case.path}`",
            *(f"{each:.1f}" for each in (self.p50, self.p99, self.steady_p99)),
            *(f"{each:.1f}" for each in (self.longest, self.steady_longest, felt.p50, felt.p99)),
            f"{felt.longest:.0f}",
        ]
        return f"| {' | '.join(cells)} |"


def commands(name: str) -> list[str]:
    return [f"devices/{name}/commands"]


def fill(caller: Caller, count: int) -> None:
    """Each has a subscription; some have messages that wait."""
    make_sessions(caller, map(client_id, range(count)), commands)
    for number in range(0, count, _WAITING):
        name = client_id(number)
        entries = [*commands(name), HEAD, 0, False, 0] * _WAITING
        caller.call([queues.enqueue(keys.bucket_of(name), name, 1000, True, entries)], [BODY])


@contextlib.contextmanager
def connected_clients(ports: Sequence[int], count: int) -> Iterator[None]:
    """Some on each node."""
    with contextlib.ExitStack() as stack:
        clients: list[WireClient] = []
        for number in range(count):
            port = ports[number % len(ports)]
            clients.append(stack.enter_context(connected(port, f"online-{number:05}")))
        yield


def measure(
    http: httpx.Client, case: Case, count: int, bystanders: Bystanders, client: redis.Redis, seconds: float
) -> Result:
    """Asks at a fixed rate."""
    chance = random.Random(case.path)
    asked: list[Asked] = []
    client.slowlog_reset()
    bystanders.begin()
    with watching() as pace_of:
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            name, busy = client_id(chance.randrange(count)), client_id(chance.randrange(0, count, _WAITING))
            path = case.path.format(id=quote(name), busy=quote(busy))
            begin = time.monotonic_ns()
            answer = http.request(case.method, path, headers={"Content-Type": "application/json"})
            end = time.monotonic_ns()
            if answer.status_code not in (200, 404) or (answer.status_code == 404 and case.method == "GET"):
                raise RuntimeError(f"{path}: {answer.text}")
            asked.append(Asked(begin, end, _longest_call(client)))
            time.sleep(max(0.0, begin / 1e9 + 1 / _ASKED_PER_SECOND - time.monotonic()))
        pace = pace_of()
    felt = bystanders.felt()
    steady = [each for each in asked if pace.was_steady(each.begin_ns, each.end_ns)]
    return Result(
        case,
        _quantile(asked, 0.5),
        _quantile(asked, 0.99),
        _quantile(steady, 0.99),
        max(each.kept_ms for each in asked),
        max((each.kept_ms for each in steady), default=0.0),
        felt,
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and the longest that a call of anybody has kept Redis since the one before."""

    begin_ns: int
    end_ns: int
    kept_ms: float


def _quantile(asked: Sequence[Asked], share: float) -> float:
    latencies = sorted(each.end_ns - each.begin_ns for each in asked)
    return latencies[int(len(latencies) * share)] / 1e6 if latencies else 0.0


def _longest_call(client: redis.Redis) -> float:
    """Of the library, ms, of those since the last time that took longer than a tenth of one."""
    slow = client.slowlog_get(1000)
    client.slowlog_reset()
    own = [entry["duration"] for entry in slow if entry["command"].startswith(b"FCALL")]
    return max(own, default=0) / 1e3


def failures(results: Sequence[Result]) -> list[str]:
    """What is not as it must be."""
    found = []
    for result in results:
        for what, measured, goal in (
            ("p99", result.steady_p99, CALL_MS),
            ("Redis kept for", result.steady_longest, REDIS_MS),
            ("p99 of the others", result.felt.p99, LIMIT_MS),
        ):
            if measured > goal:
                found.append(f"{result.case.what}: {what} {measured:.1f} ms")
    return found


def section(head: Sequence[str], rows: Sequence[str]) -> str:
    """Of docs/scale.md."""
    return "\n".join(
        [
            TITLE,
            "",
            "Made by `make scale`, too: two nodes and their Redis, each session with a subscription, one",
            f"in a hundred with {_WAITING} messages that wait. A route of the admin API is asked for another",
            f"client {_ASKED_PER_SECOND:g} times a second. Times in ms: until the answer is there; for how",
            "long the longest call of anybody kept Redis meanwhile; and from PUBLISH to delivery for others,",
            "which send 250 messages per second at QoS 1. What is steady leaves out requests during which",
            "the machine itself was slow ([how that is found out](loadtest.md#a-machine-with-hiccups)).",
            "",
            *head,
            "",
            "| what | asked | p50 | p99 | steady | longest in Redis | steady | others p50 | p99 | longest |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def _run(count: int, only: str, seconds: float) -> tuple[list[str], list[Result]]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running_redis(directory / "redis"))
        client = stack.enter_context(server.client())
        client.config_set("slowlog-log-slower-than", 100)
        client.config_set("slowlog-max-len", 1000)
        first, second = stack.enter_context(running_nodes(directory, server.url, 2))
        fill(Caller(client, _PREFIX), count)
        stack.enter_context(connected_clients([first.port, second.port], _CONNECTED))
        bystanders = stack.enter_context(contextlib.closing(Bystanders(second.port)))
        time.sleep(_SETTLE_SECONDS)
        wait_for_rewrite(client)
        is_alone = _let_go_first(client)
        bystanders.begin()
        time.sleep(seconds)
        felt = bystanders.felt()
        head = [
            f"{moorline_version()}, {os.cpu_count()} cores; {count:,} sessions, {_CONNECTED} clients. While",
            f"nobody asks, others have p50 {felt.p50:.1f}, p99 {felt.p99:.1f}, longest {felt.longest:.0f}.",
            *(["Redis goes before all others on the machine, as on one of its own."] if is_alone else []),
        ]
        print(*head, sep="\n", flush=True)
        base = f"http://127.0.0.1:{first.admin_port}/api/v1"
        http = stack.enter_context(httpx.Client(base_url=base, trust_env=False, verify=NO_TLS, timeout=10.0))
        results = []
        for case in CASES:
            if only in case.what:
                results.append(measure(http, case, count, bystanders, client, seconds))
                print(results[-1], flush=True)
        return head, results


def _let_go_first(client: redis.Redis) -> bool:
    """Redis waits for no processor from now on, if we may see to that: else how long a call keeps it would be
    what others do meanwhile."""
    try:
        os.setpriority(os.PRIO_PROCESS, client.info("server")["process_id"], _FIRST)
    except PermissionError:
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for each route")
    parser.add_argument("--only", default="", help="part of what is asked for")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args(arguments)
    head, results = _run(options.sessions, options.only, options.seconds)
    if options.write is not None:
        keep_sections(options.write, section(head, [str(result) for result in results]))
    found = failures(results)
    for failure in found:
        print(failure)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
