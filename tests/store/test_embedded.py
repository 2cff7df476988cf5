"""The private server: it is there with its data whatever happened before, and never outlives its node."""

import asyncio
import fcntl
import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import psutil
import pytest

from cluster.store.data_directory import SOCKET_PATH_MAXIMUM, DataDirectory
from cluster.store.embedded import PrivateRedis
from cluster.store.errors import DataDirInUse, DataDirUnusable, ServerFailed, ServerNotFound
from cluster.store.server_binary import bundled_binary, find_server_binary
from tests.store.servers import KINDS, LOOPS, binary_of, connected

pytestmark = pytest.mark.anyio

NODE = """
import sys, uvloop, anyio
from pathlib import Path
from cluster.store.embedded import PrivateRedis

async def main():
    async with PrivateRedis(Path(sys.argv[1])) as server:
        print(server.pid, flush=True)
        await anyio.sleep(60)

uvloop.run(main())
"""


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(params=KINDS)
def binary(request: pytest.FixtureRequest) -> Path:
    return binary_of(request.param)


async def write(url: str, key: str, value: str) -> None:
    async with connected(url) as connection:
        assert await connection.ask_one("SET", key, value) == b"OK"


async def read(url: str, key: str) -> object:
    async with connected(url) as connection:
        return await connection.ask_one("GET", key)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - what other processes do makes no event here
            await anyio.sleep(0.01)


def has_restarted(server: PrivateRedis, times: int) -> Callable[[], bool]:
    return lambda: server.restarts == times and server.pid != 0


async def until_dead(pid: int) -> None:
    """Waits until this process, no child of ours, is gone (or is a zombie, which nobody here may collect)."""
    await until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


async def test_data_is_there_after_a_restart(binary: Path, tmp_path: Path) -> None:
    data = tmp_path / "not" / "there yet"
    async with PrivateRedis(data, binary=binary) as server:
        await write(server.url, "k", "kept")
        first = server.pid
    await until_dead(first)
    assert server.url == ""
    assert not (data / "redis.sock").exists()
    async with PrivateRedis(data, binary=binary, is_fsynced=True) as server:
        assert await read(server.url, "k") == b"kept"
        assert server.pid != first
        async with connected(server.url) as connection:
            found = await connection.ask_one("CONFIG", "GET", "appendfsync")
            assert found == [b"appendfsync", b"always"]


async def test_is_configured_for_us(binary: Path, tmp_path: Path) -> None:
    async with PrivateRedis(tmp_path, binary=binary) as server, connected(server.url) as connection:
        for name, value in {
            "port": b"0",
            "appendonly": b"yes",
            "appendfsync": b"everysec",
            "save": b"",
            "maxmemory-policy": b"noeviction",
            "stream-node-max-bytes": b"256",
        }.items():
            assert await connection.ask_one("CONFIG", "GET", name) == [name.encode(), value]
        assert stat.S_IMODE((tmp_path / "redis.sock").stat().st_mode) == 0o700


async def test_dead_server_is_started_again(
    binary: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with PrivateRedis(tmp_path, binary=binary) as server:
        for restarts in (1, 2):
            await write(server.url, f"k{restarts}", "kept")
            os.kill(server.pid, signal.SIGKILL)
            await until(has_restarted(server, restarts))
        assert await read(server.url, "k1") == b"kept"
        assert await read(server.url, "k2") == b"kept"
    lines = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert lines == ["the private Redis ended (signal SIGKILL): starting it again"] * 2


async def test_server_that_can_not_start_again_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link = tmp_path / "server"
    link.symlink_to(binary_of("valkey"))
    async with PrivateRedis(tmp_path / "data", binary=link) as server:
        link.rename(tmp_path / "away")
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: "does not start" in caplog.text)
        (tmp_path / "away").rename(link)
        await until(lambda: server.pid != 0)
        assert await read(server.url, "k") is None


