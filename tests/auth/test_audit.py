"""Records of what was denied, at a bounded rate."""

import logging

import pytest

from broker.auth import Audit


def test_as_many_as_a_disk_can_take(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    audit = Audit(lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for number in range(500):
            audit.denied("publish", topic=str(number))
        assert len(caplog.records) == 100
        now[0] = 1.0
        audit.denied("connect", client_id="c")
    last = caplog.records[-1].__dict__
    assert (last["event"], last["client_id"], last["suppressed"]) == ("connect", "c", 400)
