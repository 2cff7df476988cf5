"""The last line of a run can count the tests of an earlier one."""

import subprocess
import sys
from pathlib import Path

import broker

ROOT = Path(broker.__file__).parent.parent
TESTS = """
import pytest

def test_passes(): pass

@pytest.mark.xfail
def test_fails(): raise AssertionError

def test_is_skipped(): pytest.skip("why")
"""


def _last_line(*arguments: str) -> str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.tally",
        "-p",
        "no:cacheprovider",
        "-q",
        *arguments,
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()[-1]


def test_an_earlier_run_counts(tmp_path: Path) -> None:
    file, tally = tmp_path / "test_some.py", tmp_path / "build" / "tally"
    file.write_text(TESTS)
    assert _last_line(f"--write-tally={tally}", str(file)).startswith("1 passed, 1 skipped, 1 xfailed in")
    assert _last_line(f"--add-tally={tally}", str(file)).startswith("2 passed, 2 skipped, 2 xfailed in")
    both = [f"--add-tally={tally}"] * 2
    assert _last_line(*both, str(file)).startswith("3 passed, 3 skipped, 3 xfailed in")
