"""How the primary is found and left, with sentinels that say what a test wants; real ones: tests/redis."""

import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from cluster.store.access import Access
from cluster.store.endpoint import parse_url
from cluster.store.errors import AccessDenied, InvalidRedisUrl, StoreUnavailable
from cluster.store.sentinel import SentinelFinder
from cluster.store.store import Store, node_library, open_store
from tests.ports import free_port
from tests.store.fake_sentinel import DENIED, NAME, NOBODY, answer, sentinels
from tests.store.servers import RunningServer, binary_of, running_server, tls_server

pytestmark = pytest.mark.anyio


async def test_the_primary_is_told_with_all_that_the_url_says() -> None:
    async with sentinels(*[answer(6380, 3)] * 3, user="moor:secret@") as (finder, _):
        assert await finder.primary() == parse_url("redis://moor:secret@127.0.0.1:6380")


async def test_slow_sentinel_is_not_waited_for() -> None:
    async with sentinels(answer(1, 3), answer(1, 3), None) as (finder, _):
        with anyio.fail_after(0.3):
            assert (await finder.primary()).port == 1


async def test_those_who_come_at_once_are_served_by_one_round() -> None:
    async with sentinels(answer(1, 3)) as (finder, (fake,)), anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(finder.primary)
    assert fake.asked <= 2


async def test_trouble_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with sentinels(answer(1, 3), NOBODY, DENIED * 2) as (finder, fakes):
        for _ in range(3):
            assert (await finder.primary()).port == 1
        assert sorted(f"{fakes[1].port}" in text for text in caplog.messages) == [False, True]
        assert f"127.0.0.1:{fakes[1].port}: knows no primary with the name 'main'" in caplog.text
        assert f"127.0.0.1:{fakes[2].port}: NOAUTH" in caplog.text
        fakes[1].says = answer(1, 3)
        await finder.primary()
        assert f"127.0.0.1:{fakes[1].port} tells again" in caplog.text


async def test_mistakes_in_the_settings_are_told_as_such() -> None:
    async with sentinels(*[NOBODY] * 3) as (finder, _):
        with pytest.raises(InvalidRedisUrl, match="no primary with the name 'main'"):
            await finder.primary()
    async with sentinels(*[DENIED * 2] * 2) as (finder, _):
        with pytest.raises(AccessDenied, match="NOAUTH"):
            await finder.primary()


async def test_no_sentinel_there_may_pass() -> None:
    finder = SentinelFinder(parse_url(f"redis+sentinel://127.0.0.1:{free_port()}/{NAME}"))
    with pytest.raises(StoreUnavailable, match="no sentinel tells"):
        await finder.primary()


async def test_last_primary_counts_while_all_sentinels_are_away() -> None:
    async with sentinels(answer(1, 3)) as (finder, (fake,)):
        await finder.primary()
        fake.says = None
        assert (await finder.primary()).port == 1


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, RunningServer]]:
    """Two primaries, by their ports."""
    ports = free_port(), free_port()
    with (
        running_server("valkey", Path(tmp_path_factory.mktemp("a")), "--port", str(ports[0])) as first,
        running_server("valkey", Path(tmp_path_factory.mktemp("b")), "--port", str(ports[1])) as second,
    ):
        yield dict(zip(ports, (first, second), strict=True))


def access_by(finder: SentinelFinder) -> Access:
    return Access(finder, "test", node_library(), "t:", 2.0, 5.0)


async def test_connections_to_a_primary_that_was_replaced_end(servers: dict[int, RunningServer]) -> None:
    """Though it answers and nobody has told us: an old primary on the wrong side of a partition."""
    old, new = servers
    async with sentinels(*[answer(old, 1)] * 3) as (finder, fakes), anyio.create_task_group() as tasks:
        access = access_by(finder)
        tasks.start_soon(access.watch)
        connection = await access.connect()
        assert access.primary == f"127.0.0.1:{old}"
        await anyio.sleep(1.5)
        assert not connection.is_closed
        fakes[1].says = answer(new, 2)
        with anyio.fail_after(2.0):
            await connection.until_closed()
        other = await access.connect()
        assert other.address == access.primary == f"127.0.0.1:{new}"
        await other.aclose()
        assert access.switches == 1
        tasks.cancel_scope.cancel()


