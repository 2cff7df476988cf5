"""The checker on histories made by chance: it blames no right broker, and finds any damage."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.checker import check, undelivered
from tests.cluster.record import Delivered, Event
from tests.cluster.tale import subscribed


def history(qos: int, steps: list[int]) -> list[Event]:
    """What a right broker does with a publisher and a subscriber, who lose their connections now and then."""
    tale = subscribed(qos)
    queue: list[int] = []
    pending: list[int] = []
    sent = read = settled = 0
    for step in steps:
        if step < 3:
            sent += 1
            pending.append(sent)
            queue.append(sent)
            tale.publish(sent)
        elif step < 5 and pending:
            tale.acknowledge(pending.pop(0))
        elif step == 5:
            tale.publish(*pending, dup=True)
            queue += pending if qos == 1 else []
        elif step < 9 and read < len(queue):
            tale.deliver(queue[read], dup=True)
            read += 1
        elif step == 9:
            settled = read
        elif step == 10:
            tale.lose()
            tale.connect(present=True)
            read = settled if qos == 1 else read
    tale.acknowledge(*pending)
    tale.deliver(*queue[read:])
    tale.drain()
    return tale.events


HISTORIES = st.builds(history, st.sampled_from([1, 2]), st.lists(st.integers(0, 10), max_size=60))


@given(HISTORIES)
def test_a_right_broker_is_not_blamed(events: list[Event]) -> None:
    assert check(events).found == []
    assert undelivered(events) == []


def _deliveries(events: list[Event]) -> list[int]:
    return [position for position, event in enumerate(events) if isinstance(event, Delivered)]


def _take_one_away(events: list[Event], position: int) -> None:
    event = events[position]
    assert isinstance(event, Delivered)
    events[:] = [
        each for each in events if not (isinstance(each, Delivered) and each.message == event.message)
    ]


def _deliver_alone_at_the_end(events: list[Event], position: int) -> None:
    """Again, and then something new without what lies between."""
    (tale, highest) = subscribed(), max(e.message.sequence for e in events if isinstance(e, Delivered))
    event = events[position]
    assert isinstance(event, Delivered)
    tale.qos = event.message.qos
    tale.publish(highest + 1)
    if event.message.sequence == highest:
        tale.publish(highest + 2)
        tale.deliver(highest + 2)
    tale.deliver(event.message.sequence, highest + 1)
    events += tale.events[4:]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_take_one_away, {"lost"}),
        (_deliver_alone_at_the_end, {"duplicate", "repeated", "reordered"}),
    ],
)
@given(events=HISTORIES, choice=st.integers(0, 1000))
def test_damage_is_found(
    damage: Callable[[list[Event], int], None], expected: set[str], events: list[Event], choice: int
) -> None:
    places = _deliveries(events)
    if not places:
        return
    events = list(events)
    damage(events, places[choice % len(places)])
    found = {violation.kind for violation in check(events).found}
    assert found
    assert found <= expected
