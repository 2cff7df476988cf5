"""Two devices with one Client Identifier."""

from broker.client.fights import Fights


def taken(fights: Fights, count: int, start: float = 0.0) -> list[bool]:
    """So many take-overs, one a second."""
    return [fights.note("c", start + number) for number in range(count)]


def test_a_client_that_reconnects_now_and_then_never_waits() -> None:
    fights = Fights(3)
    for minute in range(10):
        assert not any(taken(fights, 3, minute * 61.0))
        assert fights.delay("c", minute * 61.0 + 3) == 0.0
    assert fights.delayed == 0


def test_beyond_the_limit_each_one_waits_longer() -> None:
    fights = Fights(3)
    assert taken(fights, 4) == [False, False, False, True]
    delays = []
    for number in range(8):
        delays.append(fights.delay("c", 4.0 + number))
        fights.note("c", 4.0 + number)
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert fights.delayed == 8
    assert len(fights) == 1


def test_how_often_lately() -> None:
    fights = Fights(3)
    taken(fights, 5)
    assert [fights.count("c", now) for now in (4.0, 61.0, 63.0, 90.0)] == [5, 4, 2, 0]
    assert fights.count("other", 4.0) == 0


def test_a_minute_of_peace_ends_it() -> None:
    fights = Fights(3)
    taken(fights, 10)
    assert fights.delay("c", 10.0) > 0
    assert fights.delay("c", 70.0) == 0.0
    assert len(fights) == 0


def test_others_do_not_wait() -> None:
    fights = Fights(3)
    taken(fights, 10)
    assert fights.delay("other", 10.0) == 0.0


def test_no_limit() -> None:
    fights = Fights(0)
    assert not any(taken(fights, 100))
    assert fights.delay("c", 100.0) == 0.0


def test_it_remembers_so_many_clients_only() -> None:
    fights = Fights(1)
    for _ in range(2):
        for number in range(20_000):
            fights.note(f"c{number}", 1.0)
    assert fights.delay("c0", 2.0) == 0.0
    taken(fights, 3)
    assert fights.delay("c", 2.0) > 0


def test_another_limit_holds_from_then_on() -> None:
    fights = Fights(1)
    fights.note("a", 0.0)
    fights.note("a", 0.0)
    fights.change(3)
    assert fights.delay("a", 0.0) == 0.0
    assert [fights.note("a", 1.0) for _ in range(4)] == [False, False, False, True]
    fights.change(0)
    assert not any(fights.note("a", 2.0) for _ in range(9))
