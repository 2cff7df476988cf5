"""Users, rules and bans from one prefix to another, without nodes."""

from collections.abc import AsyncIterator, Sequence

import pytest

from broker.auth.ban import target_of
from broker.auth.user import Allowed, ScramKeys, User
from cluster.bans import BanBook
from cluster.importing import Summary
from cluster.moved_users import (
    MovedAllowed,
    MovedBan,
    MovedRules,
    MovedScram,
    MovedUser,
    UserRecord,
)
from cluster.moving_users import UserMover
from cluster.store import keys
from cluster.store.store import Store, open_store
from cluster.users import UserBook
from tests.store.caller import Caller
from tests.store.servers import RunningServer

pytestmark = pytest.mark.anyio

HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$mEBJQmEvOCPSJQ6OPkp7LZoDHPFtwEdz1J0QPMkpdMg"
RULES = 'rules = [{effect = "allow", filters = ["a/#"]}]'
KEYS = ScramKeys(4096, b"\xff" * 16, b"k" * 32, b"\xfe" * 32)
ALL = User(HASH, frozenset({"a", "b"}), False, Allowed(("p/%u",), ("s/#",)), KEYS)


@pytest.fixture
async def source(server: RunningServer, node_caller: Caller) -> AsyncIterator[Store]:
    """That of the old broker."""
    async with await open_store(server.url, node_caller.prefix, "exports") as store:
        yield store


@pytest.fixture
async def target(server: RunningServer, node_caller: Caller) -> AsyncIterator[Store]:
    """That of the new one."""
    async with await open_store(
        server.url, Caller.with_new_prefix(node_caller.redis).prefix, "imports"
    ) as store:
        yield store


def mover(store: Store) -> UserMover:
    return UserMover(store, UserBook(store))


async def exported(store: Store) -> list[UserRecord]:
    """All pages."""
    moving, found = mover(store), list[UserRecord]()
    page, after = await moving.users(None)
    pages = [page]
    while after is not None:
        page, after = await moving.users(after)
        pages.append(page)
    pages.append(await moving.rules())
    cursor = -1
    while cursor:
        page, cursor = await moving.bans(max(cursor, 0))
        pages.append(page)
    for page in pages:
        assert page.problems == []
        found += page.records
    return found


async def taken(
    store: Store, records: Sequence[UserRecord], *, replaces: bool = False, is_dry: bool = False
) -> dict[str, dict[str, int]]:
    """What has become of them, without zeros."""
    summary = await summed_up(store, records, replaces=replaces, is_dry=is_dry)
    assert summary.problems == []
    return {what: {k: v for k, v in counts.items() if v} for what, counts in summary.access.items()}


async def summed_up(
    store: Store, records: Sequence[UserRecord], *, replaces: bool = False, is_dry: bool = False
) -> Summary:
    summary = Summary()
    await mover(store).take(records, summary, replaces=replaces, is_dry=is_dry)
    return summary


async def filled(store: Store) -> None:
    """With more users than are on a page."""
    book = UserBook(store)
    for number in range(60):
        await book.change(f"user-{number:02}", lambda _: User(HASH))
    await book.change("ünal", lambda _: ALL)
    await book.replace_rules(RULES)
    bans = BanBook(store)
    await bans.add(target_of("client", "c-*"), reason="noisy", by="me", seconds=None)
    await bans.add(target_of("address", "192.0.2.1"), reason="", by="x", seconds=100, is_automatic=True)


async def test_all_of_it_arrives_and_the_same_again_changes_nothing(source: Store, target: Store) -> None:
    await filled(source)
    records = await exported(source)
    expected = {"users": 61, "rules": 1, "bans": 2}
    made = {what: {"made": count} for what, count in expected.items()}
    assert await taken(target, records, is_dry=True) == made
    assert await exported(target) == []
    assert await taken(target, records) == made
    arrived = {_name(each): each for each in await exported(target)}
    assert arrived.keys() == {_name(each) for each in records}
    for record in records:
        if isinstance(record, MovedBan) and record.lives_ms is not None:
            there = arrived[_name(record)]
            assert isinstance(there, MovedBan)
            assert there.lives_ms is not None
            assert 0 < there.lives_ms <= record.lives_ms
            assert there.automatic
        else:
            assert arrived[_name(record)] == record
    assert (await UserBook(target).user("ünal")).user == ALL
    for is_dry in (True, False):
        again = await taken(target, records, is_dry=is_dry)
        assert again == {what: {"there": count} for what, count in expected.items()}


