"""Reason codes, and the return codes of MQTT 3.x that stand for them."""

import pytest

from broker.mqtt import NO_V3_CONNACK, REASON_CODES, ReasonCode, v3_connack_code
from broker.mqtt import reason_code as codes


def test_all_codes_of_the_specification() -> None:
    """[2.4]: 43 codes, the last 0xA2."""
    assert len(ReasonCode) == 43
    assert max(ReasonCode) == 0xA2
    assert REASON_CODES[0x8E] is ReasonCode.SESSION_TAKEN_OVER
    assert REASON_CODES.get(0x7F) is None


def test_every_allowed_code_is_one() -> None:
    for name in dir(codes):
        if name.endswith("_REASON_CODES") and not name.startswith("V3_"):
            assert getattr(codes, name) <= set(REASON_CODES), name


@pytest.mark.parametrize(
    ("reason_code", "return_code"),
    [
        (0x00, 0),
        (0x84, 1),
        (0x85, 2),
        (0x88, 3),
        (0x89, 3),
        (0x97, 3),
        (0x9F, 3),
        (0x86, 4),
        (0x87, 5),
        (0x8A, 5),
        (0x8C, 5),
        (1, 1),
        (5, 5),
        (0x81, NO_V3_CONNACK),
        (0x82, NO_V3_CONNACK),
        (0x95, NO_V3_CONNACK),
        (0x10, NO_V3_CONNACK),
    ],
)
def test_v3_return_codes(reason_code: int, return_code: int) -> None:
    assert v3_connack_code(reason_code) == return_code
