"""Users, and what clients may do, from a database: SQLite, and PostgreSQL as it is."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from argon2 import PasswordHasher

from broker.auth import Access, Action, Credentials, Decision, Denied, Identity, Unavailable, Verdict
from broker.auth.acl import EVERYTHING
from broker.auth.cache import VerdictCache
from broker.auth.database import Database, Query
from broker.auth.hashing import Hashing
from broker.auth.remote import Remote
from broker.auth.sql import ACL_COLUMNS, USER_COLUMNS, SqlAuthenticator, SqlAuthorizer, Table
from broker.observability.metrics import Tally
from broker.settings.auth_sql import SQL_PARAMETERS
from tests.postgres_server import Postgres, running_postgres

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
DEAR = "$argon2id$v=19$m=99999999,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA"
USERS = "SELECT password_hash, is_superuser, groups FROM users WHERE username = :username"
ACL = "SELECT permission, action, topic FROM acl WHERE username IN (:username, '*') ORDER BY position"
EVIL = "x' OR '1'='1' --"
TABLES = (
    "CREATE TABLE users (username TEXT, password_hash TEXT, is_superuser BOOLEAN, groups TEXT)",
    "CREATE TABLE acl (position INTEGER, username TEXT, permission TEXT, action TEXT, topic TEXT)",
    f"INSERT INTO users VALUES ('ann', '{CHEAP.hash('right')}', false, 'staff, night')",
    f"INSERT INTO users VALUES ('root', '{CHEAP.hash('right')}', true, NULL)",
    "INSERT INTO users VALUES ('plain', 'right', false, NULL)",
    "INSERT INTO users VALUES ('none', NULL, false, NULL)",
    f"INSERT INTO users VALUES ('twin', '{CHEAP.hash('right')}', false, NULL)",
    f"INSERT INTO users VALUES ('twin', '{CHEAP.hash('right')}', false, NULL)",
    f"INSERT INTO users VALUES ('dear', '{DEAR}', false, NULL)",
    "INSERT INTO acl VALUES (1, 'ann', 'deny', 'all', 'a/secret')",
    "INSERT INTO acl VALUES (2, 'ann', 'allow', 'all', 'a/#')",
    "INSERT INTO acl VALUES (3, '*', 'allow', 'subscribe', 'own/%c')",
    "INSERT INTO acl VALUES (1, 'bad', 'allow', 'all', 'a#')",
)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        server.execute(*TABLES)
        yield server


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("sqlite") / "users.db"
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        for statement in TABLES:
            database.execute(statement)
    return f"sqlite+aiosqlite:///{file}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Of either."""
    if request.param == "sqlite":
        found: str = request.getfixturevalue("sqlite")
        return found
    server: Postgres = request.getfixturevalue("postgres")
    return server.url


class Asked:
    """Both questions to a database."""

    def __init__(self, url: str, users: str, acl: str, connections: int) -> None:
        self.requests = Tally()
        self.database = Database(url, connections, 2)
        remote = Remote("sql", connections, 100, self.requests)
        self._hashing = Hashing(1, 100)
        user_table = Table(self.database, Query(users, SQL_PARAMETERS, USER_COLUMNS), remote)
        acl_table = Table(self.database, Query(acl, SQL_PARAMETERS, ACL_COLUMNS), remote)
        self._authenticator = SqlAuthenticator(user_table, self._hashing, VerdictCache(60, 100))
        self._authorizer = SqlAuthorizer(acl_table, 60, 2)

    async def who(self, name: str | None, password: bytes | None = b"right") -> Verdict:
        return await self._authenticator.authenticate(Credentials("c1", name, password, "10.0.0.1", "tcp"))

    async def may(
        self, name: str | None, topic: str, action: Action = Action.PUBLISH, client_id: str = "c1"
    ) -> Decision:
        access = Access(Identity(name), client_id, "10.0.0.1", action, topic)
        return await self._authorizer.authorize(access)


def _run(
    url: str,
    test: Callable[[Asked], Awaitable[None]],
    users: str = USERS,
    acl: str = ACL,
    connections: int = 2,
) -> None:
    async def run() -> None:
        asked = Asked(url, users, acl, connections)
        try:
            await test(asked)
        finally:
            await asked.database.close()

    asyncio.run(run())


def test_who_clients_are(url: str) -> None:
    async def ask(asked: Asked) -> None:
        ann = Identity("ann", frozenset({"staff", "night"}), source="sql")
        for _ in range(2):  # the second time remembered
            assert await asked.who("ann") == ann
            assert await asked.who("ann", b"wrong") == Denied()
            assert await asked.who("nobody") is None
        assert asked.requests["sql"] == 3
        root = await asked.who("root")
        assert isinstance(root, Identity)
        assert root.rules is EVERYTHING
        assert await asked.who(EVIL) is None
        assert await asked.who(None) is None
        assert await asked.who("ann", None) is None
        for name in ("plain", "none", "twin", "dear"):
            with pytest.raises(Unavailable) as caught:
                await asked.who(name)
            assert "right" not in str(caught.value)

    _run(url, ask)