async def test_connection_under_way_to_an_old_primary_is_given_up(servers: dict[int, RunningServer]) -> None:
    old, new = servers
    async with sentinels(answer(old, 1)) as (finder, fakes), anyio.create_task_group() as tasks:
        access = access_by(finder)
        servers[old].stop()
        try:
            tasks.start_soon(access.watch)

            async def fail() -> None:
                with pytest.raises(StoreUnavailable, match="the primary no longer"):
                    await access.connect()

            with anyio.fail_after(3.0):
                async with anyio.create_task_group() as connecting:
                    connecting.start_soon(fail)
                    await anyio.sleep(0.2)
                    fakes[0].says = answer(new, 2)
        finally:
            servers[old].go_on()
        tasks.cancel_scope.cancel()


async def test_primary_is_left_when_its_successor_is_told(servers: dict[int, RunningServer]) -> None:
    """The sentinels name it a second later; writes of that second would be lost."""
    old, new = servers
    async with sentinels(*[answer(old, 1)] * 2) as (finder, fakes), anyio.create_task_group() as tasks:
        access = access_by(finder)
        tasks.start_soon(access.watch)
        connection = await access.connect()
        await fakes[0].is_heard.wait()
        event = "+failover-state-send-slaveof-noone"
        fakes[0].tell(event, f"slave x 127.0.0.1 {new} @ another 127.0.0.1 {old}")
        await anyio.sleep(0.1)
        assert not connection.is_closed
        fakes[0].tell(event, f"slave x 127.0.0.1 {new} @ {NAME} 127.0.0.1 {old}")
        with anyio.fail_after(0.5):
            await connection.until_closed()
        with pytest.raises(StoreUnavailable, match="taking over"):
            await access.connect()
        fakes[0].says = answer(new, 2)
        fakes[0].tell("+switch-master", f"{NAME} 127.0.0.1 {old} 127.0.0.1 {new}")
        with anyio.fail_after(0.5):
            await access.pause(10.0)
        other = await access.connect()
        assert other.address == f"127.0.0.1:{new}"
        await other.aclose()
        tasks.cancel_scope.cancel()


@contextmanager
def sentinel_with_tls(directory: Path, server: int, certificate: Path) -> Iterator[int]:
    """A real one that watches a TLS server by its name, and tells the name."""
    port = free_port()
    directory.mkdir()
    lines = [
        "port 0", f"tls-port {port}", f"tls-cert-file {certificate}", f"dir {directory}",
        f"tls-key-file {certificate.with_name('k.pem')}", f"tls-ca-cert-file {certificate}",
        "tls-auth-clients no", "tls-replication yes", f"logfile {directory / 'log'}",
        "sentinel resolve-hostnames yes", "sentinel announce-hostnames yes",
        f"sentinel monitor {NAME} localhost {server} 1",
    ]  # fmt: skip
    (directory / "sentinel.conf").write_text("\n".join(lines) + "\n")
    with subprocess.Popen([binary_of("redis"), str(directory / "sentinel.conf"), "--sentinel"]) as process:
        try:
            yield port
        finally:
            process.kill()


async def test_tls_to_sentinel_and_server_by_their_names(tmp_path: Path) -> None:
    with (
        tls_server(tmp_path) as (server, certificate),
        sentinel_with_tls(tmp_path / "sentinel", server, certificate) as port,
    ):
        url = f"rediss+sentinel://localhost:{port}/{NAME}"
        with anyio.fail_after(10):
            store = await _as_soon_as_it_is_there(f"{url}?ssl_ca_certs={certificate}")
        async with store:
            await store.ping()
            assert store.primary == f"localhost:{server}"
        with pytest.raises(StoreUnavailable, match="certificate"):
            await _in_time(url)


async def _in_time(url: str) -> Store:
    """A sentinel has half a second, which is little on a machine that is busy."""
    with anyio.fail_after(20):
        while True:
            try:
                return await open_store(url, "t:", "n1")
            except StoreUnavailable as error:
                if "no connection within" not in str(error):
                    raise


async def _as_soon_as_it_is_there(url: str) -> Store:
    while True:
        try:
            return await open_store(url, "t:", "n1")
        except StoreUnavailable:
            await anyio.sleep(0.05)
