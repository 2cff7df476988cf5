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
    answer = json.loads(node.get("/api/v1/forwards").text)
    found: dict[str, Any] = {each["name"]: each for each in answer["forwards"]}[name]
    return found


def wait_until(
    node: NodeProcess, name: str, holds: Callable[[dict[str, Any]], bool], seconds: float = 10.0
) -> None:
    """Waits for something that the API says."""
    deadline = time.monotonic() + seconds
    while not holds(shown(node, name)):
        assert time.monotonic() < deadline, shown(node, name)
        time.sleep(0.02)


def wait_running(node: NodeProcess, *names: str) -> None:
    """Waits until forwards run."""
    for name in names:
        wait_until(node, name, lambda status: status["state"] == "running")
