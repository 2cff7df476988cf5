"""What other processes ask of this node about subscriptions (`cluster.clients`).

All nodes know those of persistent sessions, and each knows those of its direct ones. There may be a million:
so the keys of the rows are looked at in parts, with pauses, and only what may be on the page is kept; what
stands at a key is read once it is known to be there."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Final

import anyio.lowlevel
from pydantic import TypeAdapter

from broker.client.hub import Hub
from broker.client.listing import ANSWER_BYTES, AT_A_TIME, parsed
from broker.mqtt import EXCLUSIVE_PREFIX, SHARE_PREFIX, is_exclusive, without_exclusive
from broker.routing import Subscription, SubscriptionIndex
from broker.routing.packed import HIGHEST, PART_PAGES, PackedMap
from broker.routing.subscription import EXCLUSIVE_NAME, options_of
from cluster.browsing import shown_subscription
from cluster.clients import (
    GROUPS,
    SUBSCRIPTIONS,
    SUBSCRIPTIONS_OF,
    WhichClient,
    WhichGroups,
    WhichSubscriptions,
)
from cluster.questions import Answerer

_SUBSCRIPTION_BYTES: Final = 200  # without its names
_KEYS_AT_A_TIME: Final = 50  # of some dozens of rows at most
_WHICH: Final = TypeAdapter(WhichSubscriptions)
_ONE: Final = TypeAdapter(WhichClient)
_GROUPS: Final = TypeAdapter(WhichGroups)

_Found = tuple[str, str, bytes]
"""Place, Topic Filter, packed options. Pages are in the order of places: what topics are matched with, then
the client."""


def subscription_answerers(hub: Hub) -> dict[str, Answerer]:
    """By the names of the questions."""
    return {
        SUBSCRIPTIONS: partial(_list, hub),
        SUBSCRIPTIONS_OF: partial(_list_of, hub),
        GROUPS: partial(_list_groups, hub),
    }


async def _list(hub: Hub, question: bytes) -> object:
    which = parsed(_WHICH, question)
    await hub.committer.follow_now()  # a subscription counts from its SUBACK
    return await page_of(hub.index, which)


async def page_of(index: SubscriptionIndex, which: WhichSubscriptions) -> dict[str, object]:
    """A page of what the index has, other nodes' interest left out."""
    page = _Page(which)
    for found in _objects(index, which):
        page.take(found)
        await anyio.lowlevel.checkpoint()
    if which.persistent and which.topic is None:
        await _take_rows(index.rows, without_exclusive(which.beginning).encode(), page)
    elif which.persistent and which.topic is not None:
        for filter in index.filters_matching(which.topic):
            await _take_rows_of(index.rows, filter.encode(), page)
    return page.shown()


class _Page:
    """The first subscriptions beyond `after`, of those that were taken. `after_key` and `after_name`: what is
    matched by that one, and its client. `count`: so many are needed to know whether there are more."""

    def __init__(self, which: WhichSubscriptions) -> None:
        self._after = which.after
        self._limit = which.limit
        self._kept: list[_Found] = []
        key, _, rest = which.after.partition("\0")
        self.after_key = key.encode()
        self.after_name = rest.partition("\0")[0].encode()
        self.count = which.limit + 1

    @property
    def end(self) -> bytes:
        """Nothing that is matched by more than this can be on the page any more; HIGHEST: anything can."""
        return self._kept[-1][0].partition("\0")[0].encode() if self._is_full else HIGHEST

    def is_full_up_to(self, place: bytes) -> bool:
        """Whether nothing from there on can be on the page any more."""
        return self._is_full and self._kept[-1][0].encode() <= place

    @property
    def _is_full(self) -> bool:
        return len(self._kept) == self.count

    def take(self, found: Iterable[_Found]) -> None:
        """Some may come twice."""
        beyond = {each for each in found if each[0] > self._after}
        if beyond:
            self._kept = heapq.nsmallest(self.count, beyond.union(self._kept))

    def shown(self) -> dict[str, object]:
        page: list[object] = []
        size = 0
        for place, filter, options in self._kept[: self._limit]:
            size += _SUBSCRIPTION_BYTES + len(place) + len(filter)
            if page and size > ANSWER_BYTES:
                break
            client_id = place.split("\0")[1]
            page.append({"place": place, **shown_subscription(client_id, filter, options)})
        return {"subscriptions": page, "more": len(page) < len(self._kept)}


def _objects(index: SubscriptionIndex, which: WhichSubscriptions) -> Iterator[list[_Found]]:
    """Of direct sessions, and shared ones: all that may be on the page, some at a time."""
    if which.topic is None:
        beginning = without_exclusive(which.beginning)
        held = _held_from(index, beginning)
        shares = [name for name in index.shares if f"{SHARE_PREFIX}{name}".startswith(beginning)]
    else:
        filters = index.filters_matching(which.topic)
        held = (list(index.held.get(filter, {}).values()) for filter in filters)
        wanted = set(filters)
        shares = [name for name in index.shares if name.partition("/")[2] in wanted]
    for several in chain(held, (_members(index, name) for name in shares)):
        for first in range(0, len(several), AT_A_TIME):
            yield [
                _found_of(each)
                for each in several[first : first + AT_A_TIME]
                if not each.subscriber.node
                and each.subscriber.share is None
                and (which.persistent or each.subscriber.is_direct)
            ]


