"""What a dashboard was shown, packet by packet: values that are missing, out of date, or out of order."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import pytest

from broker.mqtt import Packet, Publish
from loadtest.board import Board
from loadtest.dashboard import View
from loadtest.payload import STAMP
from loadtest.plan import Plan, Shape, Viewing
from loadtest.target import Target

PLAN = Plan(target=Target("127.0.0.1", 1), run_id="abc", shape=Shape.DASHBOARD, qos=1, habit=Viewing(2, 1))
RETAINED = True
LIVE = False


async def _show(messages: Iterable[tuple[int, int, bool]]) -> tuple[View, Board]:
    board = Board()
    view = View(0, PLAN, board)
    view.begin()
    packets: list[Packet] = [
        Publish(PLAN.topic(source), STAMP.pack(source, number, 1), 1, retain, False, place + 1, None)
        for place, (source, number, retain) in enumerate(messages)
    ]
    view.handle(packets)
    return view, board


def show(*messages: tuple[int, int, bool]) -> tuple[View, Board]:
    """A dashboard of two topics after these messages: topic, number, whether retained."""
    return asyncio.run(_show(messages))


def test_what_is_retained_and_then_every_update_is_in_order() -> None:
    view, board = show((0, 7, RETAINED), (1, 3, RETAINED), (0, 8, LIVE), (0, 9, LIVE))
    assert view.filled.is_set()
    assert (view.gaps(), view.missing({0: 10, 1: 4}), board.delivered) == (0, 0, 4)
    assert view.missing({0: 11, 1: 4}) == 1
    assert board.stored.total == 4  # sent before it opened


def test_a_topic_without_a_value_is_missing() -> None:
    view, _ = show((0, 7, RETAINED))
    assert not view.filled.is_set()
    assert (view.gaps(), view.missing({0: 8, 1: 5})) == (1, 1)


def test_a_value_that_was_out_of_date_is_found_by_the_next_update() -> None:
    view, _ = show((0, 7, RETAINED), (1, 0, RETAINED), (0, 9, LIVE))
    assert view.gaps() == 1


@pytest.mark.parametrize(("number", "errors"), [(8, 0), (7, 1)])
def test_a_retained_message_after_its_update(number: int, errors: int) -> None:
    """The same one as both is no harm; an older one in place of a newer one is."""
    view, board = show((0, 8, LIVE), (0, number, RETAINED))
    assert view.streams[0].order_errors == errors
    assert (view.streams[0].duplicates, board.delivered - board.duplicates) == (0, 1)


def test_the_first_value_may_come_as_an_update_too_but_once() -> None:
    view, board = show((0, 8, RETAINED), (0, 8, LIVE), (0, 9, LIVE))
    assert (view.streams[0].duplicates, board.delivered - board.duplicates) == (0, 2)
    view, _ = show((0, 8, RETAINED), (0, 8, LIVE), (0, 8, LIVE))
    assert view.streams[0].duplicates == 1


def test_an_update_that_comes_twice_is_a_duplicate() -> None:
    view, board = show((0, 8, RETAINED), (0, 9, LIVE), (0, 9, LIVE))
    assert (view.streams[0].duplicates, board.duplicates) == (1, 1)


def test_a_topic_that_is_not_ours_is_no_value() -> None:
    _, board = show((2, 0, RETAINED))
    assert board.corrupt == 1


def test_nothing_is_owed_before_it_has_subscribed() -> None:
    async def unopened() -> int:
        return View(0, replace(PLAN), Board()).missing({0: 5, 1: 5})

    assert asyncio.run(unopened()) == 0
