"""Pages of the whole cluster, merged from its buckets, on a real Redis."""

import random
from collections.abc import AsyncIterator

import pytest

from cluster.browsing import LETTERS_LOOKED_AT, SESSIONS_LOOKED_AT, Browser
from cluster.store import keys, letters, sessions, shares
from cluster.store.connection import Connection
from cluster.store.entry import pack_body, pack_head
from cluster.store.letters import Letter
from cluster.store.queues import Peeked
from cluster.store.sessions import Claim
from cluster.store.shares import Policy, ShareBrief
from cluster.store.store import open_store
from tests.store.caller import BODY, HEAD, Caller
from tests.store.servers import RunningServer

pytestmark = pytest.mark.anyio

NAMES = sorted([*(f"lamp-{number}" for number in range(700)), *(f"été/{number}" for number in range(50))])


@pytest.fixture
def caller(node_caller: Caller) -> Caller:
    """A node."""
    return node_caller


@pytest.fixture
async def browser(server: RunningServer, caller: Caller) -> AsyncIterator[Browser]:
    """Of the same cluster."""
    async with await open_store(server.url, caller.prefix, "looks") as store:
        yield Browser(store)


def make_sessions(caller: Caller, names: list[str]) -> list[Claim]:
    """All are connected."""
    claims: list[Claim] = []
    for first in range(0, len(names), 50):
        replies = caller.call(
            [
                sessions.claim(
                    name, nonce=b"n", clean_start=False, expiry_seconds=60, protocol=4, window=10, will=None,
                    will_delay_seconds=0,
                )
                for name in names[first : first + 50]
            ]
        )  # fmt: skip
        claims += map(sessions.parse_claim, replies)
    return claims


def disconnect(caller: Caller, claims: dict[str, Claim]) -> None:
    caller.call(
        [
            sessions.detach(name, claim.epoch, sent=0, expiry_seconds=None, fire_will=True)
            for name, claim in claims.items()
        ]
    )


async def all_sessions(browser: Browser, limit: int, beginning: str = "") -> list[str]:
    found: list[str] = []
    after: str | None = None
    while True:
        page = await browser.sessions(limit, beginning=beginning, after=after)
        found += [brief.client_id for brief in page.items]
        assert len(page.items) <= limit
        if page.after is None:
            return found
        assert page.after == found[-1]
        after = page.after


async def test_sessions_are_in_the_order_of_their_ids(browser: Browser, caller: Caller) -> None:
    make_sessions(caller, random.Random(1).sample(NAMES, len(NAMES)))
    for limit in (1, 7, 100, 500, 1000):
        wanted = NAMES if limit > 1 else NAMES[:20]
        found = await all_sessions(browser, limit) if limit > 1 else []
        if limit == 1:
            after = None
            for _ in wanted:
                page = await browser.sessions(1, after=after)
                after = page.after
                found.append(page.items[0].client_id)
        assert found == wanted


async def test_sessions_are_found_by_how_their_ids_begin(browser: Browser, caller: Caller) -> None:
    make_sessions(caller, NAMES)
    for beginning in ("lamp-1", "été", "lamp-699", "nobody", "z"):
        expected = [name for name in NAMES if name.startswith(beginning)]
        assert await all_sessions(browser, 20, beginning) == expected


async def test_all_in_one_bucket_are_found(browser: Browser, caller: Caller) -> None:
    names = sorted(name for name in (f"c{number}" for number in range(20_000)) if keys.bucket_of(name) == 7)
    make_sessions(caller, names)
    assert len(names) > 250
    assert await all_sessions(browser, 100) == names


async def test_a_page_that_chooses_ends_after_so_many(browser: Browser, caller: Caller) -> None:
    names = [f"c{number:05}" for number in range(SESSIONS_LOOKED_AT + 100)]
    claims = make_sessions(caller, names)
    disconnect(caller, {names[-1]: claims[-1]})
    page = await browser.sessions(50, is_connected=False)
    assert (page.items, page.after) == ([], names[SESSIONS_LOOKED_AT - 1])
    page = await browser.sessions(50, is_connected=False, after=page.after)
    assert [brief.client_id for brief in page.items] == names[-1:]
    assert page.after is None


@pytest.mark.parametrize("is_connected", [True, False])
async def test_pages_by_state_have_each_once(browser: Browser, caller: Caller, is_connected: bool) -> None:
    claims = dict(zip(NAMES, make_sessions(caller, NAMES), strict=True))
    away = set(NAMES[::3])
    disconnect(caller, {name: claims[name] for name in away})
    expected = [name for name in NAMES if (name in away) != is_connected]
    for limit in (40, 249, 500):
        found: list[str] = []
        after: str | None = None
        while True:
            page = await browser.sessions(limit, after=after, is_connected=is_connected)
            found += [brief.client_id for brief in page.items]
            assert len(page.items) <= limit
            after = page.after
            if after is None:
                break
        assert found == expected


