"""What the user of Redis must be allowed: the list, and that it is tried at the start."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from cluster.store.connection import Connection, open_connection
from cluster.store.endpoint import ServerFiles, parse_url
from cluster.store.errors import AccessDenied
from cluster.store.library import library_text
from cluster.store.rights import COMMANDS, LOADING, access_list, check_rights
from cluster.store.store import node_library, open_store
from tests.store.servers import KINDS, RunningServer, running_server

ROOT = Path(__file__).parent.parent.parent
PREFIX = "mq:"
KINDS_OF_CONTAINERS = ("XGROUP", "XINFO")
WORDS = {
    "BYLEX", "CONSUMERS", "COUNT", "CREATE", "DELCONSUMER", "DESTROY", "FORCE", "GROUP", "JUSTID", "LASTID",
    "LIMIT", "MAXLEN", "MINID", "MKSTREAM", "NOMKSTREAM", "REV", "SAMPLES", "STREAMS", "USAGE", "WITHSCORES",
}  # fmt: skip
"""Arguments in capital letters."""

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=KINDS, scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    with running_server(request.param, tmp_path_factory.mktemp("redis"), "--appendonly", "yes") as running:
        yield running


def administrator(server: RunningServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(server.directory / "r.sock"))


def set_user(server: RunningServer, *rules: str) -> None:
    """The user `node`, with the password `secret`, and an empty log of refusals."""
    with administrator(server) as client:
        client.execute_command("ACL", "SETUSER", "node", "reset", "on", ">secret", *rules)
        client.acl_log_reset()


def refusals(server: RunningServer) -> list[object]:
    with administrator(server) as client:
        log: list[object] = client.acl_log()
        return log


@asynccontextmanager
async def as_node(server: RunningServer, tmp_path: Path) -> AsyncIterator[Connection]:
    file = tmp_path / "password"
    file.write_text("secret\n")
    endpoint = parse_url(server.url, ServerFiles(username="node", password_file=file))
    connection = await open_connection(endpoint, "test", 2.0, 2.0)
    try:
        yield connection
    finally:
        await connection.aclose()


def test_the_list_has_what_the_library_calls() -> None:
    called = set(re.findall(r'"([A-Z]{3,})"', library_text())) - WORDS
    known = {command.partition("|")[0] for command in COMMANDS}
    assert called <= known
    assert {command for command in COMMANDS if command.startswith(KINDS_OF_CONTAINERS)} == {
        "XGROUP|CREATE", "XGROUP|DELCONSUMER", "XGROUP|DESTROY", "XINFO|CONSUMERS",
    }  # fmt: skip
    by_nodes = {"CLIENT", "FCALL", "FUNCTION", "PING", "SUBSCRIBE", "UNSUBSCRIBE", "XREAD"}
    by_the_release_before = {"HSETNX"}
    assert known - called == by_nodes | by_the_release_before


async def test_a_user_with_that_list_may_start(server: RunningServer, tmp_path: Path) -> None:
    set_user(server, *access_list(PREFIX).split())
    async with as_node(server, tmp_path) as connection:
        await check_rights(connection, PREFIX)
    with administrator(server) as client:
        assert client.keys("mq:*rights*") == []
    password = tmp_path / "password"
    files = ServerFiles(username="node", password_file=password)
    async with await open_store(server.url, PREFIX, "n1", files=files) as store:
        await store.ping()
        pages: list[list[bytes]] = []
        await store.load_subscriptions(pages.append)
        assert not any(pages)
        channels = await store.connect_to_channels([f"{PREFIX}{{m}}:interest"], lambda *_: None)
        await channels.aclose()
    assert refusals(server) == []


async def test_each_right_that_is_missing_is_told(server: RunningServer, tmp_path: Path) -> None:
    """One by one; those without which nobody gets so far are told there."""
    rules = access_list(PREFIX).split()
    for command in COMMANDS:
        if command in ("CLIENT|SETNAME", "INFO", "FUNCTION|LIST"):
            continue
        set_user(server, *[rule for rule in rules if rule != f"+{command.lower()}"])
        async with as_node(server, tmp_path) as connection:
            with pytest.raises(AccessDenied) as denied:
                await check_rights(connection, PREFIX)
        assert f"it lacks +{command.lower()} (`moorline redis acl`" in str(denied.value)
    set_user(server, *[rule for rule in rules if rule not in ("+xadd", "+spop", "+function|list")])
    async with as_node(server, tmp_path) as connection:
        with pytest.raises(AccessDenied, match=r"lacks \+function\|list, \+spop, \+xadd"):
            await check_rights(connection, PREFIX)
    set_user(server, *access_list("other:").split())
    async with as_node(server, tmp_path) as connection:
        with pytest.raises(AccessDenied, match=r"lacks channels &mq:\*, keys ~mq:\* "):
            await check_rights(connection, PREFIX)


async def test_a_user_that_may_not_load_the_library(server: RunningServer, tmp_path: Path) -> None:
    set_user(server, *access_list(PREFIX, may_load=False).split())
    assert f"+{LOADING.lower()}" not in access_list(PREFIX, may_load=False)
    (tmp_path / "password").write_text("secret")
    files = ServerFiles(username="node", password_file=tmp_path / "password")
    with administrator(server) as client:
        client.function_flush()
        with pytest.raises(
            AccessDenied, match=r"moorline redis library \| redis-cli -x FUNCTION LOAD REPLACE"
        ):
            await open_store(server.url, PREFIX, "n1", files=files)
        client.function_load(node_library().source)
        client.acl_log_reset()
    async with await open_store(server.url, PREFIX, "n1", files=files):
        pass
    assert refusals(server) == []


def test_the_page_has_the_list() -> None:
    page = " ".join((ROOT / "docs" / "security.md").read_text().split())
    assert f"ACL SETUSER moorline on >PASSWORD {access_list(PREFIX)} It is one command" in page
