"""From one version of the schema to the next. There is no step yet, so the tests have one of their own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import redis

from cluster.store import keys
from cluster.store.connection import Connection
from cluster.store.errors import SchemaTooNew, SchemaTooOld
from cluster.store.library import SCHEMA_VERSION
from cluster.store.migration import STEPS, Migration, MigrationError, Progress, Step
from cluster.store.server import check_schema
from tests.cli.program import run
from tests.store.servers import LIBRARY, RunningServer, connected, running_server

PREFIX = "mq:"
PER_PAGE = 3

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server("valkey", tmp_path) as running:
        yield running


async def _upper(connection: Connection, prefix: str, cursor: str, is_dry: bool) -> Progress:
    """Letters become capital ones, three hashes at a time."""
    first = int(cursor or 0)
    changed = 0
    for number in range(first, first + PER_PAGE):
        name = f"{prefix}{{{number}}}:word"
        word = cast("bytes | None", await connection.ask_one("GET", name))
        if word is not None and word != word.upper():
            changed += 1
            if not is_dry:
                await connection.ask_one("SET", name, word.upper())
    following = first + PER_PAGE
    return Progress(changed, str(following) if following < keys.BUCKETS else None)


STEP = Step("words in capital letters", _upper)


class Migrated:
    """What a migration to version 2 or later has told."""

    def __init__(self, connection: Connection, steps: dict[int, Step], target: int = 2) -> None:
        self.lines: list[str] = []
        self._migration = Migration(connection, PREFIX, self.lines.append, steps, target)

    async def run(self, *, is_dry: bool = False) -> list[str]:
        await self._migration.run(is_dry=is_dry)
        return self.lines


async def filled(connection: Connection) -> None:
    await connection.ask_one("SET", keys.schema(PREFIX), 1)
    for number in range(10):
        await connection.ask_one("SET", f"{PREFIX}{{{number}}}:word", f"word-{number}")


async def word(connection: Connection, number: int) -> object:
    return await connection.ask_one("GET", f"{PREFIX}{{{number}}}:word")


async def test_a_step_is_told_then_made(server: RunningServer) -> None:
    async with connected(server.url) as connection:
        await filled(connection)
        lines = await Migrated(connection, {1: STEP}).run(is_dry=True)
        assert lines == [
            "schema 1; this release has 2",
            "1 to 2: words in capital letters: 10 keys would change",
        ]
        assert await word(connection, 9) == b"word-9"
        lines = await Migrated(connection, {1: STEP}).run()
        assert lines[-1] == "1 to 2: words in capital letters: 10 keys"
        assert [await word(connection, number) for number in range(10)] == [
            b"WORD-%d" % number for number in range(10)
        ]
        assert await connection.ask_one("GET", keys.schema(PREFIX)) == b"2"
        assert await Migrated(connection, {1: STEP}).run() == [
            "schema 2; this release has 2",
            "nothing to do",
        ]
        assert await connection.ask_one("EXISTS", keys.migration(PREFIX)) == 0


async def test_it_goes_on_where_it_was_stopped(server: RunningServer) -> None:
    pages: list[str] = []

    async def stopped(connection: Connection, prefix: str, cursor: str, is_dry: bool) -> Progress:
        pages.append(cursor)
        if len(pages) == 3:
            raise KeyboardInterrupt
        return await _upper(connection, prefix, cursor, is_dry)

    async with connected(server.url) as connection:
        await filled(connection)
        with pytest.raises(KeyboardInterrupt):
            await Migrated(connection, {1: Step("words", stopped)}).run()
        assert await connection.ask_one("GET", keys.schema(PREFIX)) == b"1"
        lines = await Migrated(connection, {1: Step("words", stopped)}).run()
        assert pages[:5] == ["", "3", "6", "6", "9"]
        assert lines[1:] == ["1 to 2: goes on where it was stopped", "1 to 2: words: 4 keys"]
        assert await word(connection, 9) == b"WORD-9"


async def test_several_steps_and_one_that_changes_nothing(server: RunningServer) -> None:
    async with connected(server.url) as connection:
        await filled(connection)
        lines = await Migrated(connection, {2: STEP}, target=3).run()
        assert lines[1:] == ["1 to 2: no key changes: 0 keys", "2 to 3: words in capital letters: 10 keys"]
        assert await connection.ask_one("GET", keys.schema(PREFIX)) == b"3"


async def test_nodes_must_have_left(server: RunningServer) -> None:
    async with connected(server.url) as connection:
        await filled(connection)
        await connection.ask_one("ZADD", keys.nodes(PREFIX), 7, "node-1.abc")
        lines = await Migrated(connection, {1: STEP}).run(is_dry=True)
        assert "nodes would have to leave first: node-1.abc" in lines
        with pytest.raises(MigrationError, match=r"have not left: node-1\.abc"):
            await Migrated(connection, {1: STEP}).run()
        assert await word(connection, 0) == b"word-0"


async def test_what_is_no_older_release(server: RunningServer) -> None:
    async with connected(server.url) as connection:
        with pytest.raises(MigrationError, match="no broker has this prefix"):
            await Migrated(connection, {}).run()
        await connection.ask_one("SET", keys.schema(PREFIX), 3)
        with pytest.raises(SchemaTooNew):
            await Migrated(connection, {}).run()


async def test_nodes_do_not_start_before_it(server: RunningServer) -> None:
    newer = replace(LIBRARY, schema_version=3, migrated_from=frozenset({2}))
    async with connected(server.url) as connection:
        for version in (1, 2):
            await connection.ask_one("SET", "schema", version)
            with pytest.raises(SchemaTooOld, match="moorline redis migrate"):
                await check_schema(connection, "schema", newer)
            assert await connection.ask_one("GET", "schema") == b"%d" % version
        await connection.ask_one("SET", "schema", 3)
        await check_schema(connection, "schema", newer)
        await connection.ask_one("DEL", "schema")
        await check_schema(connection, "schema", newer)


async def test_there_is_a_way_from_the_first_version_on() -> None:
    assert set(STEPS) <= set(range(1, SCHEMA_VERSION))


def test_the_command(tmp_path: Path) -> None:
    with running_server("redis", tmp_path) as server:
        given = ("redis", "migrate", "--redis", server.url)
        assert run(*given).exit_code == 1
        assert run("redis", "migrate").exit_code == 2
        assert run("redis", "migrate", "--redis", "http://x").exit_code in (1, 2)
        with redis.Redis(unix_socket_path=server.url.removeprefix("unix://")) as client:
            client.set(keys.schema(PREFIX), SCHEMA_VERSION)
        for flags in ((), ("--dry-run",)):
            result = run(*given, *flags)
            assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "nothing to do"), result.output
