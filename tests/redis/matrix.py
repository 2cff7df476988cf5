"""Each shape of Redis under each fault, under traffic: what is lost, what comes twice, for how long nobody is
served.

    python -m tests.redis.matrix --write docs/redis.md
    python -m tests.redis.matrix --cells 'sentinel-1/pause/*'

Two nodes, three publishers and three persistent subscribers, at QoS 1 and 2; each cell begins with new
servers. The record is judged by `tests.cluster.checker`. Exit code 1 if anything was lost that the level
promises, came twice at QoS 2 or out of order.
"""

import argparse
import asyncio
import contextlib
import fnmatch
import itertools
import platform
import secrets
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, get_args

import uvloop

from tests.cluster.checker import Violations
from tests.cluster.record import Acknowledged, Delivered, Event, FaultBegan, FaultEnded, Message, Published
from tests.cluster.traffic import Size, running_scene
from tests.cluster.waiting import in_thread
from tests.redis import topology
from tests.redis.faults import FAULTS, Fault, Scene, SlowDisk
from tests.redis.stand import running_stand

SHAPES: Final = ("standalone", "sentinel-1", "sentinel-2", "cluster")
LEVELS: Final = ("stored", "replicated(1)")
SOFTWARE: Final[tuple[topology.Software, ...]] = get_args(topology.Software)
BEGIN: Final = "<!-- matrix -->"
END: Final = "<!-- end of the matrix -->"
_SIZE: Final = Size(publishers=3, messages_per_second=40.0, wills=0, direct=0, churners=0, is_restless=False)
_BEFORE_SECONDS: Final = 2.0
_AFTER_SECONDS: Final = 3.0
_CELL_SECONDS: Final = 240.0
_PROMPT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One run."""

    shape: str
    fault: str
    level: str
    software: topology.Software = "valkey"

    def __str__(self) -> str:
        return f"{self.shape}/{self.fault}/{self.level}/{self.software}"

    @property
    def is_possible(self) -> bool:
        """Where there is no replica none can be waited for, or be cut off from."""
        is_alone = self.shape == "standalone"
        return not is_alone or (self.level == "stored" and not FAULTS[self.fault].needs_replicas)

    @property
    def promises(self) -> bool:
        """Whether nothing that was acknowledged may be lost."""
        return self.shape == "standalone" or self.level != "stored" or not FAULTS[self.fault].is_lossy


@dataclass(slots=True)
class Outcome:
    """Of one cell: counts by QoS. Seconds: the longest time without any acknowledgement; from the end of the
    fault until messages took less than a second again."""

    cell: Cell
    acknowledged: Counter[int] = field(default_factory=Counter)
    lost: Counter[int] = field(default_factory=Counter)
    duplicates: Counter[int] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    unavailable_seconds: float = 0.0
    recovery_seconds: float = 0.0
    error: str = ""

    @property
    def failures(self) -> list[str]:
        """What must not be."""
        found = [f"{count} {kind}" for kind, count in self.others.items()]
        if self.cell.promises and self.lost.total():
            found.append(f"{self.lost.total()} lost")
        if self.duplicates.total():
            found.append(f"{self.duplicates.total()} twice at QoS 2")
        return found + ([self.error] if self.error else [])

    def rows(self) -> list[str]:
        """Of the table."""
        cell = self.cell
        head = f"| {cell.shape} | {cell.fault} | {cell.level} | {cell.software} |"
        if self.error:
            return [f"{head} | {self.error} | | | | |"]
        return [
            f"{head} {qos} | {self.acknowledged[qos]:,} | {self.lost[qos]} "
            f"| {self.duplicates[qos] if qos == 2 else ''} "
            f"| {self.unavailable_seconds:.1f} | {self.recovery_seconds:.1f} |"
            for qos in (1, 2)
        ]


def cells(pattern: str) -> list[Cell]:
    """Those whose name fits, as in a shell."""
    every = itertools.starmap(Cell, itertools.product(SHAPES, FAULTS, LEVELS, SOFTWARE))
    return [cell for cell in every if cell.is_possible and fnmatch.fnmatch(str(cell), pattern)]


async def run_cell(cell: Cell, seed: str, directory: Path) -> Outcome:
    """New servers, two nodes, traffic, the fault, and what the record says."""
    outcome = Outcome(cell)
    fault = FAULTS[cell.fault]
    with ExitStack() as stack:
        disk = SlowDisk(directory) if fault.needs_disk else None
        made = await in_thread(partial(stack.enter_context, _topology(cell, fault, disk, directory)))
        environment = {
            "MOORLINE_SESSION__TAKEOVERS_PER_MINUTE": "0",
            "MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS": "5",
        }
        if cell.level != "stored":
            environment["MOORLINE_NODE__DURABILITY"] = cell.level
        async with (
            running_stand(directory, 2, made.url, environment) as stand,
            running_scene(stand, seed, _SIZE) as traffic,
        ):
            for publisher in traffic.publishers:
                publisher.may_be_refused = fault.refuses
            await asyncio.sleep(_BEFORE_SECONDS)
            stand.began(cell.fault)
            await in_thread(partial(fault.strike, Scene(made, disk)))
            stand.ended(cell.fault)
            await asyncio.sleep(_AFTER_SECONDS)
            violations = await traffic.finish()
        _judge(outcome, traffic.record.events, violations)
        if outcome.failures:
            print(traffic.report(violations), flush=True)
    return outcome


def _topology(
    cell: Cell, fault: Fault, disk: SlowDisk | None, directory: Path
) -> contextlib.AbstractContextManager[topology.Topology]:
    place = directory / "servers"
    place.mkdir()
    software = cell.software
    environment = None if disk is None else disk.environment
    if cell.shape == "standalone":
        return topology.standalone(
            place, software=software, environment=environment, partitions=fault.needs_network
        )
    if cell.shape == "cluster":
        return topology.cluster(
            place, software=software, environment=environment, partitions=fault.needs_network
        )
    replicas = int(cell.shape.removeprefix("sentinel-"))
    return topology.sentinel(
        place, replicas, software=software, environment=environment, partitions=fault.needs_network
    )


def _judge(outcome: Outcome, events: Sequence[Event], violations: Violations) -> None:
    outcome.acknowledged.update(event.message.qos for event in events if isinstance(event, Acknowledged))
    for violation in violations.found:
        qos = violation.message.qos if violation.message is not None else 0
        if violation.kind == "lost":
            outcome.lost[qos] += 1
        elif violation.kind == "duplicate":
            outcome.duplicates[2] += 1
        else:
            outcome.others[violation.kind] += 1
    outcome.unavailable_seconds = _longest_silence(events)
    outcome.recovery_seconds = _recovery(events)


def _longest_silence(events: Sequence[Event]) -> float:
    """Between two acknowledgements, from the fault on, while there is something to acknowledge."""
    began = next(event.at for event in events if isinstance(event, FaultBegan))
    moments = [began, *(e.at for e in events if isinstance(e, Acknowledged) and e.at > began)]
    return max((after - before for before, after in itertools.pairwise(moments)), default=0.0)


def _recovery(events: Sequence[Event]) -> float:
    """From the end of the fault until the last message came that took longer than `_PROMPT_SECONDS`."""
    ended = next(event.at for event in events if isinstance(event, FaultEnded))
    published: dict[Message, float] = {}
    seen: set[tuple[str, Message]] = set()
    late = ended
    for event in events:
        if isinstance(event, Published):
            published.setdefault(event.message, event.at)
        elif isinstance(event, Delivered) and (event.client, event.message) not in seen:
            seen.add((event.client, event.message))
            if event.at - published[event.message] > _PROMPT_SECONDS:
                late = max(late, event.at)
    return late - ended


async def _run_all(chosen: Sequence[Cell], seed: str) -> list[Outcome]:
    outcomes = []
    for cell in chosen:
        outcome = Outcome(cell)
        with tempfile.TemporaryDirectory(prefix="moorline-matrix-") as directory:
            try:
                async with asyncio.timeout(_CELL_SECONDS):
                    outcome = await run_cell(cell, f"{seed}/{cell}", Path(directory))
            # A cell that breaks is a row, not the end of the run.
            except Exception as error:  # noqa: BLE001 - told, and counted as a failure
                traceback.print_exc()
                outcome.error = f"{type(error).__name__}: {error}"[:200].replace("\n", " ")
        print(
            f"{cell}: {'; '.join(outcome.failures) or 'as promised'}", *outcome.rows(), sep="\n", flush=True
        )
        outcomes.append(outcome)
    return outcomes


def table(outcomes: Sequence[Outcome], seed: str) -> str:
    """What goes between the markers."""
    return "\n".join(
        [
            BEGIN,
            "",
            f"Made by `make matrix`, seed `{seed}`; Python {platform.python_version()}, two nodes.",
            "",
            "| shape | fault | level | server | QoS | acknowledged | lost | twice "
            "| unavailable s | recovery s |",
            "|" + " --- |" * 10,
            *[row for outcome in outcomes for row in outcome.rows()],
            "",
            END,
        ]
    )


def write(page: Path, text: str) -> None:
    """Puts the table into the page, in place of the last one."""
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(before + text + rest.partition(END)[2])


def main() -> int:
    """Runs cells; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.redis.matrix", description=__doc__)
    parser.add_argument("--cells", default="*", help="only those that fit, as sentinel-*/pause/*/valkey")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--write", type=Path, help="the page with the table")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    outcomes = uvloop.run(_run_all(cells(arguments.cells), arguments.seed))
    if arguments.write is not None:
        write(arguments.write, table(outcomes, arguments.seed))
    failed = [outcome for outcome in outcomes if outcome.failures]
    for outcome in failed:
        print(f"{outcome.cell}: {'; '.join(outcome.failures)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
