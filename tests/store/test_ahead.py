"""Pages that are read ahead."""

from collections.abc import AsyncIterator

import anyio
import pytest

from cluster.store.ahead import take_pages
from cluster.store.errors import StoreUnavailable

pytestmark = pytest.mark.anyio


async def test_the_next_page_is_read_while_one_is_taken() -> None:
    """So far and no farther; the pages come in their order."""
    read, taken = 0, list[int]()
    ahead = list[int]()

    async def pages() -> AsyncIterator[int]:
        nonlocal read
        for read in range(20):
            await anyio.lowlevel.checkpoint()
            yield read

    def take(page: int) -> None:
        taken.append(page)
        ahead.append(read - page)

    await take_pages(pages(), take)
    assert taken == list(range(20))
    assert max(ahead) in (1, 2)


async def test_a_failure_is_told_as_it_is_behind_the_pages_before() -> None:
    async def pages() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise StoreUnavailable("away")

    taken: list[int] = []
    with pytest.raises(StoreUnavailable, match="away"):
        await take_pages(pages(), taken.append)
    assert taken == [1, 2]
