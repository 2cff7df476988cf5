"""What a micro-benchmark is: a piece of the hot path that can be run again and again."""

from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Case:
    """`make` gives what does the work `operations` times per call; nothing of it grows from call to call."""

    name: str
    operations: int
    make: Callable[[], Work]

    def repeat(self, work: Work, operations: int) -> None:
        """Does the work of `make` until at least so many operations are done."""
        for _ in range(-(-operations // self.operations)):
            work()
