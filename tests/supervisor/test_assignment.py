"""What parent and worker tell each other arrives whole."""

from pathlib import Path

import pytest

from broker.flags import Sources
from broker.settings import load
from broker.supervisor.assignment import Assignment, Report, read_assignment, read_report


def test_an_assignment_arrives_whole() -> None:
    settings = load(
        {
            "node": {
                "listen": ["127.0.0.1:1", "[::1]:2"],
                "admin": "off",
                "data_dir": "/d\u00e4ta",
                "workers": 1,
            },
            "redis": {"url": "redis://user:p%40ss@host/3", "away_limit_seconds": 31.5},
            "session": {"queue_policy": "drop_new"},
        }
    )
    sources = Sources({"node": {"data_dir": Path("/d\u00e4ta")}}, Path("/etc/moorline.toml"))
    read = read_assignment(Assignment(settings, Path("/tmp/x/1"), 42, load(), sources).to_bytes())
    assert read.settings.model_dump() == settings.model_dump()
    assert (read.admin, read.parent) == (Path("/tmp/x/1"), 42)
    assert read.given.model_dump() == load().model_dump()
    assert read.sources == Sources({"node": {"data_dir": "/d\u00e4ta"}}, Path("/etc/moorline.toml"))


def test_only_what_was_handed_over_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Assignment(load(), Path("/tmp/x/1"), 42, load(), Sources({})).to_bytes()
    monkeypatch.setenv("MOORLINE_SESSION__QUEUE_LIMIT", "7")
    assert read_assignment(given).settings.session.queue_limit == 10_000


@pytest.mark.parametrize(
    "given", [b"", b"{", b"[]", b"{}", b'{"settings": {}, "admin": "/x", "parent": 1}'], ids=repr
)
def test_anything_else_is_refused(given: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_assignment(given)


def test_reports() -> None:
    assert Report().is_up
    refusal = Report('several\nlines, a "quote"')
    assert not refusal.is_up
    assert "\n" not in refusal.to_line()
    for report in (Report(), refusal):
        assert read_report(report.to_line().encode()) == report


@pytest.mark.parametrize("line", [b"", b"some library's words", b"[1]", b"{}", b"1"], ids=repr)
def test_other_lines_are_no_reports(line: bytes) -> None:
    assert read_report(line) is None
