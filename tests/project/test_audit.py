"""`make audit`: what is locked, and what becomes of the answers of an advisory service."""

import json

import pytest

from tests.project.audit import LOCKS, ROOT, Answer, Finding, audit, pins, read_answer


def test_everything_is_pinned_with_hashes() -> None:
    read = {lock: pins((ROOT / lock).read_text()) for lock in LOCKS}
    assert [loose for _, loose in read.values()] == [[], [], []]
    whole, _ = read[LOCKS[0]]
    for found, _ in read.values():
        assert found
        assert found.items() <= whole.items()


def test_what_is_loose_is_found() -> None:
    text = "# head\na==1 ; python_version > '3'\\\n    --hash=sha256:00\nb>=2 \\\n    --hash=sha256:00\n"
    assert pins(text + "c[x]==3\n") == ({"a": "1"}, ["b>=2 \\", "c[x]==3"])


KNOWN = {"id": "PYSEC-1", "fix_versions": ["2"], "aliases": ["CVE-1"]}
VULNERABLE = {
    "dependencies": [
        {
            "name": "a",
            "version": "1",
            "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"], "aliases": ["CVE-1"]}],
        },
        {"name": "b", "version": "1", "vulns": []},
        {"name": "c", "skip_reason": "not found"},
    ]
}


def test_answers_are_read() -> None:
    finding = Finding("a 1", "PYSEC-1", "2")
    assert read_answer(json.dumps(VULNERABLE)) == Answer(2, 1, [finding])
    assert str(finding) == "a 1: PYSEC-1, fixed in 2"
    assert read_answer("Traceback") is None
    assert read_answer("[]") is None


@pytest.mark.parametrize(
    ("answers", "is_fine", "text"),
    [
        ({"one": Answer(2, 0, [])}, True, "2 packages looked up (one), 0 not known there"),
        ({"one": Answer(2, 0, [Finding("a 1", "X", "")])}, False, "FOUND a 1: X, fixed in no release yet"),
        ({"one": None, "two": Answer(1, 1, [])}, True, "1 packages looked up (two), 1 not known there"),
        ({"one": None, "two": None}, True, "NOT AUDITED"),
        # pip-audit calls this "no known vulnerabilities".
        ({"one": Answer(0, 80, [])}, True, "NOT AUDITED"),
    ],
)
def test_a_finding_fails_and_silence_does_not(
    answers: dict[str, Answer | None], is_fine: bool, text: str
) -> None:
    told: list[str] = []
    assert audit(answers, answers.__getitem__, told.append) is is_fine
    assert text in "\n".join(told)
