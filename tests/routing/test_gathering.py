"""When messages for the channels of other nodes leave."""

import asyncio
from collections.abc import Callable

import pytest

from broker.routing.gathering import Gathering
from broker.routing.transit import Transit
from cluster.pulse import GAP_SECONDS, Pulse
from tests.routing.nodes import message

pytestmark = pytest.mark.anyio

THERE = "node-2"
CROWD = 16
LOOKS = 8
ENOUGH_BYTES = 262_144


class Sender:
    """Gathers, and notes how many messages leave together."""

    def __init__(self) -> None:
        self.now = 0.0
        self.left: list[int] = []
        self.transit = Transit({THERE})
        self.pulse = Pulse(lambda: None, lambda: self.now)
        self.gathering = Gathering(self.transit, self.pulse, self._transmit)

    def _transmit(self) -> None:
        self.left.append(self.transit.waiting)
        self.transit.take_messages()

    def publish(self, count: int, payload: bytes = b"x") -> None:
        """As many as come in one moment; the node flushes at its end."""
        for _ in range(count):
            self.transit.publish(THERE, message(payload, qos=0))
        self.gathering.send()

    async def each_time(self, count: int, publish: Callable[[], None]) -> None:
        """In so many turns of the event loop."""
        for _ in range(count):
            publish()
            await asyncio.sleep(0)


@pytest.fixture
def anyio_backend() -> str:
    """What is gathered counts turns of this one."""
    return "asyncio"


@pytest.fixture
async def sender() -> Sender:
    return Sender()


async def test_a_few_leave_at_once(sender: Sender) -> None:
    sender.publish(1)
    sender.publish(CROWD - 1)
    assert sender.left == [1, CROWD - 1]


async def test_nothing_leaves_where_nothing_is(sender: Sender) -> None:
    sender.publish(0)
    assert sender.left == []


async def test_a_crowd_leaves_when_a_look_brings_no_more(sender: Sender) -> None:
    sender.publish(CROWD)
    assert sender.left == []
    await sender.each_time(2, lambda: sender.publish(5))
    assert sender.left == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sender.left == [CROWD + 10]


async def test_it_does_not_wait_for_ever(sender: Sender) -> None:
    await sender.each_time(3 * (LOOKS + 1), lambda: sender.publish(CROWD))
    assert len(sender.left) >= 2
    assert max(sender.left) <= CROWD * (LOOKS + 1)


async def test_all_that_was_published_leaves_once(sender: Sender) -> None:
    await sender.each_time(50, lambda: sender.publish(CROWD))
    await sender.each_time(3, lambda: None)
    assert sum(sender.left) == 50 * CROWD
    assert not sender.transit.waiting


async def test_many_bytes_are_a_record(sender: Sender) -> None:
    """Redis would end the connection of a listener who is sent more than it reads."""
    large = bytes(ENOUGH_BYTES // CROWD)
    sender.publish(CROWD, large)
    assert sender.left == [CROWD]
    sender.publish(CROWD)
    sender.publish(CROWD, large)
    assert sender.left == [CROWD, 2 * CROWD]
    sender.publish(1)
    assert sender.left == [CROWD, 2 * CROWD, 1]


async def test_what_a_node_in_doubt_has_waits_until_it_is_sure(sender: Sender) -> None:
    sender.publish(CROWD)
    sender.now += GAP_SECONDS + 1
    await sender.each_time(2, lambda: None)
    assert sender.left == []
    sender.pulse.confirm()
    sender.publish(0)
    await sender.each_time(2, lambda: None)
    assert sender.left == [CROWD]
