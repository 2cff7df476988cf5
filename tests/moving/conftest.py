"""Two brokers, each with a Redis of its own kind: what one has is moved to the other."""

from collections.abc import Iterator

import pytest

from tests.moving.brokers import Broker, running_broker


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A node on Valkey."""
    with running_broker(tmp_path_factory.mktemp("source"), "valkey", "old:", 1) as broker:
        yield broker


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Two nodes on Redis, with another prefix."""
    with running_broker(tmp_path_factory.mktemp("target"), "redis", "new:", 2) as broker:
        yield broker
