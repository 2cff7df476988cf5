"""A session is on the list of changed ones once, however often it asks."""

from broker.session import Changes, StoredSession


def test_it_lists_itself_once() -> None:
    changed = Changes()
    stored = StoredSession("client", 7, 3, changed)
    assert (stored.client_id, stored.bucket, stored.epoch) == ("client", 7, 3)
    stored.mark_changed()
    stored.mark_changed()
    assert changed.sessions == [stored]


def test_it_can_be_listed_again_when_it_was_taken_off() -> None:
    changed = Changes()
    stored = StoredSession("client", 7, 3, changed)
    stored.mark_changed()
    assert changed.take() == [stored]
    assert not changed.sessions
    stored.mark_changed()
    assert changed.sessions == [stored]


def test_what_is_settled_is_not_urgent_but_what_follows_may_be() -> None:
    changed = Changes()
    stored = StoredSession("client", 7, 3, changed)
    seen = []
    for mark in (stored.mark_settled, stored.mark_settled, stored.mark_changed, stored.mark_settled):
        mark()
        seen.append(changed.is_urgent)
    assert seen == [False, False, True, True]
    assert changed.take() == [stored]


def test_what_is_settled_may_be_hastened() -> None:
    changed = Changes()
    changed.hasten()
    assert not changed.is_urgent
    stored = StoredSession("client", 7, 3, changed)
    stored.mark_settled()
    waits = changed.is_urgent
    changed.hasten()
    assert (waits, changed.is_urgent) == (False, True)
