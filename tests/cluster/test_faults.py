"""The short form of `make chaos`: every kind of fault once under traffic, and each flow stopped at each of
its calls.

Nothing acknowledged is lost, QoS 2 is exactly once, order is kept, wills are sent once: see `checker`. A
failure prints the seed and the part of the record that shows it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from tests.cluster.faults import KINDS
from tests.cluster.flows import CALLS_MAXIMUM, FLOWS, QUIET_SCENE, Case, stop_in_flow
from tests.cluster.nodes import DAMPING_OFF, Cluster
from tests.cluster.record import FaultBegan
from tests.cluster.shared import run as run_shared
from tests.cluster.stage import Fault, Stage
from tests.cluster.traffic import running_scene

NODES = 3
SEED = 1
LONG = {"cut 20 s", "kill who reaps a will"}
"""Left to the long form."""

Run = Callable[[Callable[[Cluster], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One for all tests: the proxies live in it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


@pytest.fixture(scope="module")
def cluster(loop: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Nodes for all tests: what a test has done to them is healed after it."""
    cluster = Cluster(
        Path(tmp_path_factory.mktemp("cluster")), NODES, together=NODES == 1, environment=DAMPING_OFF
    )
    try:
        loop.run(cluster.start())
        yield cluster
    finally:
        loop.run(cluster.close())


@pytest.fixture
def run(loop: asyncio.Runner, cluster: Cluster) -> Iterator[Run]:
    """Runs a scenario on the cluster."""

    async def scenario(work: Callable[[Cluster], Awaitable[None]]) -> None:
        await work(cluster)

    yield lambda work: loop.run(scenario(work))
    loop.run(cluster.heal())


async def _survives(cluster: Cluster, seed: str, fault: Fault) -> None:
    """A scene with this fault in its midst has no violations."""
    async with running_scene(cluster, seed) as scene:
        await asyncio.sleep(0.1)
        await fault(Stage(cluster, scene, random.Random(f"{seed}/fault")))
        violations = await scene.finish()
    assert not violations, scene.report(violations)
    assert any(isinstance(event, FaultBegan) for event in scene.record.events), "nothing was struck"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", [name for name in KINDS if name not in LONG])
def test_fault(run: Run, name: str) -> None:
    if KINDS[name].nodes > NODES:
        pytest.skip(f"needs {KINDS[name].nodes} nodes")
    run(lambda cluster: _survives(cluster, f"{SEED}/{name}", KINDS[name].fault))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FLOWS)
def test_stopped_at_each_call(run: Run, name: str) -> None:
    """Before or after the call, then killed or continued: by chance, but each call of the flow."""

    async def scenario(cluster: Cluster) -> None:
        chance = random.Random(f"{SEED}/{name}")
        call = 0
        async with running_scene(cluster, f"{SEED}/{name}", QUIET_SCENE) as scene:
            stage = Stage(cluster, scene, chance)
            has_sprung = True
            while has_sprung and call < CALLS_MAXIMUM:
                call += 1
                case = Case(call, chance.random() < 0.5, chance.random() < 0.5)
                has_sprung = await stop_in_flow(stage, FLOWS[name], case)
            violations = await scene.finish()
        assert not violations, scene.report(violations)
        assert call > 1

    run(scenario)


@pytest.mark.timeout(120)
def test_shared_subscription(run: Run) -> None:
    """The short form of `make shared`."""

    async def scenario(cluster: Cluster) -> None:
        group, violations = await run_shared(cluster, 5_000, SEED, 0.1)
        assert not violations
        assert group.tally.faults.total() > 0

    run(scenario)
