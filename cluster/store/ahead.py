"""Pages that are read ahead: the server looks for the next one while one is taken, as both take long."""

from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from cluster.store.errors import StoreError

_AHEAD: Final = 1

Page = TypeVar("Page")


async def take_pages(pages: AsyncIterator[Page], take: Callable[[Page], None]) -> None:
    """Gives all of them to `take`, one by one; whoever else waits has a turn after each. Raises what the
    pages raise, if it is a StoreError."""
    failures: list[StoreError] = []
    sender, receiver = anyio.create_memory_object_stream[Page](_AHEAD)
    async with receiver, anyio.create_task_group() as tasks:
        tasks.start_soon(_send, pages, sender, failures)
        async for page in receiver:
            take(page)
    if failures:
        raise failures[0]


async def _send(
    pages: AsyncIterator[Page], sender: MemoryObjectSendStream[Page], failures: list[StoreError]
) -> None:
    async with sender:
        try:
            async for page in pages:
                await sender.send(page)
        except StoreError as error:  # the task group would wrap it
            failures.append(error)
