"""The account of a shared group, over members in one process and in several."""

from loadtest.group import GroupAccount, GroupPart, GroupStream, add_up_group
from loadtest.stream import Stream


def part(got: dict[int, list[int]]) -> GroupPart:
    """What a process has, by publisher."""
    streams: dict[int, Stream] = {}
    for source, numbers in got.items():
        stream = streams[source] = GroupStream()
        for number in numbers:
            stream.take_irregular(number)
    return GroupPart.of(streams)


def test_members_of_one_process_need_no_order() -> None:
    stream = GroupStream()
    for number in (5, 0, 3, 1, 9000, 3):
        stream.take_irregular(number)
    assert (stream.received, stream.duplicates, stream.order_errors) == (5, 1, 0)
    assert stream.missing(10) == 5
    assert stream.expected == -1  # so that a subscriber hands every number over


def test_what_one_process_misses_the_other_has() -> None:
    parts = [part({0: [0, 2, 5000], 1: []}), part({0: [1, 3], 1: [0]})]
    assert add_up_group(parts, {0: 5, 1: 1}) == GroupAccount(lost=0, duplicates=0)
    assert add_up_group(parts, {0: 6, 1: 3}) == GroupAccount(lost=3, duplicates=0)


def test_what_came_twice_is_found_within_a_process_and_between_two() -> None:
    parts = [part({0: [0, 1, 1]}), part({0: [1, 2]})]
    assert add_up_group(parts, {0: 3}) == GroupAccount(lost=0, duplicates=2)
