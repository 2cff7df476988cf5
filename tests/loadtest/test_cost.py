"""Processor time and memory from /proc."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtest.cost import CostError, Pids, Usage, glance_at_usage, measure_usage

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


def test_redis_is_told_apart_by_its_name_or_because_it_was_named(tmp_path: Path) -> None:
    server = tmp_path / "valkey-server"
    server.symlink_to("/bin/sleep")
    idle = measure_usage(Pids.of([os.getpid()]))  # other tests in this process have their servers
    assert idle is not None
    known = set(idle.redis.cpu_seconds) if idle.redis is not None else set()
    with subprocess.Popen([server, "10"]) as redis, subprocess.Popen(["/bin/sleep", "10"]) as other:
        pids = (os.getpid(), redis.pid, other.pid)
        for measure in (measure_usage, glance_at_usage):
            usage = measure(Pids.of(pids))
            assert usage is not None
            assert usage.redis is not None
            assert set(usage.redis.cpu_seconds) == {redis.pid} | known
            assert other.pid in usage.broker.cpu_seconds
            assert os.getpid() in usage.broker.cpu_seconds
            assert redis.pid not in usage.broker.cpu_seconds
            assert usage.broker.rss_bytes + usage.redis.rss_bytes == usage.rss_bytes
            named = measure(Pids.of([os.getpid()], [other.pid]))
            assert named is not None
            assert named.redis is not None
            assert set(named.redis.cpu_seconds) == {redis.pid, other.pid} | known  # the one is our child
        redis.kill()
        other.kill()


def test_a_glance_sees_children_and_no_missing_process() -> None:
    with subprocess.Popen(["/bin/sleep", "10"]) as child:
        glance = glance_at_usage(Pids.of([os.getpid()]))
        assert glance is not None
        assert {os.getpid(), child.pid} <= set(glance.cpu_seconds)
        alone = glance_at_usage(Pids.of([child.pid]))
        assert alone is not None
        assert alone.redis is None
        child.kill()
    assert glance_at_usage(Pids.of([os.getpid(), child.pid])) is None


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
