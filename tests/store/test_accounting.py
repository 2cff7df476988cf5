"""Where the memory of a server goes: kinds by name, and estimates that hold on real servers."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from cluster.redis_report import report_of
from cluster.store import keys
from cluster.store.accounting import PREFIXES_SHOWN, Account, Part, account_of
from cluster.store.connection import open_connection
from cluster.store.endpoint import ServerFiles, parse_url
from cluster.store.key_kinds import NOT_OURS, Named, common_keys, name_of
from cluster.store.rights import access_list
from tests.store.servers import KINDS, RunningServer, running_server

PREFIX, NEIGHBOUR = "mq:", "neighbour:"
SESSIONS, FOREIGN = 900, 300

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """With two brokers and another program: sessions, queues of two sizes, two hashes that hold most."""
    with running_server(request.param, tmp_path_factory.mktemp("redis"), "--appendonly", "yes") as running:
        with client_of(running) as client, client.pipeline(transaction=False) as batch:
            for prefix, count in ((PREFIX, SESSIONS), (NEIGHBOUR, SESSIONS // 3)):
                for number in range(count):
                    _add_session(batch, prefix, f"client-{number:04}", 8 if number % 10 == 0 else 0)
            for number in range(2000):
                batch.hset(keys.retained(PREFIX, number % 2), f"topic/{number}", b"0:" + b"r" * 500)
            for number in range(FOREIGN):
                batch.set(f"app:{number}", b"a" * 100)
            batch.execute()
        yield running


def _add_session(batch: redis.client.Pipeline, prefix: str, client_id: str, queued: int) -> None:
    bucket = keys.bucket_of(client_id)
    batch.hset(keys.session(prefix, bucket, client_id), mapping={"gen": 1, "epoch": 2, "f:a/b": b"1:options"})
    batch.hset(keys.subscriptions(prefix, keys.shard_of(client_id, "a/b")), f"a/b\0{client_id}", b"1:options")
    for number in range(queued):
        batch.xadd(keys.queue(prefix, bucket, client_id), {"p": b"p" * 400}, id=f"1-{number + 1}")


def client_of(server: RunningServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(server.directory / "r.sock"))


async def account(server: RunningServer, samples: int = 1000, seconds: float = 20.0) -> Account:
    connection = await open_connection(parse_url(server.url), "test", 2.0, 5.0)
    try:
        return await account_of(connection, PREFIX, samples, seconds)
    finally:
        await connection.aclose()


def truth(server: RunningServer) -> dict[str, tuple[int, int]]:
    """Keys and bytes by kind and by prefix, of all."""
    found: dict[str, tuple[int, int]] = {}
    with client_of(server) as client:
        for key in client.scan_iter(count=1000):
            named = name_of(key)
            size = client.memory_usage(key, samples=0)
            for name in {named.kind, named.prefix or NOT_OURS}:
                count, total = found.get(name, (0, 0))
                found[name] = count + 1, total + size
    return found


def is_near(part: Part, keys_and_bytes: tuple[int, int]) -> bool:
    """Three of its margins: six standard errors."""
    return abs(part.bytes - keys_and_bytes[1]) <= 3 * part.margin_bytes + 0.05 * keys_and_bytes[1]


def test_every_key_has_a_kind() -> None:
    """That of each function in `keys`, also with a name of a client that looks like a key."""
    arguments = {
        "prefix": "p:", "bucket": 7, "client_id": "x{m}:retained", "first": "a",
        "token": b"\xff\n", "name": "g/f",
        "epoch": 5, "incarnation": "n.1", "shard": 3, "question_id": "q", "tap_id": "t", "trace_id": "t",
        "nonce": "n", "node": "n.1", "level": "fsynced", "chore": "c", "slot": "m",
    }  # fmt: skip
    kinds = {}
    for name, function in inspect.getmembers(keys, inspect.isfunction):
        parameters = inspect.signature(function).parameters
        if "prefix" not in parameters or name.endswith("_channel"):
            continue
        key = function(*[arguments[each] for each in parameters])
        named = name_of(key if isinstance(key, bytes) else key.encode())
        assert named.prefix == "p:", name
        assert named.is_session == (name == "session")
        kinds[name] = named.kind
    assert NOT_OURS not in kinds.values()
    expected = {
        "session": "sessions", "released": "sessions", "session_chunk": "sessions", "queue": "queues",
        "share": "queues", "retained_index": "retained", "subscriptions": "subscriptions",
        "inbox": "inboxes", "letters": "dead letters", "once": "tokens", "events": "history",
        "delayed": "wills and delayed", "counter": "other", "users_log": "other",
    }  # fmt: skip
    assert {name: kinds[name] for name in expected} == expected


@pytest.mark.parametrize(
    "key", [b"", b"app:1", b"{}", b"a{1}b", b"mq:{1}:nonsense", b"\xff{\n", b"{1}:s:" * 9]
)
def test_what_is_of_no_broker_is_told_apart(key: bytes) -> None:
    named = name_of(key)
    assert named == Named("", NOT_OURS) or key.startswith(b"{1}:s:")


async def test_the_estimate_is_near(server: RunningServer) -> None:
    told, real = await account(server), truth(server)
    assert told.problem == ""
    assert told.sampled == 1000
    assert told.keys == sum(real[name][0] for name in (PREFIX, NEIGHBOUR, NOT_OURS))
    assert told.unreadable == 0
    for part in (*told.kinds, *told.prefixes):
        assert is_near(part, real[part.name]), part
    kinds = {part.name: part for part in told.kinds}
    assert set(kinds) == {"sessions", "queues", "retained", "subscriptions", NOT_OURS}
    assert kinds["retained"].margin_bytes == 0  # measured
    assert kinds["sessions"].keys == pytest.approx(SESSIONS * 4 / 3, rel=0.3)
    assert {part.name for part in told.prefixes} == {PREFIX, NEIGHBOUR, NOT_OURS}
    assert told.prefixes[0].name == PREFIX
    assert told.session_bytes == pytest.approx(real["sessions"][1] / real["sessions"][0], rel=0.1)
    assert told.largest is not None
    assert told.largest.key in (keys.retained(PREFIX, 0), keys.retained(PREFIX, 1))


async def test_few_commands_at_a_time(server: RunningServer) -> None:
    """At most 1,000 samples and what is known by name, in pieces that others can come between."""
    with client_of(server) as client:
        client.config_resetstat()
        await account(server)
        stats = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): fields["calls"] for name, fields in stats.items()}
    assert calls["randomkey"] == 1000
    assert calls["memory|usage"] <= 1000 + len([*common_keys(PREFIX)])
    assert not {"keys", "scan"} & set(calls)


async def test_it_ends_in_time(server: RunningServer) -> None:
    told = await account(server, seconds=0.0)
    assert told.problem.startswith("Redis is slow")
    assert 0 < told.sampled < 1000
    assert told.measured == 0 or told.measured < 300


async def test_a_user_without_the_rights_is_told(server: RunningServer, tmp_path: Path) -> None:
    """What is known by name is told all the same; keys of others count, without their size."""
    (tmp_path / "password").write_text("secret")
    endpoint = parse_url(server.url, ServerFiles(username="node", password_file=tmp_path / "password"))
    rules = access_list(PREFIX).split()
    for missing in ("+randomkey", "+dbsize", ""):
        with client_of(server) as client:
            allowed = [rule for rule in rules if rule != missing]
            client.execute_command("ACL", "SETUSER", "node", "reset", "on", ">secret", *allowed)
        connection = await open_connection(endpoint, "test", 2.0, 5.0)
        try:
            report = await report_of(connection, PREFIX)
        finally:
            await connection.aclose()
        told = report.account
        assert report.server.server.split()[0] in ("Redis", "Valkey")
        assert report.server.aof_written
        assert any(part.name == "retained" and part.bytes > 1_000_000 for part in told.kinds)
        assert ("it lacks +dbsize or +randomkey" in told.problem) == bool(missing)
        assert (told.unreadable > 0) == (told.sampled > 0) == (not missing)


async def test_many_prefixes_are_bounded(tmp_path: Path) -> None:
    with running_server("redis", tmp_path) as server:
        empty = await account(server)
        assert (empty.keys, empty.kinds, empty.largest, empty.problem) == (0, [], None, "")
        with client_of(server) as client:
            for number in range(PREFIXES_SHOWN + 20):
                client.set(f"{number}:{{1}}:ctr", 1)
        told = await account(server)
        assert len(told.prefixes) == PREFIXES_SHOWN + 1
        assert "others" in {part.name for part in told.prefixes}
        assert told.largest is not None
        assert told.largest.key == ""  # of somebody else's