def test_an_unknown_user_costs_a_hash_like_those_of_others(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    real = Hashing.verify

    async def note(self: Hashing, address: str, text: str, password: bytes) -> bool:
        hashed.append(text.rsplit("$", 2)[0])
        return await real(self, address, text, password)

    monkeypatch.setattr(Hashing, "verify", note)

    async def ask(asked: Asked) -> None:
        for name in ("ann", "nobody"):
            for _ in range(2):
                await asked.who(name, b"wrong")
        assert hashed == ["$argon2id$v=19$m=8,t=1,p=1"] * 2

    _run(url, ask)


def test_what_clients_may_do(url: str) -> None:
    async def ask(asked: Asked) -> None:
        assert await asked.may("ann", "a/b") is Decision.ALLOW
        assert await asked.may("ann", "a/secret") is Decision.DENY
        assert await asked.may("ann", "a/#", Action.SUBSCRIBE) is Decision.DENY
        assert await asked.may("ann", "own/c1", Action.SUBSCRIBE) is Decision.ALLOW
        assert asked.requests["sql"] == 1
        assert await asked.may("bob", "a/b") is Decision.NO_OPINION
        assert await asked.may(None, "own/c1", Action.SUBSCRIBE) is Decision.ALLOW
        assert await asked.may("bob", "own/+", Action.SUBSCRIBE, "+") is Decision.NO_OPINION
        assert await asked.may(EVIL, "a/b") is Decision.NO_OPINION
        with pytest.raises(Unavailable, match="can't be understood"):
            await asked.may("bad", "a")
        before = asked.requests["sql"]
        assert await asked.may("ann", "a/b") is Decision.ALLOW  # two clients are remembered
        assert asked.requests["sql"] == before + 1

    _run(url, ask)


def test_a_storm_has_few_connections(url: str) -> None:
    async def ask(asked: Asked) -> None:
        decisions = await asyncio.gather(*(asked.may("ann", "a/b", client_id=f"c{n}") for n in range(60)))
        assert decisions == [Decision.ALLOW] * 60

    _run(url, ask)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT 1 FROM nothing", "nothing"),
        ("SELECT username FROM users", "no column password_hash"),
        ("SELEKT", "syntax error"),
        ("SELECT password_hash, groups, 2 AS is_superuser FROM users WHERE username = 'ann'", "is_superuser"),
        ("SELECT password_hash, 5 AS groups FROM users WHERE username = 'ann'", "groups"),
        ("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 1100)"
         " SELECT n AS password_hash FROM r", "over 1000 rows"),
    ],
)  # fmt: skip
def test_a_query_that_is_wrong(url: str, query: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    async def ask(asked: Asked) -> None:
        with pytest.raises(Unavailable, match=reason):
            await asked.who("ann")

    _run(url, ask, users=query)
    assert "$argon2id" not in caplog.text


def test_groups_may_be_a_list(postgres: Postgres) -> None:
    async def ask(asked: Asked) -> None:
        identity = await asked.who("ann")
        assert isinstance(identity, Identity)
        assert identity.groups == {"x", "y"}

    query = "SELECT password_hash, ARRAY['x', 'y'] AS groups FROM users WHERE username = :username"
    _run(postgres.url, ask, users=query)


def test_addresses_may_be_compared(postgres: Postgres) -> None:
    async def ask(asked: Asked) -> None:
        assert isinstance(await asked.who("ann"), Identity)

    query = (
        "SELECT password_hash FROM users WHERE username = :username AND :client_id = 'c1'"
        " AND CAST(:address AS inet) << '10.0.0.0/8'::inet"
    )
    _run(postgres.url, ask, users=query)


def test_a_query_that_takes_too_long_ends_in_the_database(postgres: Postgres) -> None:
    running = (
        "SELECT count(*)::text AS password_hash FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(9)%'"
    )

    async def ask(asked: Asked) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await asked.who("ann")
        query = Query(running, (), ("password_hash",))
        deadline = time.monotonic() + 5
        while (await asked.database.rows(query, {}))[0]["password_hash"] != "0":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert await asked.may("ann", "a/b") is Decision.ALLOW

    _run(postgres.url, ask, users="SELECT pg_sleep(9)::text AS password_hash")


def test_a_database_that_ends_and_comes_again(postgres: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    async def ask(asked: Asked) -> None:
        assert isinstance(await asked.who("ann"), Identity)
        await asyncio.to_thread(postgres.stop)
        try:
            with pytest.raises(Unavailable):
                await asked.who("root")
        finally:
            await asyncio.to_thread(postgres.start)
        assert isinstance(await asked.who("root"), Identity)
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(postgres.start)
        assert await asked.who("nobody") is None  # the connection was lost, and nobody notices

    _run(postgres.url, ask)
    assert caplog.text.count("could not be asked") == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("secret", "not the URL"),
        ("postgresql+asyncpg://u:secret@host:port/x", "not the URL"),
        ("nothing://u:secret@host/x", "not a driver"),
        ("sqlite:////tmp/secret.db", "not a driver"),
        ("sqlite+aiosqlite://", "not a driver"),
        ("mysql+asyncmy://u:secret@host/x", "pip install 'moorline\\[sql\\]'"),
    ],
)
def test_a_url_that_leads_nowhere(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        Database(url, 1, 1)
    assert "secret" not in str(caught.value)


def test_parameters_of_a_query() -> None:
    query = Query("SELECT '\\:x', a::text FROM t WHERE b = :username OR c = :username", SQL_PARAMETERS, ())
    assert query.parameters == {"username"}
    with pytest.raises(ValueError, match=":password is not one of :username, :client_id, :address"):
        Query("SELECT 1 WHERE :password = 'x'", SQL_PARAMETERS, ())
