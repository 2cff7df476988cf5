"""What a durability level costs: `python -m tests.bench.levels`.

Two nodes with a listener for each level, each on a primary with a replica, one of which has `appendfsync
always`; and the same load at one listener after the other. A ratio is that of two runs of one round, so it
holds on a machine which others use, too. How long an acknowledgement takes follows from how many are awaited
and how many come a second."""

import contextlib
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

from loadtest.peers import moorline_version, running_moorline
from tests.bench.loading import parser_of, replace_part, report_of
from tests.ports import free_port
from tests.redis.topology import Software, Sync, sentinel

CELLS: Final[tuple[tuple[Sync, str], ...]] = (
    ("everysec", "stored"),
    ("everysec", "replicated(1)"),
    ("always", "stored"),
    ("always", "fsynced"),
)
PUBLISHERS: Final = 50
WINDOWS: Final = (20, 1)
MARK: Final = "levels"


@contextlib.contextmanager
def node(directory: Path, software: Software, appendfsync: Sync) -> Iterator[tuple[int, list[str]]]:
    """Its process, and the address of each level."""
    servers, place = directory / "servers", directory / "node"
    for each in (servers, place):
        each.mkdir(parents=True)
    levels = [level for sync, level in CELLS if sync == appendfsync]
    addresses = [f"127.0.0.1:{free_port()}" for _ in levels]
    config = place / "moorline.toml"
    config.write_text(
        "".join(
            f'[listeners.level-{number}]\naddress = "mqtt://{address}"\ndurability = "{level}"\n'
            for number, (level, address) in enumerate(zip(levels, addresses, strict=True))
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


def measure(software: Software, seconds: float, runs: int) -> list[str]:
    """Rows of the table: medians."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places = []
        for sync in dict.fromkeys(sync for sync, _ in CELLS):
            pid, addresses = stack.enter_context(node(directory / sync, software, sync))
            places += [(pid, address) for address in addresses]
        rates: list[dict[int, list[float]]] = [{window: [] for window in WINDOWS} for _ in CELLS]
        for _ in range(runs):
            for window in WINDOWS:
                for (pid, address), seen in zip(places, rates, strict=True):
                    seen[window].append(rate_of(address, pid, window, seconds))
    rows = []
    for (sync, level), seen in zip(CELLS, rates, strict=True):
        cells = [software, f"`{sync}`", f"`{level}`"]
        for window in WINDOWS:
            pairs = zip(seen[window], rates[0][window], strict=True)
            rate = statistics.median(seen[window])
            cells.append(f"{rate:,.0f}")
            cells.append(f"{statistics.median(own / first for own, first in pairs):.2f}")
            cells.append(f"{1000 * PUBLISHERS * window / rate:,.1f} ms")
        rows.append(f"| {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Prints the table; `--write` also puts it into a page, between its marks."""
    options = parser_of(__doc__).parse_args()
    columns = "".join(
        f"| msg/s, {PUBLISHERS} publishers await {window} | of the first | PUBACK after "
        for window in WINDOWS
    )
    table = [f"| server | `appendfsync` | level {columns}|", "|" + " --- |" * (3 + 3 * len(WINDOWS))]
    for software in get_args(Software):
        table += measure(software, options.seconds, options.runs)
    if options.write is not None:
        made = (
            f"Made by `make bench-levels`: {moorline_version()}, medians of {options.runs} runs of "
            f"{options.seconds:g} s."
        )
        replace_part(options.write, MARK, [made, "", *table])


if __name__ == "__main__":
    main()
