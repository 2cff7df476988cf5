"""A session is on the list of changed ones once, however often it asks."""

from broker.session import StoredSession


def test_it_lists_itself_once() -> None:
    changed: list[StoredSession] = []
    stored = StoredSession("client", 7, 3, changed)
    assert (stored.client_id, stored.bucket, stored.epoch) == ("client", 7, 3)
    stored.mark_changed()
    stored.mark_changed()
    assert changed == [stored]


def test_it_can_be_listed_again_when_it_was_taken_off() -> None:
    changed: list[StoredSession] = []
    stored = StoredSession("client", 7, 3, changed)
    stored.mark_changed()
    changed.clear()
    stored.is_listed = False
    stored.mark_changed()
    assert changed == [stored]
