"""What the kernel and the limits allow."""

import resource
from pathlib import Path

import pytest

from broker.doctor.finding import Level
from broker.doctor.machine import check_machine, is_local
from broker.settings import load
from cluster.store.endpoint import Endpoint, parse_url

AWAY = parse_url("redis://redis.example")


def bad(root: Path, redis: Endpoint | None = AWAY, **limits: object) -> list[str]:
    """What is not well."""
    settings = load({"limits": limits, "node": {"backlog": 1000}})
    return [each.found for each in check_machine(settings, redis, root) if each.level is not Level.OK]


def write(root: Path, name: str, text: str) -> None:
    """A file of the kernel."""
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


@pytest.fixture(autouse=True)
def _as_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 20_000))
    monkeypatch.setattr("broker.doctor.machine.build_mode", lambda: "compiled")


def test_where_nothing_can_be_read_nothing_is_said(tmp_path: Path) -> None:
    assert bad(tmp_path, None) == []


def test_the_backlog_is_cut(tmp_path: Path) -> None:
    write(tmp_path, "proc/sys/net/core/somaxconn", "128")
    assert bad(tmp_path) == ["net.core.somaxconn 128 cuts node.backlog (1000)"]
    write(tmp_path, "proc/sys/net/core/somaxconn", "1000")
    assert bad(tmp_path) == []


def test_what_redis_needs_counts_where_it_runs(tmp_path: Path) -> None:
    write(tmp_path, "proc/sys/vm/overcommit_memory", "0")
    write(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")
    assert bad(tmp_path) == []
    assert len(bad(tmp_path, None)) == 2
    write(tmp_path, "proc/sys/vm/overcommit_memory", "1")
    write(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    assert bad(tmp_path, None) == []
    assert [
        is_local(parse_url(url)) for url in ("redis://127.0.0.2", "unix:///r.sock", "redis://10.0.0.1")
    ] == [
        True,
        True,
        False,
    ]


def test_files_are_enough_for_the_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bad(tmp_path, connections_maximum=19_936) == []
    assert "limits.connections_maximum (19,937)" in bad(tmp_path, connections_maximum=19_937)[0]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert bad(tmp_path) == ["at most 1,024: so many clients, less 64"]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    assert bad(tmp_path, connections_maximum=1_000_000) == []


def test_a_slow_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.doctor.machine.build_mode", lambda: "pure")
    monkeypatch.setattr("broker.doctor.machine.find_spec", lambda _: None)
    assert [each.split()[0] for each in bad(tmp_path)] == ["moorline", "asyncio:"]
