"""How much memory there is, in both versions of control groups."""

import os
from pathlib import Path

import pytest

from broker.observability.memory import cgroup_mark, resident_bytes

MIB = 1 << 20
STAT_2 = f"anon 1\ninactive_file {10 * MIB}\nactive_file {20 * MIB}\n"
STAT_1 = f"cache 1\ninactive_file 5\ntotal_inactive_file {10 * MIB}\ntotal_active_file {20 * MIB}\n"


def _write(root: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}")


def test_of_this_process() -> None:
    assert 10 * MIB < resident_bytes() < 10_000 * MIB


def test_pages(tmp_path: Path) -> None:
    _write(tmp_path, {"proc/self/statm": "900 300 7 1 0 5 0\n"})
    assert resident_bytes(tmp_path) == 300 * os.sysconf("SC_PAGE_SIZE")


def test_version_2(tmp_path: Path) -> None:
    """The tightest on the way to the root; what is used of that one."""
    group = "sys/fs/cgroup/pods/one"
    _write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pods/one/inner\n",
            f"{group}/inner/memory.max": "max\n",
            f"{group}/memory.max": 200 * MIB,
            f"{group}/memory.current": 130 * MIB,
            f"{group}/memory.stat": STAT_2,
            "sys/fs/cgroup/pods/memory.max": 900 * MIB,
        },
    )
    mark = cgroup_mark(0.5, tmp_path)
    assert mark is not None
    assert mark.limit_bytes == 100 * MIB
    assert mark.used() == 100 * MIB


def test_version_1_in_a_container(tmp_path: Path) -> None:
    """Whose path is not to be seen inside."""
    group = "sys/fs/cgroup/memory"
    _write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/docker/x\n",
            f"{group}/memory.limit_in_bytes": 200 * MIB,
            f"{group}/memory.usage_in_bytes": 130 * MIB,
            f"{group}/memory.stat": STAT_1,
        },
    )
    mark = cgroup_mark(1.0, tmp_path)
    assert mark is not None
    assert mark.limit_bytes == 200 * MIB
    assert mark.used() == 100 * MIB


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "0::/\n"},
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"},
        {
            "proc/self/cgroup": "4:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 9_223_372_036_854_771_712,
        },
    ],
)
def test_no_limit(tmp_path: Path, files: dict[str, object]) -> None:
    _write(tmp_path, files)
    assert cgroup_mark(0.85, tmp_path) is None
