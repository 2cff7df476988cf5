"""Which fields the store must be told of, and which it may forget."""

from broker.routing.interest import Interest


def test_the_first_subscription_is_told() -> None:
    interest = Interest()
    assert interest.add("1:a")
    assert interest.add("1:a")  # not confirmed yet: it may not count
    assert not interest.is_stored("1:a")
    interest.confirm("1:a")
    assert interest.is_stored("1:a")
    assert not interest.add("1:a")
    assert len(interest) == 1


def test_what_nobody_wants_is_withdrawn_at_the_second_look() -> None:
    interest = Interest()
    interest.add("1:a")
    interest.confirm("1:a")
    interest.add("1:a")
    interest.remove("1:a")
    assert [interest.take_unused() for _ in range(3)] == [[], [], []]
    interest.remove("1:a")
    assert len(interest) == 0
    assert interest.take_unused() == []
    assert interest.take_unused() == ["1:a"]
    assert interest.take_unused() == []
    assert interest.add("1:a")  # the store has to be told again


def test_who_comes_back_in_time_need_not_tell() -> None:
    interest = Interest()
    interest.add("1:a")
    interest.confirm("1:a")
    interest.remove("1:a")
    assert interest.take_unused() == []
    assert not interest.add("1:a")
    assert interest.take_unused() == []
    interest.remove("1:a")
    assert [interest.take_unused() for _ in range(2)] == [[], ["1:a"]]


def test_what_is_not_confirmed_is_not_withdrawn() -> None:
    """The request is under way: to forget the field now would be overtaken by it."""
    interest = Interest()
    interest.add("1:a")
    interest.remove("1:a")
    assert [interest.take_unused() for _ in range(3)] == [[], [], []]
    interest.confirm("1:a")
    assert [interest.take_unused() for _ in range(2)] == [[], ["1:a"]]
