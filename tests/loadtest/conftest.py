"""A broker to load: Debian's mosquitto, so that the generator is tested against another implementation."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.brokers import RunningBroker, find_mosquitto, running_mosquitto


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[RunningBroker]:
    """A mosquitto of its own for each test."""
    if find_mosquitto() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("mosquitto is not installed")
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    with running_mosquitto(tmp_path) as broker:
        yield broker
