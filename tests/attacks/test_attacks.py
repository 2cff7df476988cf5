"""The short form: what has to hold on any machine, however slow. Times are the business of the long form."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.attack import ATTACKS
from tests.attacks.stage import MEGABYTE, Stage, own_settings, staged

HONEST = 50
SECONDS = 1.0
SCALE = 0.1
MEMORY_BYTES = 200 * MEGABYTE
"""More than the node may ever grow by under attack."""

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("attacked"), HONEST) as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """One node for all attacks that have no settings of their own."""
    name = request.node.callspec.params["name"]
    if not own_settings(name):
        yield shared
        return
    with staged(tmp_path, HONEST, dict(own_settings(name))) as own:
        yield own


@pytest.mark.parametrize("name", ATTACKS)
def test_the_honest_stay_and_the_node_lives(stage: Stage, name: str) -> None:
    outcome = stage.run(name, SECONDS, SCALE)
    assert outcome.seen, "nothing was attacked"
    assert outcome.honest["disconnects"] == 0, outcome
    assert outcome.honest["messages"] > 0, outcome
    assert outcome.peak - outcome.before < MEMORY_BYTES, outcome
    assert outcome.is_alive
    log = stage.node.output()
    assert "Traceback" not in log
    assert "connection failed" not in log
