"""Every statement has a test or a reason, the page says so, and what the tree cites is there."""

import re

import pytest

from tests.conformance.clauses import HERE, VERSIONS, known_ids, statements
from tests.conformance.table import PAGE, page, references

ROOT = HERE.parent.parent
CITED = re.compile(r"MQTT-\d+(?:\.\d+)*-\d+")
SOURCES = [
    path
    for room in ("broker", "cluster", "docs", "loadtest", "tests")
    for path in sorted((ROOT / room).rglob("*"))
    if path.suffix in (".py", ".lua", ".md") and "node_modules" not in path.parts
]


def test_every_id_is_described() -> None:
    assert [(statement.mqtt, statement.id) for statement in statements()] == known_ids()
    assert all(statement.demand and statement.binds for statement in statements())
    elsewhere = {statement.binds for statement in statements() if statement.binds.startswith("tests/")}
    assert all((ROOT / place).is_file() for place in elsewhere)


@pytest.mark.parametrize("mqtt", VERSIONS)
def test_every_id_has_a_test_or_a_reason(mqtt: str) -> None:
    """And a test of a server's statement runs on nodes."""
    found = references()
    missing = [
        statement.id
        for statement in statements()
        if statement.mqtt == mqtt
        and statement.needs_tests
        and not any(test.is_on_nodes for test in found.get((mqtt, statement.id), []))
    ]
    assert missing == []


def test_tests_name_ids_that_there_are() -> None:
    known = set(known_ids()) | {("3.1", id) for _, id in known_ids()}
    assert [key for key in references() if key not in known] == []


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_ids_that_are_cited_exist() -> None:
    """In comments and docstrings; the specification is not at hand when they are written."""
    known = {id for _, id in known_ids()}
    unknown = {
        f"{path.relative_to(ROOT)}: {id}"
        for path in SOURCES
        for id in CITED.findall(path.read_text())
        if id not in known
    }
    assert unknown == set()
