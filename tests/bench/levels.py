"""What a durability level costs: `python -m tests.bench.levels`.

One node with a listener for each level, on a primary with a replica, and the same load at one after the
other. A ratio is that of two runs that followed each other, so it holds on a machine which others use, too.
How long an acknowledgement takes follows from how many are awaited and how many come a second."""

import argparse
import contextlib
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from loadtest.peers import moorline_version, running_moorline
from tests.bench.loading import replace_part, report_of
from tests.cluster.nodes import free_port
from tests.redis.topology import Software, Sync, sentinel

LEVELS: Final = ("stored", "replicated(1)", "fsynced")
SERVERS: Final[tuple[tuple[Software, Sync], ...]] = (
    ("valkey", "everysec"),
    ("valkey", "always"),
    ("redis", "always"),  # 7.0, which has no WAITAOF: what it answers is on the disk
)
PUBLISHERS: Final = 50
WINDOWS: Final = (20, 1)
MARK: Final = "levels"


@contextlib.contextmanager
def node(directory: Path, software: Software, appendfsync: Sync) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Its process, and the address of each level."""
    servers, place = directory / "servers", directory / "node"
    for each in (servers, place):
        each.mkdir(parents=True)
    addresses = {level: f"127.0.0.1:{free_port()}" for level in LEVELS}
    config = place / "moorline.toml"
    config.write_text(
        "".join(
            f'[listeners.level-{number}]\naddress = "mqtt://{address}"\ndurability = "{level}"\n'
            for number, (level, address) in enumerate(addresses.items())
        )
    )
    with (
        sentinel(servers, 1, software=software, appendfsync=appendfsync) as topology,
        running_moorline(place, "--config", str(config), "--redis", topology.url) as broker,
    ):
        yield broker.pid, addresses


def rate_of(address: str, pid: int, window: int, seconds: float) -> float:
    """Messages a second. Raises CalledProcessError if one was lost."""
    load = f"pairs -n {PUBLISHERS} --qos 1 --window {window} --persistent --warm-up 2"
    rate: float = report_of(load, address, [pid], seconds)["deliveries_per_second"]
    return rate


def measure(software: Software, appendfsync: Sync, seconds: float, runs: int) -> list[str]:
    """Rows of the table, a level each: medians."""
    rates: dict[tuple[str, int], list[float]] = {}
    with (
        tempfile.TemporaryDirectory() as name,
        node(Path(name), software, appendfsync) as (pid, addresses),
    ):
        for _ in range(runs):
            for window in WINDOWS:
                for level, address in addresses.items():
                    seen = rates.setdefault((level, window), [])
                    seen.append(rate_of(address, pid, window, seconds))
    rows = []
    for level in LEVELS:
        cells = [f"{software}, `{appendfsync}`", f"`{level}`"]
        for window in WINDOWS:
            pairs = zip(rates[level, window], rates[LEVELS[0], window], strict=True)
            rate = statistics.median(rates[level, window])
            cells.append(f"{rate:,.0f}")
            cells.append(f"{statistics.median(own / stored for own, stored in pairs):.2f}")
            cells.append(f"{1000 * PUBLISHERS * window / rate:,.1f} ms")
        rows.append(f"| {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Prints the table; `--write` also puts it into a page, between its marks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    columns = "".join(
        f"| msg/s, {PUBLISHERS} publishers await {window} | of `stored` | PUBACK after " for window in WINDOWS
    )
    table = [f"| server, `appendfsync` | level {columns}|", "|" + " --- |" * (2 + 3 * len(WINDOWS))]
    for software, appendfsync in SERVERS:
        table += measure(software, appendfsync, options.seconds, options.runs)
    if options.write is not None:
        made = (
            f"Made by `make bench-levels`: {moorline_version()}, medians of {options.runs} runs of "
            f"{options.seconds:g} s."
        )
        replace_part(options.write, MARK, [made, "", *table])


if __name__ == "__main__":
    main()
