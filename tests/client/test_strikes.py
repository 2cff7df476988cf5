"""Counting what clients do too often."""

from broker.client.strikes import KEYS_MAXIMUM, Strikes


def test_one_too_many_within_the_window() -> None:
    offences = Strikes(3, 60)
    assert [offences.note("a", now) for now in (0, 20, 40, 60, 60)] == [False, False, False, True, False]
    assert offences.excess("a", 60) == 2
    assert not any(offences.note("b", now) for now in range(0, 1000, 25))


def test_after_the_window_it_begins_anew() -> None:
    offences = Strikes(1, 60)
    assert [offences.note("a", now) for now in (0, 61, 62, 123)] == [False, False, True, False]
    assert offences.excess("a", 200) == 0


def test_what_was_dealt_with_begins_anew() -> None:
    offences = Strikes(1, 60)
    offences.note("a", 0)
    offences.forget("a")
    offences.forget("b")
    assert not offences.note("a", 1)


def test_a_limit_of_nothing_is_none() -> None:
    offences = Strikes(0, 60)
    assert not any(offences.note("a", 0) for _ in range(100))
    assert len(offences) == 0


def test_memory_is_bounded_and_the_busy_are_kept() -> None:
    offences = Strikes(2, 60)
    offences.note("busy", 0)
    for number in range(KEYS_MAXIMUM - 1):
        offences.note(str(number), 0)
    offences.note("busy", 1)
    for number in range(100):
        offences.note(f"more {number}", 1)
    assert len(offences) == KEYS_MAXIMUM
    assert offences.note("busy", 2)
    assert not offences.note("0", 2), "forgotten"


def test_another_limit_counts_from_nothing() -> None:
    strikes = Strikes(5, 10.0)
    for _ in range(4):
        strikes.note("a", 0.0)
    strikes.change(2, 1.0)
    assert [strikes.note("a", 0.5) for _ in range(3)] == [False, False, True]
    assert not strikes.note("a", 3.0)
