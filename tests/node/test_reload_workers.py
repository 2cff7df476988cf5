"""Settings are read again by workers: by way of their parent, and when one of them is asked."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.node.harness import NodeProcess, running_node

pytestmark = pytest.mark.timeout(60)
RELOADED = "settings were read again"
WAITED_SECONDS = 20.0


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """Two workers, with a file that may change."""
    directory = tmp_path_factory.mktemp("crew")
    (directory / "moorline.toml").touch()
    flags = ("--config", str(directory / "moorline.toml"), "--workers", "2", "--node-name", "crew")
    with running_node(directory, *flags) as crew:
        yield crew


def wait_until(condition: Callable[[], bool]) -> None:
    """Or fail."""
    deadline = time.monotonic() + WAITED_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def reloads(crew: NodeProcess) -> list[dict[str, Any]]:
    """What the parent and the workers have logged."""
    return [dict(event) for event in crew.events(RELOADED)]


def post(crew: NodeProcess) -> dict[str, Any]:
    """Asks all nodes, by way of the parent; by node name."""
    probe = crew.post("/api/v1/settings/reload", {})
    assert probe.status == 200, probe
    return {each["node"].rpartition(".")[0]: each for each in json.loads(probe.text)["nodes"]}


def test_a_signal_to_the_parent_reaches_all_and_who_starts_later_has_it(
    crew: NodeProcess, tmp_path: Path
) -> None:
    config = crew.directory / "moorline.toml"
    config.write_text("[session]\nqueue_limit = 7\n[node]\nbacklog = 5\n")
    crew.send_signal(signal.SIGHUP)
    wait_until(lambda: len(reloads(crew)) == 3)
    assert {each["node_id"] for each in reloads(crew)} == {"crew", "crew-1", "crew-2"}
    assert {each["applied"] for each in reloads(crew)} == {"session.queue_limit"}
    assert {each["restart_needed"] for each in reloads(crew)} == {"node.backlog"}
    child = psutil.Process(crew.pid).children()[-1]
    os.kill(child.pid, signal.SIGKILL)
    wait_until(
        lambda: len(post(crew)) == 2 and child.pid not in {c.pid for c in psutil.Process(crew.pid).children()}
    )
    assert all(each["applied"] == [] and each["restart"] == ["node.backlog"] for each in post(crew).values())


def test_workers_that_are_asked_have_the_parent_read_too(crew: NodeProcess) -> None:
    config = crew.directory / "moorline.toml"
    config.write_text("[session]\ninflight_limit = 7\n")
    post(crew)  # from whatever was before
    before = len([each for each in reloads(crew) if each["node_id"] == "crew"])
    config.write_text("[session]\ninflight_limit = 9\n")
    said = post(crew)
    assert set(said) == {"crew-1", "crew-2"}
    assert all(each["applied"][0]["to"] == 9 for each in said.values())
    wait_until(lambda: len([each for each in reloads(crew) if each["node_id"] == "crew"]) > before)
    config.write_text("[session]\ninflight_limit = 0\n")
    assert all(len(each["mistakes"]) == 1 for each in post(crew).values())
