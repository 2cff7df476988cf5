"""Users, and what clients may do, from a database.

An unknown user costs as much time as a wrong password: a hash is made for it, and its answer is remembered,
too.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from broker.auth.access import Access, Credentials, Decision, Denied, Identity, Unavailable, Verdict
from broker.auth.acl import EVERYTHING, rules_of
from broker.auth.cache import VerdictCache
from broker.auth.database import Database, Query, Row
from broker.auth.hashing import Hashing, decoy_like, hash_mistake
from broker.auth.remote import Remote
from broker.auth.rules import Rules

SOURCE: Final = "sql"
USER_COLUMNS: Final = ("password_hash",)
ACL_COLUMNS: Final = ("permission", "action", "topic")

_NOBODY: Final = Denied()
"""What is remembered of an unknown user."""

_Who = tuple[str | None, str, str]
"""User name, Client Identifier, address."""


@dataclass(frozen=True, slots=True)
class _User:
    hashed: str
    identity: Identity


@dataclass(frozen=True, slots=True)
class Table:
    """One query, and how it is asked."""

    database: Database
    query: Query
    remote: Remote

    async def ask(self, who: _Who) -> Sequence[Row]:
        """Raises Unavailable. Not to be called but within `remote.ask`."""
        username, client_id, address = who
        values = {"username": username, "client_id": client_id, "address": address}
        return await self.database.rows(self.query, values)


class SqlAuthenticator:
    """Knows the users of a table."""

    def __init__(self, table: Table, hashing: Hashing, cache: VerdictCache) -> None:
        self._table = table
        self._hashing = hashing
        self._cache = cache
        self._example: str | None = None
        """A hash of somebody, for what hashes cost there."""

    async def authenticate(self, credentials: Credentials) -> Verdict:
        name, password = credentials.username, credentials.password
        if name is None or password is None:
            return None
        who = (name, credentials.client_id, credentials.address)
        key = self._cache.key(*who, password)
        verdict = self._cache.find(key)
        if verdict is None:
            verdict = await self._look(who, name, password)
            self._cache.keep(key, verdict)
        return None if verdict is _NOBODY else verdict

    async def _look(self, who: _Who, name: str, password: bytes) -> Identity | Denied:
        async def ask() -> _User | None:
            return _user(await self._table.ask(who), name)

        address = who[2]
        user = await self._table.remote.ask(address, ask)
        if user is None:
            await self._hashing.verify(address, decoy_like(self._example), password)
            return _NOBODY
        self._example = user.hashed
        return user.identity if await self._hashing.verify(address, user.hashed, password) else Denied()


class SqlAuthorizer:
    """Knows what clients may do by a table: rows in order. Those of a client are remembered for a while."""

    def __init__(
        self, table: Table, seconds: float, entries_maximum: int, clock: Callable[[], float] = monotonic
    ) -> None:
        self._table = table
        self._seconds = seconds
        self._entries_maximum = entries_maximum
        self._clock = clock
        self._known: OrderedDict[_Who, tuple[Rules, float]] = OrderedDict()

    async def authorize(self, access: Access) -> Decision:
        who = (access.identity.username, access.client_id, access.address)
        known = self._known.get(who)
        if known is not None and self._clock() < known[1]:
            return known[0].decide(access)
        rules = await self._table.remote.ask(access.address, lambda: self._read(who))
        self._known[who] = (rules, self._clock() + self._seconds)
        self._known.move_to_end(who)
        if len(self._known) > self._entries_maximum:
            self._known.popitem(last=False)
        return rules.decide(access)

    def forget(self) -> None:
        """What is in the database may be something else now."""
        self._known.clear()

    async def _read(self, who: _Who) -> Rules:
        try:
            return rules_of(list(await self._table.ask(who)))
        except ValueError as error:
            raise Unavailable(f"rows that can't be understood: {error}") from None


def _user(rows: Sequence[Row], name: str) -> _User | None:
    if not rows:
        return None
    if len(rows) > 1:
        raise Unavailable("more than one row for a user")
    row = rows[0]
    hashed = row["password_hash"]
    mistake = hash_mistake(hashed) if isinstance(hashed, str) else "not a text"
    if mistake is not None:
        raise Unavailable(f"a password_hash can't be used: {mistake}")
    rules = EVERYTHING if _is_true(row.get("is_superuser")) else None
    return _User(str(hashed), Identity(name, _groups(row.get("groups")), rules, source=SOURCE))


def _is_true(value: object) -> bool:
    """Of a column that is a number where a database has no truth values."""
    if value not in (None, False, True, 0, 1):
        raise Unavailable("an is_superuser that is neither true nor false")
    return bool(value)


def _groups(value: object) -> frozenset[str]:
    """Of a list, or of a text with commas."""
    if value is None:
        return frozenset()
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Unavailable("groups that are no texts")
    return frozenset(name.strip() for name in names if name.strip())
