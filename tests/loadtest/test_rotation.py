"""Publishers with several topics: each topic has numbers of its own, and accounts of its own."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import cast

import pytest

from broker.mqtt import Decoder, Packet, Puback, Publish
from loadtest.board import Board
from loadtest.payload import STAMP
from loadtest.plan import Plan, Shape, Sleep, Viewing
from loadtest.publisher import PACKET_IDS, Publisher, RotatingPublisher
from loadtest.target import Target

PLAN = Plan(
    target=Target("127.0.0.1", 1),
    run_id="abc",
    shape=Shape.COMMANDS,
    publishers=2,
    subscribers=5,
    qos=1,
    window=7,
    habit=Sleep(0, 1),
)


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self._decoder = Decoder(True, 1 << 20, 4)
        self.sent: list[Publish] = []

    def write(self, data: bytes) -> None:
        packets: list[Packet] = []
        self._decoder.feed(data, packets)
        self.sent += [packet for packet in packets if isinstance(packet, Publish)]

    def is_closing(self) -> bool:
        return False


def publishing(plan: Plan, number: int = 0) -> tuple[RotatingPublisher, Wire]:
    """A publisher of this plan, connected."""
    publisher, wire = Publisher.of(number, plan, Board()), Wire()
    assert isinstance(publisher, RotatingPublisher)
    publisher.connection_made(cast(asyncio.BaseTransport, wire))
    return publisher, wire


def in_loop(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """A client makes a future, which needs a loop."""

    def run() -> None:
        asyncio.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def stamps(wire: Wire) -> list[tuple[str, int, int]]:
    """Topic, source and number of each message."""
    return [(packet.topic, *STAMP.unpack_from(packet.payload)[:2]) for packet in wire.sent]


@in_loop
async def test_topics_take_turns() -> None:
    publisher, wire = publishing(PLAN, 1)
    publisher.start()
    expected = [(f"lt/abc/{source}/command", source, turn) for turn in range(4) for source in (1, 3)]
    assert stamps(wire) == expected[:7]
    assert publisher.sent_by_source() == {1: 4, 3: 3}
    assert publisher.owed_by_source() == {1: 0, 3: 0}
    publisher.handle([Puback(1), Puback(2), Puback(3)])
    assert publisher.owed_by_source() == {1: 2, 3: 1}


@in_loop
async def test_what_is_refused_is_not_owed_by_its_topic() -> None:
    publisher, _ = publishing(PLAN)
    publisher.start()
    publisher.handle([Puback(1), Puback(2, 0x97), Puback(3), Puback(4), Puback(5, 0x97)])
    assert publisher.owed_by_source() == {0: 2, 2: 0, 4: 1}


@in_loop
async def test_packet_identifiers_begin_again_and_still_name_their_message() -> None:
    publisher, wire = publishing(PLAN)
    publisher.sent = publisher.settled = PACKET_IDS - 3
    publisher.start()
    assert [packet.packet_id for packet in wire.sent] == [65533, 65534, 65535, 1, 2, 3, 4]
    publisher.handle([Puback(65533), Puback(65534), Puback(65535), Puback(1, 0x97)])
    assert publisher.refused == 1
    assert publisher.owed_by_source() == dict.fromkeys((0, 2, 4), PACKET_IDS // 3)


@pytest.mark.parametrize("rate", [None, 100.0])
def test_what_is_retained_is_there_before_the_load_begins(rate: float | None) -> None:
    async def seed() -> None:
        plan = Plan(
            target=Target("127.0.0.1", 1),
            run_id="abc",
            shape=Shape.DASHBOARD,
            qos=1,
            count=5,
            rate_per_second=rate,
            habit=Viewing(3, 1),
        )
        publisher, wire = publishing(plan)
        publisher.seed()
        assert [number for _, _, number in stamps(wire)] == [0, 0, 0]
        assert all(packet.retain for packet in wire.sent)
        publisher.stop_seeding()
        publisher.handle([Puback(1), Puback(2), Puback(3)])
        assert len(wire.sent) == 3
        assert publisher.limit == 8

    asyncio.run(seed())
