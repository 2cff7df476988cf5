"""Watches the machine during a measurement, as `moorline loadtest --watch-machine` does."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator

from loadtest.hiccups import COMMAND, Pace


@contextlib.contextmanager
def watching() -> Iterator[Callable[[], Pace]]:
    """While the block runs; to be called at its end, once, for what was seen."""
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun

        def pace() -> Pace:
            told, _ = process.communicate()
            return Pace.parse(told)

        try:
            yield pace
        finally:
            process.kill()
