"""The long form: scaled, rolled, killed, paused and partitioned under the traffic of 2,000 clients.

    python -m tests.containers.rolling --clients 2000 --seed 1 --write docs/rolling.md

`make rolling` makes the image before. What is struck is the node with the most clients. The seed decides what
clients do; it is printed. Exit code 1 if a promise was broken, with the part of the record that shows it.
"""

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from tests.cluster.checker import Violations
from tests.containers.cluster import ContainerCluster, running_cluster
from tests.containers.figures import Figures, figures, page, results, table
from tests.containers.load import Load
from tests.containers.podman import IMAGE, podman
from tests.tools import find_tool

NODES: Final = 3
CALM_SECONDS: Final = 5.0
"""So long after each phase all clients are watched."""

Act = Callable[[ContainerCluster], Awaitable[None]]


@dataclass(frozen=True)
class Phase:
    """What is done, and its name in the table. `moves`: clients are told to move, each once at most."""

    kind: str
    act: Act
    moves: bool = False


def _scale(count: int) -> Act:
    return lambda cluster: cluster.scale(count)


def _kill(cluster: ContainerCluster) -> Awaitable[None]:
    return cluster.kill(cluster.fullest()[0])


def _pause(seconds: float) -> Act:
    return lambda cluster: cluster.pause(cluster.fullest()[0], seconds)


def _partition(seconds: float) -> Act:
    return lambda cluster: cluster.partition(cluster.fullest()[0], seconds)


LONG: Final = (
    Phase("scale 3 to 5", _scale(5), moves=True),
    Phase("scale 5 to 2, the fullest go", _scale(2), moves=True),
    Phase("scale 2 to 3", _scale(3), moves=True),
    Phase("roll all 3", lambda cluster: cluster.roll(), moves=True),
    Phase("kill -9 of one", _kill),
    Phase("one paused for 30 s", _pause(30.0)),
    Phase("one cut off from Redis for 10 s", _partition(10.0)),
    Phase("one cut off from Redis for 45 s", _partition(45.0)),
    Phase("roll all 3 again", lambda cluster: cluster.roll(), moves=True),
)
SHORT: Final = (
    Phase("roll all 3", lambda cluster: cluster.roll(), moves=True),
    Phase("kill -9 of one", _kill),
    Phase("one cut off from Redis for 8 s", _partition(8.0)),
)


@dataclass(frozen=True)
class Outcome:
    """What was seen. `problems`: promises about reconnects that were not kept."""

    figures: Figures
    violations: Violations
    report: str
    problems: list[str]

    def text(self) -> str:
        """For people."""
        return "\n".join([*table(self.figures), "", *results(self.figures, self.violations)])


async def run(
    haproxy: str,
    directory: Path,
    clients: int,
    seed: str,
    phases: Sequence[Phase],
    calm_seconds: float = CALM_SECONDS,
) -> Outcome:
    """One phase after the other on a cluster of its own. `haproxy`: where that program is."""
    async with running_cluster(haproxy, directory, NODES) as cluster, asyncio.TaskGroup() as group:
        load = Load(clients, cluster, cluster.record, seed)
        await load.open(group)
        await load.calm(calm_seconds)
        for phase in phases:
            with cluster.phase(phase.kind):
                await phase.act(cluster)
                await load.calm(calm_seconds)
        violations = await load.finish()
        found = figures(cluster.record.events)
    return Outcome(found, violations, load.report(violations), _problems(found, phases))


def _problems(found: Figures, phases: Sequence[Phase]) -> list[str]:
    """Who is told to go should do so once; and a phase that struck nobody shows nothing."""
    problems = []
    for phase, seen in zip(phases, found.phases, strict=True):
        median = seen.median_reconnects(found.clients)
        if phase.moves and median > 1:
            problems.append(f"{seen.kind}: half of the clients reconnected {median:g} times or more")
        if not phase.moves and not seen.reconnects:
            problems.append(f"{seen.kind}: nobody noticed")
    return problems


async def _main(arguments: argparse.Namespace) -> int:
    haproxy = find_tool("haproxy")
    if haproxy is None:
        raise SystemExit("haproxy is not installed (.ci/deps)")
    print(f"seed {arguments.seed}, {arguments.clients} clients", flush=True)
    phases = [phase for phase in LONG if not arguments.only or arguments.only in phase.kind]
    with tempfile.TemporaryDirectory(prefix="moorline-rolling-") as directory:
        outcome = await run(haproxy, Path(directory), arguments.clients, arguments.seed, phases)
    print(outcome.text())
    for problem in outcome.problems:
        print(problem)
    if outcome.violations:
        print(outcome.report)
    if arguments.write is not None:
        version = podman("run", "--rm", IMAGE, "--version").stdout.strip()
        text = page(outcome.figures, outcome.violations, arguments.seed, version)
        arguments.write.write_text(text)
    return 1 if outcome.violations or outcome.problems else 0


def _parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.containers.rolling", description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--only", help="phases whose name contains this")
    parser.add_argument("--write", type=Path, help="the page with the results")
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(uvloop.run(_main(_parse())))
