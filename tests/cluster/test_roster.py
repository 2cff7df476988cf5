"""What a node knows of users in Redis: not for longer than it can be sure, and never from before a change."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import cast

import anyio
import pytest

from broker.auth.user import StoredUser, User
from cluster import roster
from cluster.roster import Followers, Roster
from cluster.store import users
from cluster.store.call import Reply, Request
from cluster.store.errors import NodeGone, StoreError, StoreUnavailable
from cluster.store.store import Store
from tests.cluster.waiting import poll_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "LOOK_SECONDS", 0.005)


class Redis:
    """Answers for users and rules as the library does."""

    def __init__(self) -> None:
        self.users: dict[str, tuple[int, User]] = {}
        self.log: list[str] = []
        self.rules: tuple[int, str | None] = (0, None)
        self.asked: list[list[str]] = []
        self.failure: StoreError | None = None
        self.before_answer: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint

    def put(self, name: str, hashed: str = "") -> None:
        self.log.append(name)
        self.users[name] = (len(self.log), User(hashed))

    def delete(self, name: str) -> None:
        self.log.append(name)
        del self.users[name]

    async def call(self, requests: Sequence[Request], *, function: str) -> list[Reply]:
        if self.failure is not None:
            raise self.failure
        ((operation, _, *arguments),) = requests
        answer = self._answer(cast(str, operation), arguments)
        if operation == "find_users":
            await self.before_answer()
        return [answer]

    def _answer(self, operation: str, arguments: list[object]) -> Reply:
        if operation == "users_secret":
            return arguments[0]
        if operation == "read_rules":
            version, text = self.rules
            return [version, False if version == arguments[0] or text is None else text.encode()]
        if operation == "follow_users":
            seen, limit = cast(tuple[int, int], arguments)
            if not 0 <= seen <= len(self.log):
                return [len(self.log), [], False]
            names = self.log[seen : seen + limit]
            return [seen + len(names), [name.encode() for name in names], True]
        assert operation == "find_users"
        names = cast(list[str], arguments[0])
        self.asked.append(names)
        return [len(self.log), [self._value(name) for name in names]]

    def _value(self, name: str) -> object:
        if name not in self.users:
            return False
        version, user = self.users[name]
        return f"{version}:{version}:0:0:".encode() + users.pack_user(user)


class Following:
    """A roster that runs, and what it has told."""

    def __init__(self, entries: int = 100) -> None:
        self.redis = Redis()
        self.now = 0.0
        self.roster = Roster(entries, lambda: self.now)
        self.told: list[Collection[str] | None] = []
        self.rules: list[str | None] = []
        self.failures = 0

    async def on_users(self, names: Collection[str] | None) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("x")
        self.told.append(names)

    async def on_rules(self, text: str | None) -> None:
        self.rules.append(text)

    async def start(self, tasks: anyio.abc.TaskGroup) -> None:
        await tasks.start(self.roster.run, cast(Store, self.redis), Followers(self.on_users, self.on_rules))

    async def until(self, condition: Callable[[], bool]) -> None:
        assert await poll_until(condition, 5, 0.002)

    async def hash_of(self, name: str) -> str | None:
        found = await self.roster.find(name)
        return found.user.hashed if found is not None else None


async def test_users_are_remembered_until_they_change() -> None:
    on = Following()
    on.redis.put("ann", "1")
    async with anyio.create_task_group() as tasks:
        await on.start(tasks)
        assert on.told == [None]  # before anybody may be let in
        assert on.rules == [None]
        assert len(on.roster.secret) == 32
        for _ in range(3):
            assert await on.hash_of("ann") == "1"
            assert await on.hash_of("nobody") is None
        assert on.redis.asked == [["ann"], ["nobody"]]
        on.redis.put("ann", "2")
        on.redis.put("nobody", "3")
        await on.until(lambda: on.told[1:] == [{"ann", "nobody"}])
        assert (await on.hash_of("ann"), await on.hash_of("nobody")) == ("2", "3")
        on.redis.delete("ann")
        await on.until(lambda: len(on.told) == 3)
        assert await on.hash_of("ann") is None
        tasks.cancel_scope.cancel()


async def test_what_is_remembered_does_not_count_while_redis_is_away() -> None:
    on = Following()
    on.redis.put("ann")
    async with anyio.create_task_group() as tasks:
        await on.start(tasks)
        await on.roster.find("ann")
        on.redis.failure = StoreUnavailable("gone")
        await on.roster.find("ann")
        on.now += roster.TRUST_SECONDS
        with pytest.raises(StoreUnavailable, match="gone"):
            await on.roster.find("ann")
        with pytest.raises(StoreUnavailable, match="gone"):
            await on.roster.find_all(["ann"])
        on.redis.failure = None
        assert await on.roster.find("ann") is not None
        tasks.cancel_scope.cancel()


async def test_questions_of_one_moment_are_one() -> None:
    on = Following()
    async with anyio.create_task_group() as tasks:
        await on.start(tasks)
        names = [f"u{number}" for number in range(250)]
        found = await asyncio.gather(*(on.roster.find(name) for name in [*names, *names]))
        assert found == [None] * 500
        assert [len(each) for each in on.redis.asked] == [100, 100, 50]
        tasks.cancel_scope.cancel()


async def test_an_answer_from_before_a_change_is_given_to_nobody() -> None:
    on = Following()
    on.redis.put("ann", "old")
    answering = anyio.Event()
    may_answer = anyio.Event()

    async def hold() -> None:
        answering.set()
        await may_answer.wait()

    async with anyio.create_task_group() as tasks:
        await on.start(tasks)
        on.redis.before_answer = hold
        asked = asyncio.ensure_future(on.hash_of("ann"))
        await answering.wait()
        on.redis.put("ann", "new")
        await on.until(lambda: len(on.told) == 2)
        late = asyncio.ensure_future(on.hash_of("ann"))
        await anyio.lowlevel.checkpoint()
        may_answer.set()
        assert [await asked, await late, await on.hash_of("ann")] == ["new"] * 3
        assert on.redis.asked == [["ann"], ["ann"]]
        tasks.cancel_scope.cancel()


async def test_a_redis_that_has_lost_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the node has noticed that nobody is let in."""
    monkeypatch.setattr(roster, "LOOK_SECONDS", 0.5)
    on = Following()
    on.redis.put("ann")
    async with anyio.create_task_group() as tasks:
        await on.start(tasks)
        on.roster._seen = 7
        with pytest.raises(StoreUnavailable, match="lost changes"):
            await on.roster.find_all(["ann"])
        await on.until(lambda: on.told == [None, None])
        assert await on.hash_of("ann") == ""
        tasks.cancel_scope.cancel()


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(roster, "WAITING_MAXIMUM", 2)
    on = Following()
    on.redis.before_answer = anyio.sleep_forever
    async with anyio.create_task_group() as tasks:
        await on.start(tasks)
        answers = await asyncio.gather(*(on.roster.find(n) for n in "aabc"), return_exceptions=True)
        assert [str(answer) for answer in answers] == [
            *["no answer for 0.05 s"] * 3,
            "too many users are waited for",
        ]
        tasks.cancel_scope.cancel()


