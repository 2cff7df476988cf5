"""The authenticator that asks stored users; hashing is real, but cheap."""

import asyncio
from collections.abc import Callable

import pytest
from argon2 import PasswordHasher

from broker.auth import Credentials, Denied, Identity
from broker.auth.cache import VerdictCache
from broker.auth.hashing import Hashing, decoy_like, hash_mistake
from broker.auth.stored_users import SOURCE, StoredUsers
from broker.auth.user import Allowed, StoredUser, User
from broker.errors import MoorlineError
from broker.mqtt import ReasonCode

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASHED = (
    "$argon2id$v=19$m=8,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$J5L9qf3Gg0R/SDGCa3AT3YtCqSs82pvC3aTZR36BU8M"  # of x
)
WRONG = Denied()


class Store:
    """Users that a test may change, also while one of them is hashed."""

    def __init__(self, **users: User) -> None:
        self.users = users
        self.version = 1
        self.asked: list[str] = []
        self.on_second: Callable[[], None] = lambda: None
        self.is_away = False

    async def find(self, name: str) -> StoredUser | None:
        if self.is_away:
            raise MoorlineError("away")
        self.asked.append(name)
        if len(self.asked) == 2:
            self.on_second()
        user = self.users.get(name)
        return StoredUser(name, user, self.version, 1, 0, 0) if user is not None else None


def _credentials(name: str | None, password: bytes | None = b"x") -> Credentials:
    return Credentials("c", name, password, "10.0.0.1", "tcp")


def _asked(store: Store, hashing: Hashing | None = None) -> StoredUsers:
    return StoredUsers(store.find, hashing or Hashing(1, 10), VerdictCache(60, 100))


def test_verdicts() -> None:
    async def run() -> None:
        groups, allowed = frozenset({"g"}), Allowed(("a/%u",), ())
        store = Store(ann=User(HASHED, groups, allowed=allowed), off=User(HASHED, is_enabled=False))
        asked = _asked(store)
        for _ in range(2):  # the second time remembered
            found = await asked.authenticate(_credentials("ann"))
            assert isinstance(found, Identity)
            assert (found.username, found.groups, found.source) == ("ann", groups, SOURCE)
            assert found.version == 1
            assert found.rules is not None
            assert await asked.authenticate(_credentials("ann", b"y")) == WRONG
            assert await asked.authenticate(_credentials("off")) == WRONG
            assert await asked.authenticate(_credentials("nobody")) is None
        assert await asked.authenticate(_credentials("ann", None)) == WRONG
        assert await asked.authenticate(_credentials("nobody", None)) is None
        assert await asked.authenticate(_credentials(None)) is None
        store.asked.clear()
        assert await asked.authenticate(_credentials("a:b")) is None
        assert store.asked == []
        store.users["ann"] = User(CHEAP.hash("new"))
        assert await asked.authenticate(_credentials("ann")) == WRONG
        assert await asked.authenticate(_credentials("ann", b"new")) == Identity(
            "ann", source=SOURCE, version=1
        )

    asyncio.run(run())


def test_who_is_changed_while_the_password_is_hashed() -> None:
    async def run(change: Callable[[Store], None]) -> object:
        store = Store(ann=User(HASHED))
        store.on_second = lambda: change(store)
        return await _asked(store).authenticate(_credentials("ann"))

    def change(store: Store) -> None:
        store.version = 2

    def delete(store: Store) -> None:
        store.users.clear()

    for each in (change, delete):
        assert asyncio.run(run(each)) == Denied(ReasonCode.SERVER_BUSY)


def test_a_store_that_is_away() -> None:
    async def run() -> None:
        store = Store(ann=User(HASHED))
        asked = _asked(store)
        assert isinstance(await asked.authenticate(_credentials("ann")), Identity)
        store.is_away = True
        for name, password in (("ann", b"x"), ("ann", None), ("nobody", b"x")):
            verdict = await asked.authenticate(_credentials(name, password))
            assert verdict == Denied(ReasonCode.SERVER_UNAVAILABLE)

    asyncio.run(run())


def test_unknown_and_known_cost_one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        hashed: list[str] = []

        async def verify(self: Hashing, address: str, text: str, password: bytes) -> bool:
            hashed.append(text)
            return False

        monkeypatch.setattr(Hashing, "verify", verify)
        asked = _asked(Store(ann=User(HASHED), off=User(HASHED, is_enabled=False)))
        for name in ("ann", "off", "nobody"):
            await asked.authenticate(_credentials(name, b"y"))
        assert len(hashed) == 3
        assert hash_mistake(hashed[2]) is None

    asyncio.run(run())


def test_more_than_can_be_hashed() -> None:
    async def run() -> None:
        asked = _asked(Store(ann=User(HASHED)), Hashing(1, 1))
        verdicts = await asyncio.gather(
            *(asked.authenticate(_credentials("ann", b"%d" % number)) for number in range(20))
        )
        assert Denied(ReasonCode.SERVER_BUSY) in verdicts
        assert WRONG in verdicts

    asyncio.run(run())


def test_a_decoy_costs_what_its_example_costs() -> None:
    assert decoy_like(HASHED).startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert decoy_like(None).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert decoy_like(None) != decoy_like(None)


@pytest.mark.parametrize(
    "hashed",
    [
        "", "x", "$argon2id$v=19$m=8,t=1,p=1$", HASHED.replace("argon2id", "argon2i"),
        HASHED.replace("m=8", "m=1048577"), HASHED.replace("t=1", "t=65"), HASHED.replace("p=1", "p=17"),
        HASHED + "A" * 512,
    ],
)  # fmt: skip
def test_hashes_that_are_not_taken(hashed: str) -> None:
    assert hash_mistake(hashed) is not None
    assert not asyncio.run(Hashing(1, 1).verify("", hashed, b"x"))
