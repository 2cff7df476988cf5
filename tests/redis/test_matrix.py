"""The short form of `make matrix`: each fault once, under traffic."""

import asyncio
from pathlib import Path

import pytest
import uvloop

from tests.redis.faults import FAULTS
from tests.redis.matrix import Cell, cells, run_cell

pytestmark = pytest.mark.timeout(240)
CELLS = [
    Cell("sentinel-1", "kill -9 primary", "stored"),
    Cell("cluster", "kill -9 primary", "replicated(1)"),
    Cell("standalone", "SIGTERM", "stored", "redis"),
    Cell("sentinel-1", "pause", "stored"),
    Cell("standalone", "cut off from nodes", "stored"),
    Cell("sentinel-2", "cut off from replicas", "replicated(1)"),
    Cell("standalone", "disk stall", "stored", "redis"),
    Cell("standalone", "OOM", "stored", "redis"),
]


def test_each_fault_is_there() -> None:
    assert {cell.fault for cell in CELLS} == set(FAULTS)
    assert set(CELLS) <= set(cells("*"))


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_what_is_promised_holds(cell: Cell, tmp_path: Path) -> None:
    """Nothing that the level promises is lost, nothing comes twice at QoS 2 or out of order."""

    async def run() -> None:
        async with asyncio.timeout(220):
            outcome = await run_cell(cell, "1", tmp_path)
        assert outcome.failures == []
        assert outcome.acknowledged[1] > 0
        assert outcome.acknowledged[2] > 0

    uvloop.run(run())
