"""What it costs when publisher and subscriber are on different nodes: `python -m tests.bench.across`.

A node alone, with a Redis of its own, and two nodes with theirs, all on this machine; the same load at the
one, at one of the two, and with the subscribers on the other of the two, in turn. Costs are of the nodes and
Redis together, so one run compares like with like. Latencies are also given without the moments in which the
machine itself was slow (docs/loadtest.md)."""

import contextlib
import math
import tempfile
from collections.abc import Iterator, Sequence
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

_PAGE: Final = """\
# Across nodes

{version}, all on one machine: a node alone with its Redis, and two nodes with theirs; CPU of
nodes and Redis together, and how many times that of the one alone. Both ends of a pair are at the
one, at one of the two, or across: the publisher at one, the subscriber at the other. Medians of
{runs} runs of {seconds:g} s, in turn. Made by `make bench-across`.

A machine is steady while a small piece of work beside the load takes its usual processor time
([how it is found out](loadtest.md#a-machine-with-hiccups)); latencies of the other tenths of
seconds are left out in the three columns before the last.
"""


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


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes of one broker, and the process of their Redis."""

    nodes: Sequence[RunningBroker]
    redis_pid: int


@contextlib.contextmanager
def running_cluster(directory: Path, names: Sequence[str]) -> Iterator[Cluster]:
    """A node of each name, with what they write in `directory`."""
    directory.mkdir(exist_ok=True)
    with running_redis(directory / "redis") as server, contextlib.ExitStack() as stack:
        nodes = []
        for name in names:
            (directory / name).mkdir()
            nodes.append(stack.enter_context(running_moorline(directory / name, "--redis", server.url)))
        yield Cluster(nodes, server.pid)


def run_load(arguments: str, cluster: Cluster, across: bool, seconds: float) -> Sample:
    """One run: publishers at the first node; subscribers there, or `across`, at the last one. Raises
    CalledProcessError if a message was lost, too."""
    here, there = cluster.nodes[0], cluster.nodes[-1]
    pids = *(node.pid for node in cluster.nodes), cluster.redis_pid
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
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        one = stack.enter_context(running_cluster(directory / "one", ("a",)))
        two = stack.enter_context(running_cluster(directory / "two", ("a", "b")))
        places = (one, False), (two, False), (two, True)
        for title, arguments in LOADS:
            if only not in title:
                continue
            samples: list[list[Sample]] = [[] for _ in places]
            for _ in range(runs):
                for i, (cluster, across) in enumerate(places):
                    samples[i].append(run_load(arguments, cluster, across, seconds))
            rows.append(row_of(title, *map(median_of, samples)))
            print(rows[-1], flush=True)
    return rows


def row_of(title: str, alone: Sample, same: Sample, across: Sample) -> str:
    """What the medians of a load say."""
    each = (alone, same, across)
    cells = [
        title,
        f"{alone.cpu_us:.1f}",
        f"{same.cpu_us:.1f}, {same.cpu_us / alone.cpu_us:.2f}x",
        f"{across.cpu_us:.1f}, {across.cpu_us / alone.cpu_us:.2f}x",
        *(f"{sample.per_second:,.0f}" for sample in each),
        *(f"{sample.p50_ms:.2f} / {sample.p99_ms:.2f}" for sample in each),
        *(f"{sample.steady_p50_ms:.2f} / {sample.steady_p99_ms:.2f}" for sample in each),
        ", ".join(f"{sample.slow_percent:.0f}" for sample in each),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table; `--write` also puts it into a page."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", default="", help="part of the title of a load")
    options = parser.parse_args()
    columns = ["load", "CPU us per message, one node alone", "one of two nodes", "across both"]
    for what in ("msg/s", "p50 / p99 ms", "machine steady"):
        columns += [f"{what}, alone", "one of two", "across"]
    columns.append("% of the time slow")
    head = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    rows = measure(options.seconds, options.runs, options.only)
    if options.write is not None:
        text = _PAGE.format(version=moorline_version(), runs=options.runs, seconds=options.seconds)
        options.write.write_text("\n".join([text, *head, *rows, ""]))


if __name__ == "__main__":
    main()
