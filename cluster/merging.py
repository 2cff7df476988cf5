"""Pages of what is in all buckets, in one order.

Theory of operation. Each bucket has a part of everything, in order; a page of the cluster merges them. At
first each bucket is asked for as many items as are its share of a page, and some; whichever runs out before
the page is full is asked for twice as many more. So a page costs about what is on it, however large the whole
is.
"""

import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

SortKey = tuple[object, ...] | str | bytes

_ITEMS_MAXIMUM: Final = 128  # of a bucket in a call
_SPARE: Final = 3  # so that few buckets run out


@dataclass(slots=True)
class Part(Generic[T]):
    """What one bucket has said, and has not been taken. `last` is where it goes on; `count`: how many it is
    asked for."""

    bucket: int
    last: T | None
    count: int
    items: deque[T]
    is_over: bool = False


async def merged(
    buckets: Iterable[int],
    fetch: Callable[[Sequence[Part[T]]], Awaitable[list[list[T]]]],
    order: Callable[[T], SortKey],
    limit: int,
    buckets_at_once: int,
) -> list[T]:
    """The first `limit` items of all buckets together, if each gives its own in order: `fetch` asks some of
    them for `count` items each, behind `last`."""
    count = min(limit, _ITEMS_MAXIMUM)
    numbers = list(buckets)
    if len(numbers) > 1:
        count = min(count, limit * 2 // len(numbers) + _SPARE)
    parts = [Part[T](bucket, None, count, deque()) for bucket in numbers]
    found: list[T] = []
    while len(found) < limit:
        empty = [part for part in parts if not part.items and not part.is_over]
        for first in range(0, len(empty), buckets_at_once):
            some = empty[first : first + buckets_at_once]
            for part, items in zip(some, await fetch(some), strict=True):
                part.items.extend(items)
                part.is_over = len(items) < part.count
                part.last = items[-1] if items else part.last
                part.count = min(2 * part.count, _ITEMS_MAXIMUM)
        parts = [part for part in parts if part.items]
        if not parts:
            break
        found += _taken(parts, order, limit - len(found))
    return found


def _taken(parts: Sequence[Part[T]], order: Callable[[T], SortKey], limit: int) -> list[T]:
    """Takes the first items, until a bucket that may have more has run out."""
    # The place tells items apart that are equal.
    heads = [(order(part.items[0]), place) for place, part in enumerate(parts)]
    heapq.heapify(heads)
    found: list[T] = []
    while heads and len(found) < limit:
        _, place = heapq.heappop(heads)
        part = parts[place]
        found.append(part.items.popleft())
        if part.items:
            heapq.heappush(heads, (order(part.items[0]), place))
        elif not part.is_over:
            break
    return found
