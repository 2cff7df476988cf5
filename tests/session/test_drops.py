"""Every drop is counted; dead letters are bounded."""

from broker.session import Drops
from broker.session.drops import DROPPED_EXPIRED, DROPPED_QUEUE_FULL


def test_drops_are_counted_by_reason() -> None:
    drops = Drops()
    drops.add(1, "a", "t", DROPPED_EXPIRED)
    drops.add(1, "a", "t", DROPPED_EXPIRED)
    drops.add(2, "b", "u", DROPPED_QUEUE_FULL)
    assert drops.counts == {"expired": 2, "queue_full": 1}
    assert repr(drops) == "Drops({'expired': 2, 'queue_full': 1})"


def test_letters_are_taken_once() -> None:
    drops = Drops()
    drops.add(1, "a", "t", DROPPED_EXPIRED)
    (letter,) = drops.take_letters()
    assert (letter.bucket, letter.client_id, letter.topic, letter.reason) == (1, "a", "t", "expired")
    assert repr(letter) == "Drop('a', 't', expired)"
    assert drops.take_letters() == []


def test_letters_beyond_the_limit_are_only_counted() -> None:
    drops = Drops(letters_limit=2)
    for _ in range(5):
        drops.add(1, "a", "t", DROPPED_EXPIRED)
    assert len(drops.take_letters()) == 2
    assert drops.unwritten == 3
    assert drops.counts == {"expired": 5}
    drops.add(1, "a", "t", DROPPED_EXPIRED)
    assert len(drops.take_letters()) == 1
