"""What it costs when publisher and subscriber are on different nodes: `python -m tests.bench.across`.

Two nodes and their Redis on this machine; the same load, with the subscribers on the publishers' node and on
the other one, in turn. Costs are of the nodes and Redis together, so one run compares like with like.
Latencies are also given without the moments in which the machine itself was slow (docs/loadtest.md)."""

import contextlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtest.peers import RunningBroker, moorline_version, running_moorline
from tests.bench.loading import median_of, parser_of, report_of
from tests.node.redis_server import running_redis

LOADS: Final = (
    ("50 pairs, QoS 0, full load", "pairs -n 50 --qos 0 --window 20"),
    ("50 pairs, QoS 1, clean sessions, full load", "pairs -n 50 --qos 1 --window 20"),
    ("50 pairs, QoS 1, persistent sessions, full load", "pairs -n 50 --qos 1 --window 20 --persistent"),
    ("50 pairs, QoS 2, persistent sessions, full load", "pairs -n 50 --qos 2 --window 20 --persistent"),
    ("1,000 msg/s, QoS 1, clean sessions", "pairs -n 10 --qos 1 --rate 1000"),
    ("1,000 msg/s, QoS 1, persistent sessions", "pairs -n 10 --qos 1 --rate 1000 --persistent"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one run: CPU of nodes and Redis per delivery, and latencies."""

    cpu_us: float
    per_second: float
    p50_ms: float
    p99_ms: float
    steady_p50_ms: float  # while the machine was not slow
    steady_p99_ms: float
    slow_percent: float  # of the steps


@contextlib.contextmanager
def two_nodes(directory: Path) -> Iterator[tuple[RunningBroker, RunningBroker, int]]:
    """Two nodes of one broker, and the process of their Redis."""
    with running_redis(directory / "redis") as server, contextlib.ExitStack() as stack:
        nodes = []
        for name in ("a", "b"):
            (directory / name).mkdir()
            nodes.append(stack.enter_context(running_moorline(directory / name, "--redis", server.url)))
        yield nodes[0], nodes[1], server.pid


def run_load(
    arguments: str, nodes: tuple[RunningBroker, RunningBroker, int], across: bool, seconds: float
) -> Sample:
    """One run. Raises CalledProcessError if a message was lost, too."""
    here, there, redis_pid = nodes
    pids = here.pid, there.pid, redis_pid
    subscribers = ("--subscribe-at", there.address if across else here.address)
    report = report_of(
        arguments, here.address, pids, seconds, *subscribers, "--watch-machine", "--sample", "0.1"
    )
    latency, machine = report["latency_ms"], report["machine"]
    steady = machine["latency_ms"] or {"p50": math.nan, "p99": math.nan}
    return Sample(
        1e6 / report["broker"]["per_cpu_second"],
        report["deliveries_per_second"],
        latency["p50"],
        latency["p99"],
        steady["p50"],
        steady["p99"],
        100 * machine["slow_steps"] / machine["steps"],
    )


def measure(seconds: float, runs: int, only: str) -> list[str]:
    """Rows of the table: medians."""
    rows = []
    with tempfile.TemporaryDirectory() as directory, two_nodes(Path(directory)) as nodes:
        for title, arguments in LOADS:
            if only not in title:
                continue
            samples: dict[bool, list[Sample]] = {False: [], True: []}
            for _ in range(runs):
                for across in (False, True):
                    samples[across].append(run_load(arguments, nodes, across, seconds))
            same, other = (median_of(samples[across]) for across in (False, True))
            rows.append(
                f"| {title} | {same.cpu_us:.1f} | {other.cpu_us:.1f} | {other.cpu_us / same.cpu_us:.2f}x "
                f"| {same.per_second:,.0f} | {other.per_second:,.0f} "
                f"| {same.p50_ms:.2f} / {same.p99_ms:.2f} | {other.p50_ms:.2f} / {other.p99_ms:.2f} "
                f"| {same.steady_p50_ms:.2f} / {same.steady_p99_ms:.2f} "
                f"| {other.steady_p50_ms:.2f} / {other.steady_p99_ms:.2f} "
                f"| {same.slow_percent:.0f}, {other.slow_percent:.0f} |"
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Prints the table; `--write` also puts it into a page."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", default="", help="part of the title of a load")
    options = parser.parse_args()
    head = [
        "| load | CPU us per message, same node | across nodes | ratio | msg/s same | msg/s across "
        "| p50 / p99 ms same | p50 / p99 ms across "
        "| same, machine steady | across, machine steady | % of the time slow |",
        "|" + " --- |" * 11,
    ]
    rows = measure(options.seconds, options.runs, options.only)
    if options.write is not None:
        options.write.write_text(
            "# Across nodes\n\n"
            f"{moorline_version()}, two nodes and one Redis on one machine; CPU of all three together;\n"
            f"medians of {options.runs} runs of {options.seconds:g} s. Made by `make bench-across`.\n"
            "A machine is steady while a small piece of work beside the load takes its usual processor time\n"
            "([how it is found out](loadtest.md#a-machine-with-hiccups)); latencies of the other tenths of\n"
            "seconds are left out in the two columns before the last.\n\n" + "\n".join([*head, *rows]) + "\n"
        )


if __name__ == "__main__":
    main()
