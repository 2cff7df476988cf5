"""Which filters the store must be told of, and which it may forget."""

from broker.routing.interest import Interest


def test_the_first_subscription_is_told() -> None:
    interest = Interest()
    assert interest.add("a")
    assert interest.add("a")  # not confirmed yet: it may not count
    interest.confirm("a")
    assert not interest.add("a")
    assert len(interest) == 1


def test_the_last_one_withdraws_it() -> None:
    interest = Interest()
    interest.add("a")
    interest.confirm("a")
    interest.add("a")
    assert not interest.remove("a")
    assert interest.remove("a")
    assert len(interest) == 0
    assert interest.add("a")


def test_what_was_never_added_is_not_withdrawn() -> None:
    interest = Interest()
    assert not interest.remove("a")
    assert len(interest) == 0


def test_a_confirmation_that_comes_too_late_counts_for_nothing() -> None:
    interest = Interest()
    interest.add("a")
    interest.remove("a")
    interest.confirm("a")
    assert interest.add("a")