async def test_before_it_runs_nobody_is_known() -> None:
    with pytest.raises(StoreUnavailable):
        await Roster(1).find_all(["ann"])


async def test_guesses_push_nobody_out() -> None:
    on = Following(entries=3)
    for name in ("a", "b", "c", "d"):
        on.redis.put(name)
    async with anyio.create_task_group() as tasks:
        await on.start(tasks)
        for name in ["a", "b", "c", *(f"guess{number}" for number in range(10)), "a", "d", "a", "c"]:
            await on.roster.find(name)
        assert on.redis.asked[13:] == [["d"]]
        await on.roster.find("b")  # was not asked for the longest time
        assert on.redis.asked[14:] == [["b"]]
        tasks.cancel_scope.cancel()


async def test_who_could_not_be_told_is_told_again() -> None:
    on = Following()
    async with anyio.create_task_group() as tasks:
        await on.start(tasks)
        on.failures = 2
        on.redis.put("ann")
        await on.until(lambda: not on.failures)
        on.redis.put("bob")
        await on.until(lambda: {"ann"} in on.told[1:] or {"ann", "bob"} in on.told[1:])
        await on.until(lambda: {name for names in on.told[1:] for name in names or ()} == {"ann", "bob"})
        on.redis.log.clear()  # as if Redis had been restored from a back-up
        on.redis.log += ["ann"]
        await on.until(lambda: on.told[-1] is None)
        tasks.cancel_scope.cancel()


async def test_many_changes_at_once() -> None:
    on = Following()
    async with anyio.create_task_group() as tasks:
        await on.start(tasks)
        for number in range(2500):
            on.redis.put(f"u{number}")
        await on.until(lambda: len(on.told) == 2)
        assert len(on.told[1] or ()) == 2500
        tasks.cancel_scope.cancel()


async def test_rules_are_told_when_they_change() -> None:
    on = Following()
    on.redis.rules = (1, "a")
    async with anyio.create_task_group() as tasks:
        await on.start(tasks)
        assert on.rules == ["a"]
        on.redis.rules = (2, "b")
        await on.until(lambda: on.rules == ["a", "b"])
        on.redis.rules = (3, None)
        await on.until(lambda: on.rules == ["a", "b", None])
        tasks.cancel_scope.cancel()


async def test_a_node_that_is_declared_dead_ends() -> None:
    on = Following()
    raised: list[BaseException] = []
    try:
        async with anyio.create_task_group() as tasks:
            await on.start(tasks)
            on.redis.failure = NodeGone("gone")
    except* NodeGone as gone:
        raised.append(gone)
    assert raised


async def test_only_what_somebody_follows_is_asked_for() -> None:
    on = Following()
    on.redis.rules = (1, "a")
    async with anyio.create_task_group() as tasks:
        await tasks.start(on.roster.run, cast(Store, on.redis), Followers(None, on.on_rules))
        assert (on.rules, on.told, on.roster.secret) == (["a"], [], b"")
        tasks.cancel_scope.cancel()


async def test_the_secret_alone() -> None:
    on = Following()
    on.redis.failure = StoreUnavailable("x")

    async def answer() -> None:
        await anyio.lowlevel.checkpoint()
        on.redis.failure = None

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        await tasks.start(on.roster.run, cast(Store, on.redis), Followers(None, None, wants_secret=True))
        assert len(on.roster.secret) == 32
        tasks.cancel_scope.cancel()


def test_a_user_says_who_it_is() -> None:
    user = StoredUser("ann", User("secret"), 3, 1, 0, 0)
    assert "secret" not in repr(user)
    assert user.identity("s").version == 3