def _name(record: UserRecord) -> str:
    if isinstance(record, MovedUser):
        return f"user {record.name}"
    return "rules" if isinstance(record, MovedRules) else record.target


async def test_what_is_there_stays_unless_it_is_replaced(target: Store) -> None:
    book, bans = UserBook(target), BanBook(target)
    await book.change("a", lambda _: User(HASH))
    await book.replace_rules("")
    forever = target_of("user", "a")
    await bans.add(forever, reason="mine", by="me", seconds=None)
    before = await book.user("a")
    records: list[UserRecord] = [
        MovedUser(kind="user", name="a", hash=HASH, enabled=False),
        MovedRules(kind="rules", text=RULES),
        MovedBan(kind="ban", target=forever.name, reason="theirs", lives_ms=1000),
    ]
    there = {"users": {"there": 1}, "rules": {"there": 1}, "bans": {"there": 1}}
    assert await taken(target, records) == there
    assert await book.user("a") == before
    assert (await bans.page(0))[0][0].reason == "mine"
    replaced = {"users": {"replaced": 1}, "rules": {"replaced": 1}, "bans": {"made": 1}}
    for is_dry in (True, False):
        assert await taken(target, records, replaces=True, is_dry=is_dry) == replaced
    after = await book.user("a")
    assert (after.user.is_enabled, after.credentials_version) == (False, after.version)
    assert (await book.rules())[1] == RULES
    assert (await bans.page(0))[0][0].until_ms > 0


def scram(iterations: int = KEYS.iterations, salt: bytes = KEYS.salt) -> MovedScram:
    return MovedScram(
        iterations=iterations, salt=salt, stored_key=KEYS.stored_key, server_key=KEYS.server_key
    )


@pytest.mark.parametrize("is_dry", [True, False])
async def test_what_can_not_be_is_told_and_left_out(target: Store, is_dry: bool) -> None:
    records: list[UserRecord] = [
        MovedUser(kind="user", name="a:b", hash=HASH),
        MovedUser(kind="user", name="weak", hash="$1$md5"),
        MovedUser(kind="user", name="odd", hash=HASH, rules=MovedAllowed(publish=["a/#/b"])),
        MovedUser(kind="user", name="salty", hash=HASH, scram=scram(salt=b"short")),
        MovedUser(kind="user", name="hasty", hash=HASH, scram=scram(iterations=1)),
        MovedUser(kind="user", name="large", hash=HASH, groups=[f"{n:0250}" for n in range(100)]),
        MovedUser(kind="user", name="well", hash=HASH),
        MovedRules(kind="rules", text="["),
        MovedBan(kind="ban", target="client:*"),
        MovedBan(kind="ban", target="planet:mars"),
        MovedBan(kind="ban", target="client:x", reason="a\nb"),
    ]
    summary = await summed_up(target, records, is_dry=is_dry)
    assert summary.access["users"] == {"made": 1, "replaced": 0, "there": 0, "refused": 6}
    assert (summary.access["rules"]["refused"], summary.access["bans"]["refused"]) == (1, 3)
    told = (
        "user a:b",
        "user weak",
        "user odd",
        "user salty",
        "user hasty",
        "user large",
        "rules: ",
        "client:*",
        "planet:mars",
        "client:x",
    )
    assert [text in problem for text, problem in zip(told, summary.problems, strict=True)] == [True] * 10


async def test_what_can_not_be_read_is_told(source: Store, target: Store, node_caller: Caller) -> None:
    await UserBook(source).change("well", lambda _: User(HASH))
    node_caller.redis.hset(keys.users(source.prefix), "odd", "no user")
    node_caller.redis.zadd(keys.users_index(source.prefix), {"odd": 0})
    node_caller.redis.hset(keys.bans(source.prefix), "client:odd", "no ban")
    page, _ = await mover(source).users(None)
    assert (len(page.records), page.problems) == (1, ["user odd is left out, it can't be read"])
    page, _ = await mover(source).bans(0)
    assert (page.records, len(page.problems)) == ([], 1)
    # And where such a one is, nobody else's takes its place.
    node_caller.redis.hset(keys.users(target.prefix), "odd", "5:5:1:1:no user")
    summary = await summed_up(target, [MovedUser(kind="user", name="odd", hash=HASH)], replaces=True)
    assert summary.access["users"]["refused"] == 1
    assert "can't be read" in summary.problems[0]


def test_a_hash_is_not_in_what_is_logged() -> None:
    assert HASH not in repr(MovedUser(kind="user", name="a", hash=HASH))
