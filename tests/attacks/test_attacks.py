"""The short form: what has to hold on any machine, however slow. Times are the business of the long form."""

import contextlib
import socket
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


def test_what_was_refused_stays_in_no_memory(shared: Stage) -> None:
    """200 chunks of some 125 KB, each of them the beginning of a packet that is too large."""
    too_large = b"\x10\xff\xff\xff\x7f" + bytes(MEGABYTE)

    def refuse(count: int) -> None:
        for _ in range(count):
            with (
                socket.create_connection(("127.0.0.1", shared.node.port), 5) as opened,
                contextlib.suppress(ConnectionError),
            ):
                opened.sendall(too_large)
                opened.recv(1)

    def growth() -> int:
        before = shared.memory.now()
        refuse(200)
        return shared.memory.now() - before

    refuse(20)
    # What stays would stay each time; what memory is divided into may take some once.
    assert min(growth() for _ in range(3)) < 12 * MEGABYTE


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
