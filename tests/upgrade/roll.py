"""Two releases on one Redis: nodes of the one become nodes of the other, one by one, under traffic.

    python -m tests.upgrade.roll --rounds 20 --nodes 3 --seed 1

A round rolls all nodes from the release before this one to this one, and back again (a downgrade). In
between, while there are nodes of both, clients are moved from each release to the other, and one node of each
is killed. Exit code 1 if anything was violated (see `tests.cluster.checker`), with the part of the record
that shows it.
"""

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import uvloop

from cluster.store.library import LIBRARY_NAME, revision_of
from tests.cluster.checker import Violations
from tests.cluster.driver import Move
from tests.cluster.nodes import DAMPING_OFF, Cluster, ClusterNode, running_cluster
from tests.cluster.record import Connected, Event
from tests.cluster.traffic import Scene, Size, running_scene
from tests.cluster.waiting import in_thread
from tests.node.harness import PROGRAM
from tests.upgrade.release import previous_release

Program = tuple[str, ...]

MIX_SECONDS: Final = 0.2
"""Traffic goes on for so long after each step."""


@dataclass
class Roll:
    """A cluster in transition. `moves` counts sessions that were resumed: from which program, on which.
    `revisions` are those of the function library, each time when an older node had started again."""

    cluster: Cluster
    scene: Scene
    old: Program
    new: Program
    chance: random.Random
    revisions: list[int] = field(default_factory=list)
    _starts: list[tuple[float, str, Program]] = field(default_factory=list)

    async def to(self, program: Program, *, with_kills: bool) -> None:
        """Rolls all nodes, one after the other."""
        *before, last = self.cluster.nodes
        for node in before:
            await self._change(node, program)
            await self._mix()
        if with_kills:
            await self._kill(last)
            await self._mix()
            self.revisions.append(await in_thread(self._loaded_revision))
            await self._kill(self.chance.choice(before))
            await self._mix()
        await self._change(last, program)

    def moves(self) -> Counter[tuple[Program, Program]]:
        """See above."""
        return Counter(_moves(self.scene.record.events, self._starts, self.old))

    async def _change(self, node: ClusterNode, program: Program) -> None:
        """SIGTERM, and another program in its place."""
        self.cluster.began("roll", node.name)
        code = await node.stop()
        if code:
            self.scene.clients[0].broken(f"{node.name} ended with {code} after SIGTERM")
        node.process.program = program
        self._starts.append((time.monotonic(), node.name, program))
        await node.start()
        self.cluster.ended("roll", node.name)

    async def _kill(self, node: ClusterNode) -> None:
        """kill -9; the same program starts again."""
        self.cluster.began("kill", node.name)
        await node.kill()
        await node.start()
        self.cluster.ended("kill", node.name)

    def _loaded_revision(self) -> int:
        with self.cluster.redis.client() as client:
            ((*_, code),) = cast(list[list[bytes]], client.function_list(library=LIBRARY_NAME, withcode=True))
        return revision_of(code.decode())

    async def _mix(self) -> None:
        """Each client goes to a node of the other program, in one way or the other."""
        programs = {node.name: node.process.program for node in self.cluster.nodes}
        for client in [*self.scene.publishers, *self.scene.receivers]:
            here = programs.get(client.node)
            others = [node for node in self.cluster.living() if node.process.program != here]
            if here is not None and others:
                client.move(self.chance.choice(list(Move)), self.chance.choice(others))
        await asyncio.sleep(MIX_SECONDS)


def _moves(
    events: Sequence[Event], starts: Sequence[tuple[float, str, Program]], first: Program
) -> list[tuple[Program, Program]]:
    found = []
    last: dict[str, Program] = {}
    for event in events:
        if isinstance(event, Connected):
            program = first
            for at, node, started in starts:
                if node == event.node and at <= event.at:
                    program = started
            if event.client in last and event.session_present:
                found.append((last[event.client], program))
            last[event.client] = program
    return found


@dataclass(frozen=True)
class Outcome:
    """Of one round: sessions that moved to the newer and to the older release; revisions as in Roll. `report`
    is for people."""

    violations: Violations
    ups: int
    downs: int
    revisions: list[int]
    report: str


async def roll_there_and_back(cluster: Cluster, old: Program, seed: str, size: Size) -> Outcome:
    """One round; all nodes run the old program before and after it."""
    async with running_scene(cluster, seed, size) as scene:
        roll = Roll(cluster, scene, old, PROGRAM, random.Random(f"{seed}/roll"))
        await asyncio.sleep(MIX_SECONDS)
        await roll.to(roll.new, with_kills=True)
        await roll.to(roll.old, with_kills=False)
        violations = await scene.finish()
        moves = roll.moves()
        return Outcome(
            violations,
            moves[roll.old, roll.new],
            moves[roll.new, roll.old],
            roll.revisions,
            scene.report(violations),
        )


async def _main(arguments: argparse.Namespace) -> int:
    old = previous_release()
    print(f"{old.name} and this one, seed {arguments.seed}, {arguments.nodes} nodes", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="moorline-roll-") as directory:
        async with running_cluster(
            Path(directory), arguments.nodes, environment=DAMPING_OFF, program=old.program
        ) as cluster:
            for number in range(1, arguments.rounds + 1):
                begun = time.monotonic()
                outcome = await roll_there_and_back(
                    cluster, old.program, f"{arguments.seed}/{number}", Size()
                )
                failed += bool(outcome.violations)
                print(
                    f"round {number}: {time.monotonic() - begun:.1f} s, sessions moved up {outcome.ups}, "
                    f"down {outcome.downs}, violations {len(outcome.violations.found)}",
                    flush=True,
                )
                if outcome.violations:
                    print(outcome.report, flush=True)
    return 1 if failed else 0


def _parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade.roll", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(uvloop.run(_main(_parse())))
