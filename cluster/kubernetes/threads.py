"""Blocking calls beside the event loop, in threads that nobody has to wait for.

Not those of anyio: the interpreter waits for them at its end, so a server that hangs would hold up the end of
the process; and its limiter forgets a thread whose caller has given up, so they would pile up.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class TooManyThreads(Exception):
    """As many calls as there may be are under way, some of them perhaps given up by their callers."""


class Threads:
    """At most `limit` at a time; a call that was given up counts until it has ended by itself."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.running = 0

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. When cancelled, doesn't wait for it. Raises TooManyThreads."""
        if self.running >= self._limit:
            raise TooManyThreads
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def finish(outcome: T | None, error: BaseException | None) -> None:
            self.running -= 1
            if done.done():
                return  # given up
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(outcome)  # type: ignore[arg-type]  # None only if that is what `work` returns

        def body() -> None:
            outcome: T | None = None
            failure: BaseException | None = None
            try:
                outcome = work()
            except BaseException as error:  # noqa: BLE001  # whoever waits gets it
                failure = error
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(finish, outcome, failure)

        self.running += 1
        threading.Thread(target=body, name="kubernetes", daemon=True).start()
        return await done
