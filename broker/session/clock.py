"""Time as data: the core never asks for it, the shell says what it is before it calls."""


class Clock:
    """`now_ms` is Redis time in milliseconds as far as this node knows it; set by the shell once per tick."""

    __slots__ = ("now_ms",)

    def __init__(self, now_ms: int = 0) -> None:
        self.now_ms = now_ms

    def __repr__(self) -> str:
        return f"Clock({self.now_ms})"
