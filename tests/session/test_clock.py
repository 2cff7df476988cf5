"""The clock of the core stands still until the shell moves it."""

from broker.session import Clock


def test_it_shows_what_it_was_told() -> None:
    clock = Clock()
    assert clock.now_ms == 0
    clock.now_ms = 5
    assert repr(clock) == "Clock(5)"
    assert Clock(7).now_ms == 7
