"""Blocking calls beside the loop: what they return and raise, and that those given up are counted."""

import threading

import anyio
import pytest

from cluster.kubernetes.threads import Threads, TooManyThreads

pytestmark = pytest.mark.anyio


async def test_what_is_returned_and_raised() -> None:
    threads = Threads(1)
    assert await threads.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ValueError, match="no"):
        await threads.run(lambda: int("no"))
    assert threads.running == 0


async def test_who_was_given_up_counts_until_it_has_ended() -> None:
    threads, may_end = Threads(1), threading.Event()
    with anyio.move_on_after(0.05) as scope:
        await threads.run(may_end.wait)
    assert scope.cancelled_caught
    with pytest.raises(TooManyThreads):
        await threads.run(may_end.wait)
    may_end.set()
    with anyio.fail_after(5):
        while threads.running:
            assert threads.running == 1
            await anyio.sleep(0.01)
    assert await threads.run(may_end.wait) is True


async def test_nobody_waits_for_them_at_the_end() -> None:
    is_daemon = await Threads(1).run(lambda: threading.current_thread().daemon)
    assert is_daemon
