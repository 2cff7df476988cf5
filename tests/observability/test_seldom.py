"""Lines of the log about what comes often."""

import logging

import pytest

from broker.observability.seldom import Seldom


def test_many_within_some_seconds_get_one_line(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    late = Seldom(logging.getLogger("test"), lambda: now)
    for _ in range(3):
        late.error("too late", {"who": "hook"})
    now += 6.0
    late.error("too late", {"who": "sql"})
    told = [(record.message, record.__dict__["who"], record.__dict__["times"]) for record in caplog.records]
    assert told == [("too late", "hook", 1), ("too late", "sql", 3)]
