"""Reading settings again, without a node."""

import logging

import anyio
import pytest

from broker.observability.metrics import Tally
from broker.reloading import Reloading
from broker.settings import Settings, load


def refuse() -> Settings:
    """With what nobody has thought of."""
    raise RuntimeError("not a mistake in the settings")


def test_a_mistake_of_ours_does_not_end_the_process(caplog: pytest.LogCaptureFixture) -> None:
    reloading = Reloading(load(), refuse, lambda _names, _settings: None, Tally())
    with caplog.at_level(logging.ERROR):
        anyio.run(reloading.at_signal)
    assert "could not be read again" in caplog.text


def test_what_is_adopted_is_not_adopted_again() -> None:
    adopted: list[frozenset[str]] = []
    given = load()
    newer = load({"session": {"queue_limit": 7}, "node": {"backlog": 7}})
    reloads = Tally()
    reloading = Reloading(given, lambda: newer, lambda names, _: adopted.append(names), reloads)
    first, second = anyio.run(reloading.reload), anyio.run(reloading.reload)
    assert adopted == [{"session.queue_limit"}]
    assert (first.applied[0]["from"], first.applied[0]["to"]) == (10_000, 7)
    assert first.restart == second.restart == ["node.backlog"]
    assert second.applied == []
    assert dict(reloads.items())["applied"] == 2
