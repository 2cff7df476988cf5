"""Missing programs: a skip that names them, a failure in CI."""

import sys
from pathlib import Path

import pytest

from tests.tools import require_node_package, require_tool


def test_a_program_is_found_by_its_path() -> None:
    assert Path(require_tool(sys.executable)).is_file()


def test_a_missing_program_skips_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        require_tool("no-such-program")


def test_in_ci_a_missing_program_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        require_tool("no-such-program")


def test_a_missing_node_package_skips_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception):
        require_node_package("no-such-package")