async def test_a_page_takes_few_round_trips(
    browser: Browser, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sessions(caller, NAMES)
    calls: list[int] = []
    ask = Connection.ask

    async def counted(connection: Connection, commands: bytes, count: int) -> list[object]:
        calls.append(count)
        return await ask(connection, commands, count)

    monkeypatch.setattr(Connection, "ask", counted)
    await browser.sessions(1)  # connects
    for limit, round_trips in ((100, 4), (500, 10)):
        calls.clear()
        assert len((await browser.sessions(limit)).items) == limit
        assert round_trips <= len(calls) <= round_trips + 2  # a bucket may run out
        assert max(calls) <= 4
    calls.clear()
    assert (await browser.sessions(100, is_connected=False)).items == []
    assert len(calls) <= 6


async def test_a_session_that_there_is_not(browser: Browser) -> None:
    assert await browser.brief("nobody") is None
    assert (await browser.queue("nobody", 10, from_tail=False)).items == []
    assert await browser.shares(["g/f"]) == [ShareBrief(0, 0, 0)]
    assert (await browser.letters(10)).items == []


@pytest.mark.parametrize("from_tail", [False, True])
async def test_what_waits_is_read_from_both_ends(browser: Browser, caller: Caller, from_tail: bool) -> None:
    claim = caller.subscribed()
    big = pack_body("big", bytes(300_000), b"", 4_000_000_000_000)
    for number in range(12):
        caller.enqueue(
            1, body=big if number in (3, 4) else BODY, head=pack_head(number % 2 + 1, number == 0, ())
        )
    found: list[Peeked] = []
    behind: str | None = None
    sizes = []
    while True:
        page = await browser.queue("c", 10, from_tail=from_tail, behind=behind)
        found += page.items
        sizes.append(len(page.items))
        behind = page.after
        if behind is None:
            break
    if from_tail:
        found.reverse()
    assert [entry.n for entry in found] == list(range(1, 13))
    assert sizes == ([8, 4, 0] if from_tail else [4, 4, 4])  # large ones end a page
    assert found[0] == Peeked(f"{claim.gen}-1", 1, True, "t", len(b"payload"), 0)
    assert found[3] == Peeked(f"{claim.gen}-4", 2, False, "big", 300_000, 4_000_000_000_000)


async def test_how_a_group_stands(browser: Browser, caller: Caller) -> None:
    policy = Policy("balanced", 60_000)
    entries = [HEAD, 0, False, 0] * 5
    caller.ask(shares.share("g/f", 100, True, policy, entries), [BODY])
    assert await browser.shares(["g/f"]) == [ShareBrief(5, 0, 0)]
    caller.ask(shares.join("g/f", "s:c", 1, 2, 1, policy))
    assert await browser.shares(["none", "g/f"]) == [ShareBrief(0, 0, 0), ShareBrief(3, 2, 1)]


async def all_letters(browser: Browser, limit: int, client_id: str | None = None) -> list[Letter]:
    found: list[Letter] = []
    after: str | None = None
    while True:
        page = await browser.letters(limit, client_id=client_id, after=after)
        found += page.items
        if page.after is None:
            return found
        after = page.after


async def test_letters_come_newest_first(browser: Browser, caller: Caller) -> None:
    for first in range(0, 300, 50):
        numbers = range(first, first + 50)
        caller.call([letters.letter(f"c{number % 40}", f"t{number}", "expired") for number in numbers])
    everything = await all_letters(browser, 500)
    assert len(everything) == 300
    assert [letter.at_ms for letter in everything] == sorted(
        (letter.at_ms for letter in everything), reverse=True
    )
    for limit in (3, 64, 100):
        assert await all_letters(browser, limit) == everything
    own = [letter for letter in everything if letter.client_id == "c7"]
    assert len(own) == 300 // 40 + 1
    assert await all_letters(browser, 3, "c7") == own
    assert own[0].topic == "t287"


async def test_a_look_for_letters_of_one_client_ends_after_so_many(browser: Browser, caller: Caller) -> None:
    names = [name for name in (f"c{number}" for number in range(200)) if keys.bucket_of(name) == 9]
    caller.call([letters.letter(names[0], "t", "expired")])
    for _ in range(0, LETTERS_LOOKED_AT, 200):
        caller.call([letters.letter(names[1], "t", "expired")] * 200)
    page = await browser.letters(5, client_id=names[0])
    assert page.items == []
    page = await browser.letters(5, client_id=names[0], after=page.after)
    assert [letter.client_id for letter in page.items] == [names[0]]
    assert page.after is None


async def test_letters_of_a_group_are_in_its_bucket(browser: Browser, caller: Caller) -> None:
    policy = Policy("balanced", 60_000)
    caller.ask(shares.share("g/f", 1, True, policy, [HEAD, 0, False, 0] * 3), [BODY])
    found = await all_letters(browser, 10, "$share/g/f")
    assert [letter.reason for letter in found] == ["drop_new"] * 2


@pytest.mark.parametrize("cursor", ["", "1", "1-2", "a-b-c", "1-2-3-4", "-1-2-3", f"{1 << 63}-1-1"])
async def test_cursors_that_are_none(browser: Browser, cursor: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        await browser.letters(10, after=cursor)
