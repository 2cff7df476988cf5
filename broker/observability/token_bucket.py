"""A rate, with what may come at once if little came before. No clock of its own: time is an argument."""


class TokenBucket:
    """So many tokens a second, of which `burst` may be there at once.

    What is taken beyond them is owed: whoever takes it waits until it is paid, and all that take after that
    wait behind it. So those who share a bucket have their turns, each for what it took.
    """

    __slots__ = ("_at", "_burst", "_left", "_per_second")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._at = now

    def __repr__(self) -> str:
        return f"TokenBucket({self._left:g} of {self._burst:g}, {self._per_second:g} per second)"

    def take(self, count: float, now: float) -> float:
        """Takes tokens, be they there or not; the seconds after which they are paid for, 0.0 if they are."""
        self._fill(now)
        self._left -= count
        return 0.0 if self._left >= 0 else -self._left / self._per_second

    def take_if_there(self, now: float) -> bool:
        """Takes one token, if there is one."""
        self._fill(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _fill(self, now: float) -> None:
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
