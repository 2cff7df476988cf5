"""Nodes with forwards."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.forwarding.hook import Hook, hooked
from tests.node.harness import NodeProcess


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    """For all tests of a module."""
    with hooked() as hook:
        yield hook


@pytest.fixture(autouse=True)
def _fresh(hook: Hook) -> None:
    """Nothing has been posted yet, and all is answered."""
    hook.reset()


def forward(name: str, **fields: object) -> dict[str, str]:
    """The variables of a forward."""
    return {
        f"MOORLINE_FORWARDS__{name.upper()}__{field.upper()}": str(value) for field, value in fields.items()
    }


def shown(node: NodeProcess, name: str) -> dict[str, Any]:
    """What the API says of a forward."""
    return _found(node.get("/api/v1/forwards").text, name)


def _found(answer: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {each["name"]: each for each in json.loads(answer)["forwards"]}[name]
    return found


def wait_until(
    node: NodeProcess, name: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 10.0
) -> None:
    """Waits for something that the API says."""
    deadline = time.monotonic() + seconds
    while True:
        probe = node.get("/api/v1/forwards")
        if probe.status == 200 and holds(_found(probe.text, name)):  # else it is about to start again
            return
        assert time.monotonic() < deadline, probe
        time.sleep(0.02)


def wait_running(node: NodeProcess, *names: str) -> None:
    """Waits until forwards run."""
    for name in names:
        wait_until(node, name, lambda status: status["state"] == "running")
