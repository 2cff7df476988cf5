"""When what was fed in leaves."""

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker import build_mode
from broker.client.hub import Hub

pytestmark = pytest.mark.skipif(build_mode() != "pure", reason="a compiled Hub takes nothing but its parts")


class Loop:
    """Turns of an event loop, one when it is asked for."""

    def __init__(self) -> None:
        self.soon: list[Any] = []

    def call_soon(self, action: Any) -> None:
        self.soon.append(action)

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for action in soon:
            action()


class Place:
    """A hub with what `after_input` uses."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.transit = SimpleNamespace(waiting=0)
        self.hub = cast(Any, object.__new__(Hub))
        self.hub.ready = []
        self.hub.busy_at = 0.0
        self.hub.flush_scheduled = False
        self.hub.router = SimpleNamespace(transit=self.transit, incoming=[])
        self.hub.changed = SimpleNamespace(is_urgent=False, sessions=[])
        self.hub.committer = SimpleNamespace(
            flush=self.flush,
            wake=lambda at_once: self.events.append("woken at once" if at_once else "woken"),
            linger=lambda: self.events.append("lingers"),
        )

    def flush(self) -> None:
        self.events.append(f"{len(self.hub.ready)} written")
        self.hub.ready.clear()

    def feed(self, now: float = 0.0) -> None:
        self.hub.ready.append("outbox")
        self.hub.after_input(now)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    monkeypatch.setattr("asyncio.get_running_loop", lambda: made)
    return made


def test_what_comes_alone_is_written_at_once(loop: Loop) -> None:
    place = Place()
    place.hub.router.incoming = ["publication"]
    place.feed(time.monotonic())
    assert place.events == ["1 written", "woken at once"]
    assert not loop.soon


def test_what_comes_close_behind_is_written_together_in_the_next_turn(loop: Loop) -> None:
    place = Place()
    place.feed(time.monotonic())
    place.hub.busy_at = now = time.monotonic()
    place.feed(now)
    place.feed(now + 0.00005)
    assert place.events == ["1 written"]
    loop.turn()
    assert place.events == ["1 written", "2 written"]
    assert not loop.soon


def test_what_comes_at_unknown_times_is_not_alone(loop: Loop) -> None:
    place = Place()
    place.feed()
    assert place.events == []
    loop.turn()
    assert place.events == ["1 written"]


def test_other_nodes_are_sent_to_when_there_is_something_to_send(loop: Loop) -> None:
    place = Place()
    place.transit.waiting = 1
    place.hub.after_input(time.monotonic())
    assert place.events == ["0 written"]


def test_what_is_urgent_is_not_kept_until_it_lingers(loop: Loop) -> None:
    place = Place()
    place.hub.changed.is_urgent = True
    place.hub.after_input()
    assert place.events == ["woken"]


def test_what_nobody_waits_for_lingers(loop: Loop) -> None:
    place = Place()
    place.hub.changed.sessions = ["session"]
    place.hub.after_input(time.monotonic())
    assert place.events == ["lingers"]
