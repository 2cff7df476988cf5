"""What one subscriber got from one publisher: exact counts of lost, repeated and disordered messages."""

import bisect


class Stream:
    """The sequence numbers 0, 1, 2, ... of one publisher as they arrive at one subscriber.

    The subscriber takes the regular case itself (`number == expected`: add 1 to `expected`), since it
    happens a million times a minute, and calls `take_irregular` for all others.
    """

    __slots__ = ("_gaps", "duplicates", "expected", "jumped_over", "order_errors")

    def __init__(self) -> None:
        self.expected = 0
        self.duplicates = 0
        self.order_errors = 0
        self.jumped_over = 0  # and not come since
        self._gaps: list[
            tuple[int, int]
        ] = []  # [first, end) of what was jumped over and hasn't come since; sorted

    def take_irregular(self, number: int) -> None:
        """Note a number that isn't the expected one: a jump ahead, a late one, or a repeated one."""
        if number >= self.expected:
            if number > self.expected:
                self._gaps.append((self.expected, number))
                self.jumped_over += number - self.expected
            self.expected = number + 1
        elif self._fill(number):
            self.order_errors += 1
            self.jumped_over -= 1
        else:
            self.duplicates += 1

    def _fill(self, number: int) -> bool:
        """Take `number` out of the gaps; False if it was in none of them."""
        place = bisect.bisect_right(self._gaps, number, key=lambda gap: gap[0]) - 1
        if place < 0 or number >= self._gaps[place][1]:
            return False
        first, end = self._gaps[place]
        self._gaps[place : place + 1] = [
            gap for gap in ((first, number), (number + 1, end)) if gap[0] < gap[1]
        ]
        return True

    @property
    def received(self) -> int:
        """How many different messages came."""
        return self.expected - self.jumped_over

    def missing(self, sent: int) -> int:
        """How many of the first `sent` messages haven't come."""
        return max(0, sent - self.received)
