"""The short form of `python -m tests.upgrade.roll`: one round, two nodes."""

from pathlib import Path

import pytest
import uvloop

from cluster.store.library import LIBRARY_REVISION
from tests.cluster.nodes import DAMPING_OFF, running_cluster
from tests.cluster.traffic import Size
from tests.upgrade.release import previous_release
from tests.upgrade.roll import Outcome, roll_there_and_back


@pytest.mark.timeout(120)
def test_nodes_roll_to_this_release_and_back_under_traffic(tmp_path: Path) -> None:
    previous = previous_release()

    async def run() -> Outcome:
        async with running_cluster(tmp_path, 2, environment=DAMPING_OFF, program=previous.program) as cluster:
            return await roll_there_and_back(cluster, previous.program, "1", Size())

    outcome = uvloop.run(run())
    assert not outcome.violations, outcome.report
    assert outcome.revisions == [LIBRARY_REVISION], "an older node has put its library in the place of ours"
    assert outcome.ups > 10, "hardly any session moved to the newer release"
    assert outcome.downs > 10, "hardly any session moved to the older release"
