"""The long form: hundreds of faults, by chance, on a cluster under traffic that never stops.

    python -m tests.cluster.chaos --minutes 10 --seed 1 --write docs/failover.md

Traffic comes in scenes (`traffic`), each with clients and a record of its own. While a scene is being settled
and judged the next one is under way, so the faults of the one hit the other, too. The seed decides which
fault comes when and what the clients do; it is printed. Exit code 1 if anything was violated, with the part
of the record that shows it.
"""

import argparse
import asyncio
import contextlib
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from tests.cluster.checker import line
from tests.cluster.faults import KINDS, Kind
from tests.cluster.nodes import DAMPING_OFF, Cluster, running_cluster
from tests.cluster.record import FaultBegan
from tests.cluster.report import Summary, page, progress
from tests.cluster.stage import Stage
from tests.cluster.traffic import Scene, Size, running_scene

SCENE_SECONDS: Final = 15.0
FAULT_SECONDS: Final = 60.0
GAP_SECONDS: Final = 0.5
PROGRESS_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 300.0
"""After the last scene has begun: by then everything has ended, one way or the other."""


class Chaos:
    """One run."""

    def __init__(
        self, cluster: Cluster, directory: Path, seed: str, seconds: float, only: Sequence[str]
    ) -> None:
        self.summary = Summary()
        self._directory = directory
        self._cluster = cluster
        self._seed = seed
        self._seconds = seconds
        self._chance = random.Random(f"{seed}/chaos")
        self._kinds = [
            (name, kind)
            for name, kind in KINDS.items()
            if kind.nodes <= len(cluster.nodes) and (not only or name in only)
        ]

    async def run(self) -> None:
        """Until the time is over and every scene is judged."""
        deadline = time.monotonic() + self._seconds
        async with asyncio.timeout(self._seconds + PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            showing = group.create_task(self._show())
            scenes: list[asyncio.Task[None]] = []
            number = 0
            while time.monotonic() < deadline:
                number += 1
                is_over = asyncio.Event()
                scenes.append(group.create_task(self._play(f"{self._seed}/{number}", deadline, is_over)))
                await is_over.wait()
            await asyncio.wait(scenes)
            showing.cancel()

    async def _play(self, seed: str, deadline: float, is_over: asyncio.Event) -> None:
        """One scene: faults for a while, then the next one may begin, and this one is judged."""
        async with running_scene(self._cluster, seed, Size()) as scene:
            try:
                await self._strike(scene, min(deadline, time.monotonic() + SCENE_SECONDS))
            finally:
                is_over.set()
            violations = await scene.finish()
        self.summary.add(scene.record.events, violations)
        if violations:
            print(f"\n{scene.report(violations)}\n", flush=True)
            events = scene.record.events
            (self._directory / f"{scene.prefix}.record").write_text(
                "\n".join([line(events, position) for position in range(len(events))])
            )

    async def _strike(self, scene: Scene, deadline: float) -> None:
        """One fault after the other."""
        weights = [kind.weight for _, kind in self._kinds]
        while time.monotonic() < deadline:
            await asyncio.sleep(self._chance.uniform(0.0, GAP_SECONDS))
            name, kind = self._chance.choices(self._kinds, weights)[0]
            await self._inject(scene, name, kind)

    async def _inject(self, scene: Scene, name: str, kind: Kind) -> None:
        stage = Stage(self._cluster, scene, random.Random(f"{self._chance.random()}"))
        position = len(scene.record.events)
        try:
            async with asyncio.timeout(FAULT_SECONDS):
                await kind.fault(stage)
        except (TimeoutError, AssertionError) as error:
            scene.clients[0].broken(f"{name}: {error!r}")
        finally:
            await self._cluster.heal()
        struck = sum(isinstance(event, FaultBegan) for event in scene.record.events[position:])
        self.summary.struck(name, struck)

    async def _show(self) -> None:
        begin = time.monotonic()
        is_terminal = sys.stdout.isatty()
        while True:
            await asyncio.sleep(PROGRESS_SECONDS if is_terminal else 10 * PROGRESS_SECONDS)
            line = progress(self.summary, time.monotonic() - begin, self._seconds)
            print(f"\r{line}" if is_terminal else line, end="" if is_terminal else "\n", flush=True)


async def _main(arguments: argparse.Namespace) -> int:
    print(f"seed {arguments.seed}, {arguments.nodes} nodes, {arguments.minutes:g} minutes", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="moorline-chaos-"))
    async with running_cluster(
        directory, arguments.nodes, together=arguments.together, environment=DAMPING_OFF
    ) as cluster:
        chaos = Chaos(cluster, directory, arguments.seed, arguments.minutes * 60, arguments.only)
        await chaos.run()
    if chaos.summary.violations:
        print(f"\nrecords of the scenes and logs of the nodes: {directory}")
    else:
        shutil.rmtree(directory)
    text = page(chaos.summary, arguments.seed, arguments.nodes, arguments.minutes)
    print(f"\n{text}")
    if arguments.write is not None:
        arguments.write.write_text(text)
    return 1 if chaos.summary.violations else 0


def _parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--together", action="store_true", help="all clients are on one node at a time")
    parser.add_argument(
        "--only", nargs="*", default=[], choices=list(KINDS), help="only faults of these kinds"
    )
    parser.add_argument("--write", type=Path, help="the page with the results")
    return parser.parse_args(given)


async def _until_told(arguments: argparse.Namespace) -> int:
    """SIGTERM ends it like Ctrl-C: the nodes and their Redis must not outlive it."""
    task = asyncio.ensure_future(_main(arguments))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(uvloop.run(_until_told(_parse())))
    sys.exit(130)
