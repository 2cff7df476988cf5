"""Whether the process has run all the time."""

import anyio
import pytest

from cluster.looking import keep_looking
from cluster.pulse import GAP_SECONDS, Pulse

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Watch:
    """A pulse whose clock is set by the test."""

    def __init__(self) -> None:
        self.now = 100.0
        self.doubts = 0
        self.pulse = Pulse(self._doubt, lambda: self.now)

    def _doubt(self) -> None:
        self.doubts += 1

    def look(self, seconds_later: float) -> bool:
        self.now += seconds_later
        return self.pulse.look()


async def test_who_looks_often_is_never_in_doubt() -> None:
    watch = Watch()
    assert not any(watch.look(GAP_SECONDS) for _ in range(100))
    assert watch.doubts == 0


async def test_a_gap_is_a_doubt_until_it_is_settled() -> None:
    watch = Watch()
    assert watch.look(GAP_SECONDS + 0.01)
    assert watch.look(0.0)
    assert watch.look(10.0)  # the same one
    assert (watch.doubts, watch.pulse.doubts) == (1, 1)
    watch.pulse.confirm()
    assert not watch.look(0.0)
    assert watch.look(1.0)
    assert watch.doubts == 2


async def test_others_wait_until_the_node_is_known_to_live() -> None:
    watch = Watch()
    await watch.pulse.until_alive()
    watch.look(1.0)
    went_on = anyio.Event()

    async def wait() -> None:
        await watch.pulse.until_alive()
        went_on.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not went_on.is_set()
        watch.pulse.is_alive()
        await went_on.wait()
    assert watch.pulse.in_doubt


async def test_an_idle_node_is_in_no_doubt() -> None:
    pulse = Pulse(lambda: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_looking, pulse)
        await anyio.sleep(2 * GAP_SECONDS)
        assert not pulse.look()
        tasks.cancel_scope.cancel()
