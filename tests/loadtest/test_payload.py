"""The stamp and the padding."""

import pytest

from loadtest.payload import MINIMUM_SIZE, STAMP, padding


def test_a_stamp_fits_the_smallest_payload() -> None:
    stamp = STAMP.pack(2**32 - 1, 2**32 - 1, 2**64 - 1)
    assert len(stamp) == MINIMUM_SIZE == 16
    assert STAMP.unpack(stamp) == (2**32 - 1, 2**32 - 1, 2**64 - 1)


@pytest.mark.parametrize("size", [16, 17, 256, 272, 5000])
def test_stamp_and_padding_make_the_size(size: int) -> None:
    assert MINIMUM_SIZE + len(padding(size)) == size


def test_a_shifted_padding_is_another_one() -> None:
    assert padding(100)[1:] != padding(99)
