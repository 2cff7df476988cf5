"""What each payload carries: who sent it, as which message, and when. Whatever is left is padding.

The time is the monotonic clock of the machine (the same in all its processes), so sender and receiver may
be different processes of one machine, not different machines.
"""

import struct
from typing import Final

STAMP: Final = struct.Struct(">IIQ")
"""Publisher number, sequence number (from 0, without gaps), send time in monotonic nanoseconds."""

MINIMUM_SIZE: Final = STAMP.size
MAXIMUM_SIZE: Final = 1024 * 1024 * 16


def padding(size_bytes: int) -> bytes:
    """What follows the stamp in a payload of `size_bytes`. Bytes differ, so that a shifted one is noticed."""
    pattern = bytes(range(256))
    wanted = size_bytes - MINIMUM_SIZE
    return (pattern * (wanted // len(pattern) + 1))[:wanted]