def _held_from(index: SubscriptionIndex, beginning: str) -> Iterator[list[Subscription]]:
    filters = list(index.held)
    for first in range(0, len(filters), AT_A_TIME):
        yield [
            each
            for filter in filters[first : first + AT_A_TIME]
            if filter.startswith(beginning)
            for each in index.held.get(filter, {}).values()
        ]


def _members(index: SubscriptionIndex, name: str) -> list[Subscription]:
    share = index.shares.get(name)
    return list(share.members.values()) if share is not None else []


async def _take_rows(rows: PackedMap, beginning: bytes, page: _Page) -> None:
    """Of filters that begin so."""

    def rows_at(rest: bytes) -> Iterator[_Found]:
        key = beginning + rest
        return (_found_in(key, name, value) for name, value in rows.names(key))

    low, high = _within(beginning, page.after_key, b""), _within(beginning, page.end, HIGHEST)
    if low is None or high is None:
        return
    await _take_first(page, rows, beginning, low, high, beginning, rows_at)
    for key, crowd in sorted(rows.crowds(beginning), key=itemgetter(0)):
        if key > page.end:
            break
        if key >= page.after_key:
            await _take_crowd(page, key, crowd)


async def _take_rows_of(rows: PackedMap, key: bytes, page: _Page) -> None:
    """Of one filter."""
    for name, crowd in rows.crowds(key):
        if name == key:
            await _take_crowd(page, key, crowd)
            return
    page.take(_found_in(key, name, value) for name, value in rows.names(key))
    await anyio.lowlevel.checkpoint()


async def _take_crowd(page: _Page, key: bytes, crowd: PackedMap) -> None:
    """Of one that very many clients have."""
    low = page.after_name if key == page.after_key else b""
    for mark, lowest in ((b"", b"\1"), (EXCLUSIVE_NAME, b"")):

        def row_at(rest: bytes, mark: bytes = mark) -> Iterator[_Found]:
            value = crowd.get(mark + rest, b"")
            return iter(() if value is None else (_found_in(key, mark + rest, value),))

        await _take_first(page, crowd, mark, max(low, lowest), HIGHEST, key + b"\0", row_at)


def _within(beginning: bytes, key: bytes, otherwise: bytes) -> bytes | None:
    """A bound for what follows `beginning` in keys, so that they are on the side of `key` that counts:
    `otherwise` if all are, None if none is."""
    if key.startswith(beginning):
        return key[len(beginning) :]
    return otherwise if (key < beginning) == (otherwise == b"") else None


async def _take_first(
    page: _Page,
    rows: PackedMap,
    beginning: bytes,
    low: bytes,
    high: bytes,
    before: bytes,
    found_at: Callable[[bytes], Iterator[_Found]],
) -> None:
    """Takes what there is at the first keys between the bounds, in order; `before` and what follows in a key
    are the beginning of its places. Goes on if too many of them have gone meanwhile."""
    count = page.count + 1  # what is at the first one may be on the page before
    while True:
        rests = await _first_rests(rows, beginning, low, high, count)
        for first in range(0, len(rests), _KEYS_AT_A_TIME):
            if page.is_full_up_to(before + rests[first]):
                return
            page.take(chain.from_iterable(map(found_at, rests[first : first + _KEYS_AT_A_TIME])))
            await anyio.lowlevel.checkpoint()
        if len(rests) < count or page.is_full_up_to(before + rests[-1] + b"\1"):
            return
        low = rests[-1]


async def _first_rests(rows: PackedMap, beginning: bytes, low: bytes, high: bytes, count: int) -> list[bytes]:
    """See `PackedMap.rests`."""
    kept: list[bytes] = []
    first = 0
    while (found := rows.rests(first, beginning, low, high)) is not None:
        if found:
            kept = sorted({*kept, *found})[:count]
            high = kept[-1] if len(kept) == count else high
        first += PART_PAGES
        await anyio.lowlevel.checkpoint()
    return kept


def _found_in(key: bytes, name: bytes, value: bytes) -> _Found:
    matched = key.decode()
    if name.startswith(EXCLUSIVE_NAME):
        client_id = name[len(EXCLUSIVE_NAME) :].decode()
        filter = f"{EXCLUSIVE_PREFIX}{matched}"
    else:
        client_id, filter = name.decode(), matched
    return _place(filter, client_id), filter, options_of(value)


def _found_of(subscription: Subscription) -> _Found:
    filter = subscription.filter
    return _place(filter, subscription.subscriber.client_id), filter, subscription.options


def _place(filter: str, client_id: str) -> str:
    """A client may have an exclusive subscription beside an ordinary one."""
    ending = "\0x" if is_exclusive(filter) else ""
    return f"{without_exclusive(filter)}\0{client_id}{ending}"


async def _list_of(hub: Hub, question: bytes) -> object:
    """All of a client whose session ends with its connection; None if it is not here."""
    client = hub.clients.get(parsed(_ONE, question).client_id)
    if client is None or client.session is None or client.session.direct is None:
        return None
    subscriber = client.subscriber
    filters = dict(sorted(subscriber.filters.items())) if subscriber is not None else {}
    return [shown_subscription(client.client_id, filter, each.options) for filter, each in filters.items()]


async def _list_groups(hub: Hub, question: bytes) -> object:
    which = parsed(_GROUPS, question)
    await hub.committer.follow_now()
    wanted = [name for name in hub.index.shares if name > which.after and name.startswith(which.beginning)]
    names = heapq.nsmallest(which.limit + 1, wanted)
    page = [{"name": name} for name in names[: which.limit]]
    return {"groups": page, "more": len(page) < len(names)}
