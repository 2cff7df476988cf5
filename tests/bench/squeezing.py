"""What compressing payloads would save, and what it would cost: zlib at level 1, JSON as devices send it.

Not in the product: see docs/footprint.md for the figures.
"""

import json
import random
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from tests.bench.storing import Line

SIZES: Final = (256, 1 << 10, 4 << 10, 64 << 10)
_ROUNDS: Final = 30


def readings(size_bytes: int) -> bytes:
    """JSON of about so many bytes: names repeat, numbers don't."""
    source = random.Random(size_bytes)
    found: list[dict[str, object]] = []
    while True:
        found.append(
            {
                "time": 1_764_000_000_000 + source.randrange(1 << 30),
                "sensor": f"line-3/{source.randrange(1000):03}",
                "temperature": round(source.gauss(21, 4), 2),
                "pressure": round(source.gauss(1013, 9), 1),
                "state": source.choice(["running", "idle", "fault"]),
            }
        )
        text = json.dumps({"plant": 7, "readings": found}, separators=(",", ":")).encode()
        if len(text) >= size_bytes:
            return text


def measure_compression() -> Iterator[Line]:
    """Percent that are left, and microseconds of a node both ways."""
    for size in SIZES:
        payload = readings(size)
        packed = zlib.compress(payload, 1)
        there = _microseconds(partial(zlib.compress, payload, 1))
        back = _microseconds(partial(zlib.decompress, packed))
        saved = len(payload) - len(packed)
        note = f"{there:,.0f} us to compress, {back:,.0f} us to restore, for {saved:,} B less"
        yield Line(
            f"JSON of {len(payload):,} B: what is left", 100 * len(packed) / len(payload), "%", note=note
        )


def _microseconds(work: Callable[[], object]) -> float:
    """Of the processor, the median of some rounds."""
    taken = []
    for _ in range(_ROUNDS):
        begun = time.thread_time()
        work()
        taken.append(time.thread_time() - begun)
    return statistics.median(taken) * 1e6
