"""Processor time and memory from /proc."""

import os
import subprocess
import sys
import time

import pytest

from loadtest.cost import CostError, Pids, Usage, measure_usage

_CHILD = "import time\nwhile time.process_time() < 0.3: pass\ninput()"
_PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE)
print(child.pid, flush=True)
input()
child.communicate(b"\\n")
"""


def test_children_count_too() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        deadline = time.monotonic() + 10
        while (usage := measure_usage(Pids((parent.pid,)))).cpu_seconds[child] < 0.25:
            assert time.monotonic() < deadline
        assert set(usage.cpu_seconds) == {parent.pid, child}
        assert usage.rss_bytes > 2 * 2**20
        parent.communicate("\n")


def test_a_process_that_started_in_between_counts_from_its_start() -> None:
    before = Usage({1: 5.0, 3: 9.0})
    assert Usage({1: 7.5, 2: 1.0}).cpu_seconds_since(before) == 3.5


def test_a_missing_process_is_an_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
        with pytest.raises(CostError, match=f"no such process: {gone.pid}"):
            measure_usage(Pids((os.getpid(), gone.pid)))


def test_no_process_costs_nothing() -> None:
    assert measure_usage(Pids()) == Usage()
