"""Which settings may change while a node runs."""

from pathlib import Path

from broker.adopting import ADOPTED
from broker.settings import load, setting_names
from broker.settings.live import LIVE, changed, value_of, with_live


def test_each_live_setting_is_one_and_somebody_adopts_it() -> None:
    assert set(setting_names()) >= LIVE
    assert ADOPTED == LIVE


def test_what_differs_and_what_of_it_is_taken(tmp_path: Path) -> None:
    before = load({"listeners": {"web": {"address": "ws://127.0.0.1:1"}}})
    flags: dict[str, dict[str, object]] = {
        "listeners": {"web": {"address": "ws://127.0.0.1:2"}, "more": {"address": "ws://127.0.0.1:3"}},
        "session": {"queue_limit": 5},
        "node": {"backlog": 5},
    }
    after = load(flags)
    assert changed(before, before) == []
    assert changed(before, after) == [
        "node.backlog",
        "session.queue_limit",
        "listeners.more",
        "listeners.web",
    ]
    taken = with_live(before, after)
    assert changed(before, taken) == ["session.queue_limit"]
    assert value_of(taken, "session.queue_limit") == 5
