"""Pages of an index with subscriptions of every kind, against what was put into it."""

from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.client.listing_subscriptions import page_of
from broker.mqtt import EXCLUSIVE_PREFIX, SHARE_PREFIX, matches
from broker.routing import Subscriber, SubscriptionIndex
from cluster.clients import WhichSubscriptions
from cluster.store import records

pytestmark = pytest.mark.anyio

OPTIONS = records.pack_options(1, True, False, 2, 7)
FILTERS = st.sampled_from(["a", "a/b", "a/+", "a/#", "b", "#", "ab/c", "+/b"])
KINDS = st.sampled_from(["kept", "direct", "exclusive", "shared", "shared direct"])
SUBSCRIPTIONS = st.sets(st.tuples(KINDS, FILTERS, st.integers(0, 4)), max_size=30)

Found = tuple[str, str]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def filter_of(kind: str, filter: str) -> str:
    """As the client has subscribed to it."""
    if kind.startswith("shared"):
        return f"{SHARE_PREFIX}group/{filter}"
    return f"{EXCLUSIVE_PREFIX}{filter}" if kind == "exclusive" else filter


def index_of(subscriptions: set[tuple[str, str, int]]) -> SubscriptionIndex:
    index = SubscriptionIndex("this")
    index.add_interest("other", "1:a/b")
    direct = [Subscriber(f"d{number}", 0, True) for number in range(5)]
    for kind, filter, number in subscriptions:
        if kind.endswith("direct"):
            index.add(direct[number], filter_of(kind, filter), OPTIONS, 0)
        else:
            index.add_row(f"k{number}", filter_of(kind, filter), OPTIONS, 1)
    return index


def expected_of(
    subscriptions: set[tuple[str, str, int]], *, persistent: bool = True
) -> set[tuple[str, Found]]:
    """What topics are matched with, and what is shown."""
    return {
        (filter, (filter_of(kind, filter), f"{'d' if kind.endswith('direct') else 'k'}{number}"))
        for kind, filter, number in subscriptions
        if persistent or kind.endswith("direct")
    }


async def walk(index: SubscriptionIndex, limit: int, **which: Any) -> list[Found]:
    """All pages."""
    found: list[Found] = []
    after = ""
    while True:
        page = cast(Any, await page_of(index, WhichSubscriptions(after=after, limit=limit, **which)))
        items = page["subscriptions"]
        assert len(items) <= limit
        found += [(item["filter"], item["client_id"]) for item in items]
        if not page["more"]:
            return found
        assert items[-1]["place"] > after
        after = items[-1]["place"]


@settings(max_examples=60, deadline=None)
@given(SUBSCRIPTIONS, st.integers(1, 7), st.sampled_from(["", "a", "a/", "$share/", "$share/group/a", "z"]))
async def test_pages_have_each_once(
    subscriptions: set[tuple[str, str, int]], limit: int, beginning: str
) -> None:
    index = index_of(subscriptions)
    expected = {
        shown
        for matched, shown in expected_of(subscriptions)
        if (shown[0] if shown[0].startswith(SHARE_PREFIX) else matched).startswith(beginning)
    }
    found = await walk(index, limit, beginning=beginning)
    assert sorted(found) == sorted(expected)
    for topic in ("a/b", "b", "a"):
        expected = {shown for matched, shown in expected_of(subscriptions) if matches(matched, topic)}
        assert sorted(await walk(index, limit, topic=topic)) == sorted(expected)
    own = {shown for _, shown in expected_of(subscriptions, persistent=False)}
    assert sorted(await walk(index, limit, persistent=False)) == sorted(own)


async def test_many_clients_with_one_filter_and_many_filters() -> None:
    index = SubscriptionIndex("this")
    for number in range(700):
        index.add_row(f"k{number:04}", "news", OPTIONS, 1)
        index.add_row(f"k{number:04}", f"own/{number:04}", OPTIONS, 1)
    everything = [
        *(("news", f"k{n:04}") for n in range(700)),
        *((f"own/{n:04}", f"k{n:04}") for n in range(700)),
    ]
    assert await walk(index, 99) == everything
    assert await walk(index, 500, topic="news") == everything[:700]
    assert await walk(index, 500, beginning="own/00") == everything[700:800]


async def test_an_exclusive_subscription_beside_very_many() -> None:
    index = SubscriptionIndex("this")
    for number in range(200):
        index.add_row(f"k{number:03}", "news", OPTIONS, 1)
    index.add_row("k100", "$exclusive/news", OPTIONS, 1)
    index.add_row("a", "new", OPTIONS, 1)
    index.add_row("a", "news/x", OPTIONS, 1)
    expected = [
        ("new", "a"),
        *(("news", f"k{n:03}") for n in range(101)),
        ("$exclusive/news", "k100"),
        *(("news", f"k{n:03}") for n in range(101, 200)),
        ("news/x", "a"),
    ]
    for limit in (1, 30, 102, 500):
        assert await walk(index, limit) == expected
    assert await walk(index, 30, topic="news") == expected[1:-1]


async def test_a_page_is_full_though_the_first_of_it_go_meanwhile() -> None:
    """What was found first is gone when it is read."""
    index = SubscriptionIndex("this")
    for number in range(500):
        index.add_row("k", f"f/{number:05}", OPTIONS, 1)
    found: list[object] = []

    async def list_them() -> None:
        found.append(await page_of(index, WhichSubscriptions(limit=20)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(list_them)
        await anyio.lowlevel.checkpoint()
        for number in range(100):
            index.remove_row("k", f"f/{number:05}", 2)
    page = cast(Any, found[0])
    assert [item["filter"] for item in page["subscriptions"]] == [f"f/{n:05}" for n in range(100, 120)]
    assert page["more"]


async def test_what_is_shown_of_one() -> None:
    index = SubscriptionIndex("this")
    index.add_row("k", "$exclusive/a", OPTIONS, 1)
    page = cast(Any, await page_of(index, WhichSubscriptions()))
    assert page == {
        "subscriptions": [
            {
                "place": "a\0k\0x",
                "client_id": "k",
                "filter": "$exclusive/a",
                "qos": 1,
                "no_local": True,
                "retain_as_published": False,
                "retain_handling": 2,
                "subscription_identifier": 7,
            }
        ],
        "more": False,
    }


async def test_an_answer_has_about_half_a_megabyte() -> None:
    index = SubscriptionIndex("this")
    for number in range(20):
        index.add_row("k", f"{'x' * 60_000}{number}", OPTIONS, 1)
    page = cast(Any, await page_of(index, WhichSubscriptions()))
    assert 1 < len(page["subscriptions"]) < 10
    assert len(await walk(index, 500)) == 20
