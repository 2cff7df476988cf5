"""What is kept of a run: the same when it is read again."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from loadtest.result import Result, ResultError
from tests.loadtest.test_report import REPORT

FACTS = {"command": "moorline loadtest pairs", "machine": "this one"}


def test_the_table_has_title_figures_and_notes() -> None:
    text = Result.of("pairs", replace(REPORT, interrupted=True, unacknowledged=3), FACTS).table()
    assert text.startswith("pairs 2 -> 2, QoS 1, clean sessions, 16 B, window 20, MQTT level 4\n")
    assert "0.100 / 0.200 / 0.300 / 0.400 / 0.500 ms" in text
    assert "deliveries per CPU-second of the broker  2,000" in text
    assert "never acknowledged" in text
    assert "refused" not in text
    assert "note: interrupted" in text


def test_json_has_the_same_figures() -> None:
    line = Result.of("pairs", replace(REPORT, lost=1), FACTS).json()
    answer = orjson.loads(line)
    assert line.count(b"\n") == 1
    assert answer["scenario"] == "pairs"
    assert answer["problems"] == ["1 acknowledged messages were lost"]
    assert answer["report"]["latency_ms"]["p99_9"] == 0.4
    assert answer["report"]["broker"]["per_cpu_second"] == 2000.0
    assert answer["facts"] == FACTS


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = Result.of("pairs", REPORT, FACTS)
    (tmp_path / "a.json").write_bytes(result.json())
    assert Result.load(tmp_path / "a.json") == result


@pytest.mark.parametrize("text", ["", "{", "[]", '{"report": 1}', '{"report": {}}'])
def test_what_is_no_result_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ResultError, match=r"a\.json: no"):
        Result.load(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("part", "value"), [("rows", 1), ("rows", [["a"]]), ("rows", [1]), ("facts", []), ("title", None)]
)
def test_a_result_with_a_strange_part_is_none(part: str, value: object) -> None:
    kept = orjson.loads(Result.of("pairs", REPORT, FACTS).json())
    with pytest.raises(ResultError, match="not a result"):
        Result.parse(orjson.dumps({**kept, part: value}))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="No such file"):
        Result.load(tmp_path / "a.json")
