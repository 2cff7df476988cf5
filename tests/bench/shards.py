"""What a message costs on a Redis Cluster of three primaries beside one server: `-m tests.bench.shards`.

One node, and the same load on it with one server and with the Cluster, in turn; all of them on this machine.
Costs are of the node and all its servers together, so one run compares like with like."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from loadtest.peers import moorline_version, running_moorline
from tests.bench.loading import median_of, parser_of, replace_part, report_of
from tests.redis.topology import Software, cluster, standalone

LOADS: Final = (
    ("QoS 1, persistent sessions", "pairs -n 50 --qos 1 --window 20 --persistent"),
    (
        "QoS 2, persistent on both sides",
        "pairs -n 50 --qos 2 --window 20 --persistent --persistent-publishers",
    ),
)
SHARDS: Final = 3
MARK: Final = "shards"


@dataclass(frozen=True, slots=True)
class Place:
    """A node to load, and whose processor time counts."""

    address: str
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one run."""

    cpu_us: float
    per_second: float


@contextlib.contextmanager
def node(directory: Path, software: Software, shards: int) -> Iterator[Place]:
    """On one server, or on a Cluster."""
    servers, place = directory / "servers", directory / "node"
    for each in (servers, place):
        each.mkdir(parents=True)
    made = standalone(servers, software=software)
    if shards > 1:
        made = cluster(servers, shards, 0, software=software)
    with made as topology, running_moorline(place, "--redis", topology.url) as broker:
        yield Place(broker.address, (broker.pid, *(server.pid for server in topology.servers)))


def run_load(arguments: str, place: Place, seconds: float) -> Sample:
    """One run. Raises CalledProcessError if a message was lost, too."""
    report = report_of(arguments, place.address, place.pids, seconds)
    return Sample(1e6 / report["broker"]["per_cpu_second"], report["deliveries_per_second"])


def measure(software: Software, seconds: float, runs: int) -> list[str]:
    """Rows of the table: medians."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with (
            node(directory / "one", software, 1) as one,
            node(directory / "sharded", software, SHARDS) as sharded,
        ):
            for title, arguments in LOADS:
                samples: dict[Place, list[Sample]] = {one: [], sharded: []}
                for _ in range(runs):
                    for place, seen in samples.items():
                        seen.append(run_load(arguments, place, seconds))
                alone, spread = (median_of(seen) for seen in samples.values())
                rows.append(
                    f"| {software} | {title} | {alone.cpu_us:.1f} | {spread.cpu_us:.1f} "
                    f"| {spread.cpu_us / alone.cpu_us:.2f}x "
                    f"| {alone.per_second:,.0f} | {spread.per_second:,.0f} |"
                )
                print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Prints the table; `--write` also puts it into a page, between its marks."""
    options = parser_of(__doc__).parse_args()
    table = [
        f"| server | 50 pairs | CPU us per message, one server | {SHARDS} primaries | ratio "
        "| msg/s, one server | msg/s |",
        "|" + " --- |" * 7,
    ]
    for software in get_args(Software):
        table += measure(software, options.seconds, options.runs)
    if options.write is not None:
        made = f"Made by `make bench-shards`: {moorline_version()}, medians of {options.runs} runs."
        replace_part(options.write, MARK, [made, "", *table])


if __name__ == "__main__":
    main()
