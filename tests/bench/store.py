"""What the function library costs: processor time of the server per item, in FCALLs of about 200 entries.

    python -m tests.bench.store [--server valkey|redis] [--calls 200]

The figure that counts is the processor time of the server (`INFO cpu`), reading and answering included.
Beside it: the time in the function (`INFO commandstats`) and that of the whole call; both suffer when others
are busy.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis

from cluster.store import keys, queues, sessions
from cluster.store.call import Request
from cluster.store.entry import pack_body
from cluster.store.library import library_source
from tests.store.caller import HEAD, Caller
from tests.store.servers import running_server

BODY = pack_body("bench/topic/1", bytes(256), b"", 0)
PER_CALL = 200


@dataclass
class Timer:
    """Calls one after another; us per item."""

    caller: Caller
    calls: int

    def run(self, name: str, items: int, requests: list[list[Request]], bodies: list[bytes]) -> None:
        """Makes each call of `requests`, which has `items` items."""
        self.caller.redis.config_resetstat()
        cpu = self._cpu_us()
        started = time.perf_counter()
        for call in requests:
            for reply in self.caller.call(call, bodies):
                assert not isinstance(reply, Exception), reply
        wall = (time.perf_counter() - started) * 1e6 / len(requests) / items
        function = self._function_us() / len(requests) / items
        cpu = (self._cpu_us() - cpu) / len(requests) / items
        print(f"{name:<50} {cpu:8.2f} {function:8.2f} {wall:8.2f}")

    def _cpu_us(self) -> float:
        used = cast(dict[str, float], self.caller.redis.info("cpu"))
        return (used["used_cpu_user"] + used["used_cpu_sys"]) * 1e6

    def _function_us(self) -> int:
        stats = cast(dict[str, dict[str, int]], self.caller.redis.info("commandstats"))
        return stats["cmdstat_fcall"]["usec"]


@contextmanager
def caller_of(server: str) -> Iterator[Caller]:
    """A node on a server of its own."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running_server(server, Path(directory), "--stream-node-max-bytes", "512") as running,
    ):
        client = redis.Redis(unix_socket_path=running.url.removeprefix("unix://"))
        client.function_load(library_source(), replace=True)
        yield Caller(client, "mq:")
        client.close()


def names(amount: int) -> list[str]:
    return [f"client-{i:05}" for i in range(amount)]


def enqueues(group: int, token: bool, call_number: int) -> list[Request]:
    """Requests with `group` entries each, PER_CALL in all."""
    requests: list[Request] = []
    for name in names(PER_CALL // group):
        entries: list[object] = []
        for i in range(group):
            mark: bytes | bool = b"%s-%d-%d" % (name.encode(), call_number, i) if token else False
            entries += ["f", HEAD, i, mark, 120_000]
        requests.append(queues.enqueue(keys.bucket_of(name), name, 100_000, True, entries))
    return requests


def bench_queues(timer: Timer) -> None:
    caller = timer.caller
    claims = {name: caller.subscribed(name, window=100, expiry=3600) for name in names(PER_CALL)}
    bodies = [BODY] * 100
    for group in (1, 10, 100):
        calls = [enqueues(group, False, i) for i in range(timer.calls)]
        timer.run(f"enqueue, {group} for one session", PER_CALL, calls, bodies)
        acks = acknowledgements(caller, claims, group, timer.calls)
        timer.run(f"ack, {group} of one session", PER_CALL, acks, [])
    calls = [enqueues(10, True, i) for i in range(timer.calls)]
    timer.run("enqueue with token (QoS 2), 10 for one session", PER_CALL, calls, bodies)
    raises: list[Request] = [
        queues.raise_hi(keys.bucket_of(name), name, claim.epoch, 10_000_000) for name, claim in claims.items()
    ]
    timer.run("raise_hi", PER_CALL, [raises] * timer.calls, [])
    pages: list[Request] = [
        queues.page(keys.bucket_of(name), name, claim.epoch, 0, 20)
        for name, claim in list(claims.items())[:10]
    ]
    timer.run("page of 20, per entry", 200, [pages] * timer.calls, [])


def acknowledgements(
    caller: Caller, claims: dict[str, sessions.Claim], group: int, calls: int
) -> list[list[Request]]:
    """Acknowledges all that is queued, oldest first, `group` of each session in a request."""
    waiting = [(name, claims[name].gen, caller.ids(name)) for name in names(PER_CALL // group)]
    requests: list[list[Request]] = []
    for call_number in range(calls):
        call: list[Request] = []
        for name, gen, ids in waiting:
            part = ids[call_number * group : (call_number + 1) * group]
            call.append(queues.ack(keys.bucket_of(name), name, [value for n in part for value in (gen, n)]))
        requests.append(call)
    return requests


def bench_sessions(timer: Timer) -> None:
    for title, expiry in (("direct", 0), ("persistent", 3600)):
        calls = [
            [claim_of(f"{title}-{name}", number, expiry) for name in names(100)]
            for number in range(timer.calls)
        ]
        timer.run(f"claim, {title} (first, then taken over)", 100, calls, [])
    bench_connects(timer, 0)
    bench_connects(timer, 3600)


def claim_of(client_id: str, number: int, expiry: int) -> Request:
    """A claim that no other has sent."""
    return sessions.claim(
        client_id,
        nonce=number.to_bytes(8, "big"),
        clean_start=expiry == 0,
        expiry_seconds=expiry,
        protocol=5,
        window=100,
        will=None,
        will_delay_seconds=0,
    )


def bench_connects(timer: Timer, expiry: int) -> None:
    """Pairs of a claim and its detach; epochs are known beforehand as every bucket counts its own."""
    caller = timer.caller
    name = f"pair-{expiry}"
    bucket = keys.bucket_of(name)
    epoch = int(cast(bytes, caller.redis.get(keys.counter(caller.prefix, bucket)) or b"0"))
    calls: list[list[Request]] = []
    for call_number in range(timer.calls):
        call: list[Request] = []
        for i in range(100):
            epoch += 1
            call.append(claim_of(name, call_number * 100 + i, expiry))
            call.append(sessions.detach(name, epoch, sent=0, expiry_seconds=None, fire_will=True))
        calls.append(call)
    timer.run(f"claim + detach, expiry {expiry}", 100, calls, [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--server", choices=("valkey", "redis"), default="valkey")
    parser.add_argument("--calls", type=int, default=200)
    arguments = parser.parse_args()
    print(f"{'us per item, ' + arguments.server:<50} {'cpu':>8} {'function':>8} {'wall':>8}")
    with caller_of(arguments.server) as caller:
        timer = Timer(caller, arguments.calls)
        bench_queues(timer)
        bench_sessions(timer)


if __name__ == "__main__":
    main()
