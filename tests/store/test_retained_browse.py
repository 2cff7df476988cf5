"""Retained messages as an operator looks at them: names by prefix and level, in order, and what is there."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.retained import RetainedBook
from cluster.store import keys, records, retained
from cluster.store.call import Reply, Request
from cluster.store.retained_browse import Facts, LevelFacts, member_of
from tests.store.caller import Caller

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class _Store:
    """The part of a store that a book uses."""

    def __init__(self, caller: Caller) -> None:
        self.calls = 0
        self._caller = caller

    async def call(self, requests: Sequence[Request], *, function: str) -> list[Reply]:
        self.calls += 1
        assert len(requests) <= 100
        return self._caller.call(requests, function=function)


def book_of(caller: Caller) -> tuple[RetainedBook, _Store]:
    store = _Store(caller)
    return RetainedBook(store), store  # type: ignore[arg-type]  # all that it asks of a store


def keep(caller: Caller, *topics: str, payload: bytes = b"12345", deadline_ms: int = 0) -> None:
    record = records.pack_retained(payload, 1, b"", deadline_ms)
    for reply in caller.call([retained.retain(topic, record, deadline_ms, False, 0) for topic in topics]):
        assert reply == 1


async def all_topics(book: RetainedBook, prefix: str, limit: int) -> list[str]:
    found: list[str] = []
    after: str | None = None
    while True:
        page = await book.page(prefix, after, limit)
        assert len(page.items) <= limit
        assert all(facts == Facts(5, 1, 0) for _, facts in page.items)
        found += [topic for topic, _ in page.items]
        after = page.following
        if after is None:
            return found
        assert len(page.items) == limit


async def all_levels(book: RetainedBook, prefix: str, limit: int) -> dict[str, LevelFacts]:
    found: dict[str, LevelFacts] = {}
    after: str | None = None
    while True:
        page = await book.levels(prefix, after, limit)
        assert not found.keys() & dict(page.items).keys()
        found.update(page.items)
        after = page.following
        if after is None:
            return found


TREE = ("/", "/a", "a", "a/", "a//b", "a/b", "a/b/c", "a/b c", "a b", "a!", "ä/%/{x}", "b/1/2/3", "zz/\x7f")


async def test_prefixes_and_levels(caller: Caller) -> None:
    keep(caller, *TREE)
    book, _ = book_of(caller)
    assert await all_topics(book, "", 3) == sorted(TREE, key=member_of)
    assert await all_topics(book, "a/b", 2) == ["a/b", "a/b/c", "a/b c"]
    assert await all_topics(book, "a", 2) == ["a", "a/", "a//b", "a/b", "a/b/c", "a/b c", "a b", "a!"]
    assert await all_topics(book, "a/b/c/", 2) == await all_topics(book, "none", 2) == []
    assert await all_levels(book, "", 2) == {
        "": LevelFacts(False, 2),
        "a": LevelFacts(True, 5),
        "a b": LevelFacts(True, 0),
        "a!": LevelFacts(True, 0),
        "b": LevelFacts(False, 1),
        "zz": LevelFacts(False, 1),
        "ä": LevelFacts(False, 1),
    }
    assert await all_levels(book, "a/", 1) == {
        "a/": LevelFacts(True, 1),
        "a/b": LevelFacts(True, 1),
        "a/b c": LevelFacts(True, 0),
    }
    assert await all_levels(book, "/", 1) == {"/": LevelFacts(True, 0), "/a": LevelFacts(True, 0)}
    assert await all_levels(book, "a/b", 9) == {"a/b": LevelFacts(True, 1), "a/b c": LevelFacts(True, 0)}
    assert await all_levels(book, "ä/%/", 9) == {"ä/%/{x}": LevelFacts(True, 0)}


async def test_what_is_there(caller: Caller) -> None:
    book, _ = book_of(caller)
    now_ms = caller.now_ms()
    keep(caller, "x/gone", deadline_ms=now_ms - 1)
    keep(caller, "x/later", payload=b"", deadline_ms=now_ms + 60_000)
    keep(caller, *(f"x/large/{n}" for n in range(3)), payload=b"\xff" * 600_000)
    page = await book.page("x/", None, 10)
    assert dict(page.items)["x/later"] == Facts(0, 1, now_ms + 60_000)
    sizes = [facts.size_bytes for topic, facts in page.items if topic.startswith("x/large")]
    assert sizes[0] == 600_000
    assert [600_000 < size < 600_100 for size in sizes[1:]] == [True, True]
    assert [facts.qos for _, facts in page.items] == [1, None, None, 1]
    assert await book.message("x/gone") is None
    message = await book.message("x/later")
    assert message is not None
    assert (message.qos, message.deadline_ms) == (1, now_ms + 60_000)
    retained_key = keys.retained(caller.prefix, keys.bucket_of("x"))
    for damaged in (b"no stamp", b"0:\xc1", b"0:\x01"):
        caller.redis.hset(retained_key, "x/later", damaged)
        assert dict((await book.page("x/", None, 10)).items)["x/later"] == Facts(len(damaged), None, None)
    caller.redis.hdel(retained_key, "x/later")  # the index says it still
    assert "x/later" not in dict((await book.page("x/", None, 10)).items)


async def test_a_page_of_many_topics_costs_few_calls(caller: Caller) -> None:
    keep(caller, *(f"f{n}" for n in range(600)), *(f"one/{n:04}" for n in range(600)))
    book, store = book_of(caller)
    assert len((await book.page("", None, 500)).items) == 500
    assert store.calls <= 8 + 5 + 4
    store.calls = 0
    assert [topic for topic, _ in (await book.page("one/", "one/0009", 3)).items] == [
        f"one/{n:04}" for n in (10, 11, 12)
    ]
    assert store.calls == 2
    store.calls = 0
    assert (await book.levels("one", None, 100)).items == [("one", LevelFacts(False, 600))]


LEVELS = st.sampled_from(["", "a", "b", "a b", "ä", "\x01", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(topics=st.sets(TOPICS, max_size=25), prefix=TOPICS | st.just(""), limit=st.integers(1, 12))
async def test_any_topics(caller: Caller, topics: set[str], prefix: str, limit: int) -> None:
    fresh = Caller.with_new_prefix(caller.redis)
    keep(fresh, *topics)
    book, _ = book_of(fresh)
    below = sorted((topic for topic in topics if topic.startswith(prefix)), key=member_of)
    assert await all_topics(book, prefix, limit) == below
    names = list(dict.fromkeys(prefix + topic[len(prefix) :].partition("/")[0] for topic in below))
    assert await all_levels(book, prefix, limit) == {
        name: LevelFacts(name in topics, sum(topic.startswith(f"{name}/") for topic in topics))
        for name in names
    }
