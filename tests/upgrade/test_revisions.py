"""The revision of the function library is raised whenever its text changes."""

import hashlib
from pathlib import Path

import pytest

from cluster.store.library import LIBRARY_REVISION, OLDEST_CALLER, library_text
from tests.upgrade.release import Release, previous_release

pytestmark = pytest.mark.timeout(120)  # the packages of the release before this one may have to be installed

REVISIONS = Path(__file__).with_name("revisions")


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _previous_revision(previous: Release) -> int:
    """Of the time before they were counted: 1."""
    return int(
        previous.evaluate("import cluster.store.library as l; print(getattr(l, 'LIBRARY_REVISION', 1))")
    )


def test_the_text_is_that_of_its_revision() -> None:
    wanted = f"{LIBRARY_REVISION} {hashlib.sha256(library_text().encode()).hexdigest()}"
    assert _lines(REVISIONS.read_text())[-1] == wanted, (
        "a text in cluster/store/lua/ has changed, or the revision alone: raise LIBRARY_REVISION by one, and "
        f"append its line to {REVISIONS.name}; for this text and revision that is\n{wanted}"
    )


def test_each_revision_is_another_text() -> None:
    lines = [line.split() for line in _lines(REVISIONS.read_text())]
    assert [int(revision) for revision, _ in lines] == list(range(1, len(lines) + 1))
    assert len({digest for _, digest in lines}) == len(lines)


def test_what_has_been_released_stays() -> None:
    """Nobody has changed a text and its line together."""
    previous = previous_release()
    revisions = previous.tree / "tests/upgrade/revisions"
    released = _lines(revisions.read_text()) if revisions.exists() else []
    assert _lines(REVISIONS.read_text())[: len(released)] == released
    text = previous.evaluate("import cluster.store.library as l; print(l.library_source())")
    if library_text().strip() not in text:
        assert _previous_revision(previous) < LIBRARY_REVISION


def test_nodes_of_the_release_before_are_served() -> None:
    assert OLDEST_CALLER <= _previous_revision(previous_release()) <= LIBRARY_REVISION
