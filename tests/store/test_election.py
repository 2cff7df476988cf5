"""Which of the sentinels' answers counts."""

from cluster.store.election import GO_BACK_SECONDS, Answer, Election

OLD = Answer("10.0.0.1", 6379, 4)
NEW = Answer("10.0.0.2", 6379, 5)


def test_nobody_has_answered_yet() -> None:
    assert Election(3).count([], 0.0) is None


def test_one_sentinel_is_enough_if_no_other_answers() -> None:
    assert Election(3).count([OLD], 0.0) == OLD


def test_the_newest_counts_also_if_one_tells_it() -> None:
    assert Election(3).count([OLD, NEW, OLD], 0.0) == NEW


def test_stays_while_nobody_answers() -> None:
    election = Election(3)
    election.count([OLD, OLD, OLD], 0.0)
    assert election.count([], 1.0) == OLD


def test_who_knows_the_newest_is_away_for_a_while() -> None:
    election = Election(3)
    election.count([OLD, NEW, OLD], 0.0)
    assert election.count([OLD, OLD], 1.0) == NEW
    assert election.count([OLD, OLD], 1.0 + GO_BACK_SECONDS - 0.1) == NEW
    assert election.count([OLD, NEW], 1.0 + GO_BACK_SECONDS) == NEW
    assert election.count([OLD, OLD], 2.0 + GO_BACK_SECONDS) == NEW  # counted from the start


def test_most_keep_to_the_old_one_for_good() -> None:
    election = Election(3)
    election.count([OLD, NEW, OLD], 0.0)
    election.count([OLD, OLD], 1.0)
    assert election.count([OLD, OLD], 1.0 + GO_BACK_SECONDS) == OLD


def test_a_minority_never_brings_the_old_one_back() -> None:
    election = Election(3)
    election.count([NEW, NEW, NEW], 0.0)
    for second in range(100):
        assert election.count([OLD], float(second)) == NEW


def test_sentinels_that_were_set_up_anew_count_after_a_while() -> None:
    election = Election(3)
    election.count([NEW, NEW, NEW], 0.0)
    anew = Answer("10.0.0.9", 6379, 0)
    assert election.count([anew, anew, anew], 1.0) == NEW
    assert election.count([anew, anew, anew], 1.0 + GO_BACK_SECONDS) == anew


def test_two_ways_to_write_one_address_are_no_switch() -> None:
    by_name = Answer("redis-0", 6379, 4)
    election = Election(3)
    assert election.count([OLD, OLD, by_name], 0.0) == OLD
    assert election.count([OLD, by_name, by_name], 1.0) == OLD
    assert election.count([by_name, by_name], 2.0) == by_name


def test_a_fail_over_that_came_back_to_the_same_server() -> None:
    election = Election(3)
    election.count([OLD], 0.0)
    assert election.count([Answer(OLD.host, OLD.port, 6)], 1.0) == Answer(OLD.host, OLD.port, 6)
