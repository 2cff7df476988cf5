"""What other processes ask of this node about subscriptions (`cluster.clients`).

All nodes know those of persistent sessions, and each knows those of its direct ones. There may be a million:
so the rows are looked at in parts, with pauses, and only what may be on the page is kept."""

import heapq
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Final

import anyio.lowlevel
from pydantic import TypeAdapter

from broker.client.hub import Hub
from broker.client.listing import ANSWER_BYTES, AT_A_TIME, parsed
from broker.mqtt import EXCLUSIVE_PREFIX, SHARE_PREFIX, is_exclusive, without_exclusive
from broker.routing import Subscription, SubscriptionIndex
from broker.routing.packed import PART_PAGES, PackedMap
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
_WHICH: Final = TypeAdapter(WhichSubscriptions)
_ONE: Final = TypeAdapter(WhichClient)
_GROUPS: Final = TypeAdapter(WhichGroups)

_Found = tuple[str, str, bytes]
"""Place, Topic Filter, packed options. Pages are in the order of places: what topics are matched with, then
the client."""
_Row = tuple[bytes, bytes, bytes]


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
    for found in _parts(index, which, page):
        page.take(found)
        await anyio.lowlevel.checkpoint()
    return page.shown()


class _Page:
    """The first subscriptions beyond `after`, of those that were taken."""

    def __init__(self, which: WhichSubscriptions) -> None:
        self._after = which.after
        self._limit = which.limit
        self._kept: list[_Found] = []

    @property
    def end(self) -> bytes:
        """Nothing that is matched by more than this can be on the page any more; empty: anything can."""
        return self._kept[-1][0].partition("\0")[0].encode() if len(self._kept) > self._limit else b""

    def take(self, found: Iterable[_Found]) -> None:
        """Some may come twice."""
        beyond = {each for each in found if each[0] > self._after}
        if beyond:
            self._kept = heapq.nsmallest(self._limit + 1, beyond.union(self._kept))

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


def _parts(index: SubscriptionIndex, which: WhichSubscriptions, page: _Page) -> Iterator[list[_Found]]:
    """All that may be on the page, a thousand or so at a time."""
    if which.topic is None:
        beginning = without_exclusive(which.beginning)
        held = _held_from(index, beginning)
        rows = _rows_from(index.rows, beginning.encode(), page)
        shares = [name for name in index.shares if f"{SHARE_PREFIX}{name}".startswith(beginning)]
    else:
        filters = index.filters_matching(which.topic)
        held = (list(index.held.get(filter, {}).values()) for filter in filters)
        rows = chain.from_iterable(_rows_of(index.rows, filter.encode()) for filter in filters)
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
    if which.persistent:
        for some in rows:
            yield [_found_in(row) for row in some]


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


def _rows_from(rows: PackedMap, beginning: bytes, page: _Page) -> Iterator[list[_Row]]:
    """Of filters that begin so."""
    first = 0
    while (part := rows.part(first, beginning, page.end)) is not None:
        yield part
        first += PART_PAGES
    for key, crowd in rows.crowds(beginning):
        if not page.end or key <= page.end:
            yield from _crowd(key, crowd)


def _rows_of(rows: PackedMap, filter: bytes) -> Iterator[list[_Row]]:
    """Of one filter."""
    for key, crowd in rows.crowds(filter):
        if key == filter:
            yield from _crowd(key, crowd)
            return
    yield [(filter, name, value) for name, value in rows.names(filter)]


def _crowd(key: bytes, crowd: PackedMap) -> Iterator[list[_Row]]:
    first = 0
    while (part := crowd.part(first, b"", b"")) is not None:
        yield [(key, name, value) for name, _, value in part]
        first += PART_PAGES


def _found_in(row: _Row) -> _Found:
    key, name, value = row
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
