"""The short form of `make rolling`: 200 clients, one roll, one kill, one partition."""

import os
import secrets
from pathlib import Path

import pytest
import uvloop

from tests.containers.rolling import SHORT, run
from tests.tools import require_tool

CLIENTS = 200
CALM_SECONDS = 2.5


@pytest.mark.timeout(150)
def test_clients_move_once_and_nothing_is_lost(tmp_path: Path) -> None:
    seed = os.environ.get("MOORLINE_SEED") or secrets.token_hex(4)
    print(f"\nMOORLINE_SEED={seed}, {CLIENTS} clients")
    outcome = uvloop.run(run(require_tool("haproxy"), tmp_path, CLIENTS, seed, SHORT, CALM_SECONDS))
    print(outcome.text())
    assert not outcome.violations, outcome.report
    assert not outcome.problems