async def test_body_keeps_its_exception(tmp_path: Path) -> None:
    server = PrivateRedis(tmp_path)
    pids: list[int] = []

    async def fail() -> None:
        async with server:
            pids.append(server.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    await until_dead(*pids)


async def test_cancelled_node_stops_its_server(tmp_path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with PrivateRedis(tmp_path) as server:
            pid = server.pid
            await write(server.url, "k", "kept")
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    await until_dead(pid)
    async with PrivateRedis(tmp_path) as server:
        assert await read(server.url, "k") == b"kept"


async def test_server_that_does_not_stop_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with PrivateRedis(tmp_path, stop_timeout_seconds=0.2) as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)
    await until_dead(pid)
    assert "did not end within 0.2 s" in caplog.text


async def test_killed_node_takes_its_server_along(tmp_path: Path) -> None:
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NODE, str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert node.stdout is not None
    pid = int(await node.stdout.readline())
    await write(f"unix://{tmp_path}/redis.sock", "k", "kept")
    node.kill()
    await node.wait()
    if sys.platform == "linux":
        await until_dead(pid)
    async with PrivateRedis(tmp_path) as server:
        assert await read(server.url, "k") == b"kept"


async def test_server_that_outlived_its_node_is_ended_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stopped server can't follow the signal of its parent's death: it is found by its lock, and killed."""
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NODE, str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert node.stdout is not None
    pid = int(await node.stdout.readline())
    await write(f"unix://{tmp_path}/redis.sock", "k", "kept")
    os.kill(pid, signal.SIGSTOP)
    node.kill()
    await node.wait()
    async with PrivateRedis(tmp_path, stop_timeout_seconds=0.2) as server:
        assert server.pid != pid
        assert await read(server.url, "k") == b"kept"
    assert "an earlier node had left" in caplog.text
    await until_dead(pid)


async def test_directory_has_one_node(tmp_path: Path) -> None:
    async with PrivateRedis(tmp_path):
        with pytest.raises(DataDirInUse, match=rf"in use by another node \(process {os.getpid()}\)"):
            async with PrivateRedis(tmp_path):
                pass
    async with PrivateRedis(tmp_path):
        pass


async def test_lock_that_nobody_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.store.data_directory._KILL_TIMEOUT_SECONDS", 0.1)
    lock = os.open(tmp_path / "server.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(DataDirInUse, match=r"does not end \(process \?\)"):
            async with PrivateRedis(tmp_path, stop_timeout_seconds=0.1):
                pass
    finally:
        os.close(lock)
    async with PrivateRedis(tmp_path) as server:
        assert repr(server) == f"<PrivateRedis {server.url} pid={server.pid} restarts=0>"


async def test_path_too_long_for_a_socket(tmp_path: Path) -> None:
    data = tmp_path / ("d" * 120)
    async with PrivateRedis(data) as server:
        path = Path(server.url.removeprefix("unix://"))
        assert len(os.fsencode(path)) <= SOCKET_PATH_MAXIMUM
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert await read(server.url, "k") is None
        assert (data / "appendonlydir").is_dir()
    assert not path.parent.exists()


async def test_directory_for_the_socket_must_be_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = tmp_path / ("d" * 120)
    with DataDirectory(data) as directory:
        shared = directory.socket.parent
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    with pytest.raises(DataDirUnusable, match="belongs to somebody else"):
        DataDirectory(data)
    shared.chmod(0o700)
    with DataDirectory(data):
        pass


async def test_longest_path_that_fits_is_used_as_it_is(tmp_path: Path) -> None:
    room = SOCKET_PATH_MAXIMUM - len(os.fsencode(tmp_path)) - len("//redis.sock")
    data = tmp_path / ("d" * room)
    async with PrivateRedis(data) as server:
        assert server.url == f"unix://{data}/redis.sock"
        assert await read(server.url, "k") is None


async def test_path_with_special_characters(tmp_path: Path) -> None:
    async with PrivateRedis(tmp_path / 'a b%20?#"ü') as server:
        await write(server.url, "k", "kept")
        assert await read(server.url, "k") == b"kept"


@pytest.mark.parametrize("path", ["file", "file/below", "/proc/nowhere/data"])
async def test_directory_that_can_not_be_made(path: str, tmp_path: Path) -> None:
    await anyio.Path(tmp_path / "file").write_text("")
    with pytest.raises(DataDirUnusable, match=r"can't be used"):
        async with PrivateRedis(tmp_path / path):
            pass


def test_directory_that_can_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may write everywhere
    try:
        with pytest.raises(DataDirUnusable, match="Permission denied"):
            DataDirectory(tmp_path)
    finally:
        os.seteuid(user)


def damage(data: Path) -> None:
    (log,) = (data / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"*3\r\nrubbish" + log.read_bytes())


async def test_damaged_data_is_told(tmp_path: Path) -> None:
    async with PrivateRedis(tmp_path) as server:
        await write(server.url, "k", "v")
    damage(tmp_path)
    with pytest.raises(ServerFailed, match=r"does not start: exit code 1: .*Bad file format"):
        async with PrivateRedis(tmp_path):
            pass


async def test_program_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="no-such-server: No such file"):
        async with PrivateRedis(tmp_path, binary=tmp_path / "no-such-server"):
            pass


def fake_program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path


async def test_first_good_program_of_the_path_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    old = fake_program(folder, "valkey-server", "echo Redis server v=6.2.14 sha=0 bits=64")
    new = fake_program(folder, "redis-server", "echo Redis server v=7.0.15 sha=0 bits=64")
    assert await find_server_binary(str(folder)) == new
    fake_program(folder, "valkey-server", "echo Valkey server v=9.1.2 sha=0 bits=64")
    assert await find_server_binary(str(folder)) == old
    fake_program(folder, "valkey-server", "exit 1")
    assert await find_server_binary(str(folder)) == new


async def test_package_has_one_where_the_path_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path / "bin", "redis-server", "echo Redis server v=6.2.14 sha=0 bits=64")
    found = await find_server_binary(str(tmp_path / "bin"))
    assert found == bundled_binary()
    assert found.name == "valkey-server"
    monkeypatch.setattr("cluster.store.server_binary.find_spec", lambda name: None)
    with pytest.raises(ServerNotFound, match=r"7\.0 or newer on PATH \(.*redis-server is 6\.2\), and no val"):
        await find_server_binary(str(tmp_path / "bin"))
    with pytest.raises(ServerNotFound, match="on PATH, and no"):
        await find_server_binary(str(tmp_path))
