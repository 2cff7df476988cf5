"""Loss, duplicates and order, against a slow and obvious account of the same arrivals."""

from hypothesis import given
from hypothesis import strategies as st

from loadtest.stream import Stream


def take(*numbers: int) -> Stream:
    stream = Stream()
    for number in numbers:
        if number == stream.expected:
            stream.expected += 1
        else:
            stream.take_irregular(number)
    return stream


def test_everything_in_order() -> None:
    stream = take(0, 1, 2)
    assert (stream.received, stream.missing(3), stream.duplicates, stream.order_errors) == (3, 0, 0, 0)


def test_what_never_came_is_missing() -> None:
    stream = take(0, 3, 4)
    assert (stream.received, stream.missing(7), stream.order_errors) == (3, 4, 0)


def test_a_late_message_is_out_of_order_and_not_missing() -> None:
    stream = take(0, 2, 1, 3)
    assert (stream.missing(4), stream.duplicates, stream.order_errors) == (0, 0, 1)


def test_a_message_that_came_before_is_a_duplicate() -> None:
    stream = take(0, 1, 1, 0, 2)
    assert (stream.missing(3), stream.duplicates, stream.order_errors) == (0, 2, 0)


def test_a_late_message_that_comes_twice_is_one_order_error_and_one_duplicate() -> None:
    stream = take(0, 5, 3, 3)
    assert (stream.received, stream.duplicates, stream.order_errors) == (3, 1, 1)


@given(st.lists(st.integers(0, 30), max_size=60))
def test_counts_agree_with_a_set_of_what_came(numbers: list[int]) -> None:
    stream = take(*numbers)
    seen: set[int] = set()
    duplicates = order_errors = 0
    for number in numbers:
        if number in seen:
            duplicates += 1
        elif seen and number < max(seen):
            order_errors += 1
        seen.add(number)
    assert stream.received == len(seen)
    assert stream.missing(31) == 31 - len(seen)
    assert (stream.duplicates, stream.order_errors) == (duplicates, order_errors)
