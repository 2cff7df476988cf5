"""A broker to load: Debian's mosquitto, so that the generator is tested against another implementation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.peers import RunningBroker, running_mosquitto
from tests.tools import require_tool


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[RunningBroker]:
    """A mosquitto of its own for each test."""
    require_tool("mosquitto")
    with running_mosquitto(tmp_path) as broker:
        yield broker
