"""The faults themselves, without a broker."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.redis.faults import (
    Scene,
    SlowDisk,
    cut_from_nodes,
    cut_from_replicas,
    fill_memory,
    kill_primary,
    pause_primary,
    terminate_primary,
)
from tests.redis.fsync import kill_while_disk_hangs
from tests.redis.server import HOST, Server
from tests.redis.topology import Sync, Topology, sentinel, standalone

_SHORT_SECONDS = 0.3


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    """A primary, a replica and sentinels which don't fail over within a test."""
    directory = Path(tmp_path_factory.mktemp("watched"))
    with sentinel(directory, partitions=True, down_after_seconds=60) as topology:
        yield topology


def _answers(port: int) -> bool:
    """Whether somebody on this machine, not past the network, gets an answer."""
    with _impatient(port) as client, contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False


def _impatient(port: int) -> redis.Redis:
    """A client that gives up at once."""
    return redis.Redis(HOST, port, socket_timeout=_SHORT_SECONDS, retry=Retry(NoBackoff(), 0))


def _striking(strike: Thread) -> Thread:
    strike.start()
    return strike


def _lag(primary: Server, replica: Server) -> bool:
    """Whether the replica lacks what is written now."""
    with primary.client() as client:
        client.incr("lag")
        return client.wait(1, 200) == 0 and replica.is_running()


def test_cut_from_nodes(watched: Topology) -> None:
    primary, [replica] = watched.primary(), watched.replicas()
    scene = Scene(watched, hold_seconds=1.5)
    strike = _striking(Thread(target=cut_from_nodes, args=(scene,)))
    while _answers(primary.announced):
        assert strike.is_alive(), "never cut"
    assert not _lag(primary, replica)
    strike.join()
    assert _answers(primary.announced)


def test_cut_from_replicas(watched: Topology) -> None:
    primary, [replica] = watched.primary(), watched.replicas()
    strike = _striking(Thread(target=cut_from_replicas, args=(Scene(watched, hold_seconds=1.5),)))
    while not _lag(primary, replica):
        assert strike.is_alive(), "never cut"
    assert _answers(primary.announced)
    strike.join()
    watched.wait_for_replicas()
    assert not _lag(primary, replica)


def test_memory_is_full_for_a_while(watched: Topology) -> None:
    primary = watched.primary()
    strike = _striking(Thread(target=fill_memory, args=(Scene(watched, hold_seconds=1.0),)))
    with primary.client() as client:
        refused = False
        while not refused and strike.is_alive():
            refused = not _pushed(client)
        assert refused
        strike.join()
        assert client.rpush("full", b"x")


def _pushed(client: redis.Redis) -> bool:
    """Whether there was room for some more."""
    try:
        client.rpush("full", b"x" * 1_000)
    except redis.exceptions.OutOfMemoryError:
        return False
    return True


@pytest.mark.parametrize("strike", [kill_primary, terminate_primary, pause_primary])
def test_server_goes_on(tmp_path: Path, strike: Callable[[Scene], None]) -> None:
    with standalone(tmp_path, appendfsync="no") as topology:
        with topology.client() as client:
            client.set("key", "kept")
        before = topology.primary().pid
        strike(Scene(topology, hold_seconds=0.1))
        with topology.client() as client:
            assert client.get("key") == "kept"
        assert (topology.primary().pid == before) is (strike is pause_primary)


def test_writes_hang_with_the_disk(tmp_path: Path) -> None:
    disk = SlowDisk(tmp_path)
    (tmp_path / "server").mkdir()
    with standalone(tmp_path / "server", environment=disk.environment) as topology:
        server = topology.primary()
        with (
            disk.hanging(server),
            _impatient(server.port) as client,
            pytest.raises(redis.TimeoutError),
        ):
            client.set("key", "value")
        with server.client() as client:
            assert client.get("key") == "value"


@pytest.mark.parametrize(("appendfsync", "is_lossy"), [("everysec", True), ("no", False), ("always", False)])
def test_kill_while_an_fsync_is_under_way(tmp_path: Path, appendfsync: Sync, is_lossy: bool) -> None:
    """What the architecture says in section 15."""
    loss = kill_while_disk_hangs(tmp_path, "redis", appendfsync)
    assert loss.answered > 0
    assert (loss.lost > 0) is is_lossy
