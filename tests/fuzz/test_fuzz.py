"""A short run of the fuzzer: that it starts, is led by coverage, and finds nothing. `make fuzz` runs long."""

import platform
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.tools import missing

_RUNS = 8000


@pytest.mark.timeout(120)
def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    if find_spec("atheris") is None:
        if platform.machine() != "x86_64" or sys.version_info >= (3, 14):
            pytest.skip("there is no wheel of atheris for this machine")
        missing("atheris is not installed")
    options = ["--runs", str(_RUNS), "--seed", "1", "--directory", str(tmp_path)]
    command = [sys.executable, "-m", "tests.fuzz", *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    covered = re.findall(r" cov: (\d+) ", ended.stderr)
    assert covered, ended.stderr
    assert int(covered[-1]) > 500, "the broker's packages are not instrumented"
    assert [file.name for file in tmp_path.iterdir()] == ["corpus"]
