"""A forked node has the arguments, environment and output it was given, and ends as an executed one would."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.node.template import Started, Template


def _fork(template: Template, log: Path, *flags: str, **variables: str) -> Started:
    with log.open("ab") as output:
        return template.fork(["serve", *flags], dict(os.environ) | variables, output)


def test_the_exit_code_and_what_it_says(template: Template, tmp_path: Path) -> None:
    log = tmp_path / "log"
    refused = _fork(template, log, "--prefix", "{}", MOORLINE_SESSION__QUEUE_LIMIT="few")
    assert refused.wait(15.0) == 2
    assert refused.poll() == 2
    assert "MOORLINE_SESSION__QUEUE_LIMIT" in log.read_text()
    assert "--prefix" in log.read_text()
    assert "MOORLINE_SESSION__QUEUE_LIMIT" not in os.environ


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_signals(template: Template, tmp_path: Path, number: signal.Signals, code: int) -> None:
    log = tmp_path / "log"
    flags = ("--listen", "127.0.0.1:0", "--admin", "off", "--data-dir", str(tmp_path / "data"))
    node, other = _fork(template, log, *flags), _fork(template, log, "--listen", "nonsense")
    assert other.wait(15.0) == 2
    deadline = time.monotonic() + 15.0
    while "  redis " not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert node.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        node.wait(0.01)
    node.send_signal(number)
    assert node.wait(15.0) == code
    node.send_signal(signal.SIGTERM)  # nobody is there any more: nothing happens
    with pytest.raises(ProcessLookupError):
        os.kill(node.pid, 0)
