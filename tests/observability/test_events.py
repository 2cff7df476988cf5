"""Events: who asked is told, one that fails harms nobody."""

import logging

import pytest

from broker.observability.events import Event, Events


def test_takers_are_told_until_they_are_removed() -> None:
    events = Events()
    first: list[Event] = []
    second: list[Event] = []
    remove = events.add(first.append)
    events.add(second.append)
    events.tell("connected", "c", 1, {"address": "::1"})
    remove()
    assert events.is_wanted
    events.tell("disconnected", "c", 2, {})
    assert list(map(repr, first)) == ["Event('connected', 'c', 1, {'address': '::1'})"]
    assert [event.kind for event in second] == ["connected", "disconnected"]


def test_nothing_is_wanted_when_the_last_one_has_left() -> None:
    events = Events()
    events.add(lambda _: None)()
    assert not events.is_wanted


def test_a_taker_that_fails_is_logged_and_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    events = Events()
    told: list[Event] = []

    def fail(_: Event) -> None:
        raise LookupError("a bug")

    events.add(fail)
    events.add(told.append)
    with caplog.at_level(logging.ERROR):
        events.tell("connected", "c", 1, {})
    assert len(told) == 1
    assert "could not be taken" in caplog.text
