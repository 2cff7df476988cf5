"""When a SUBSCRIBE is answered with retained messages."""

import pytest

from broker.session import wants_retained


@pytest.mark.parametrize(
    ("retain_handling", "existed", "expected"),
    [
        (0, False, True),  # [MQTT-3.3.1-9]
        (0, True, True),
        (1, False, True),  # [MQTT-3.3.1-10]
        (1, True, False),
        (2, False, False),  # [MQTT-3.3.1-11]
        (2, True, False),
    ],
)
def test_retain_handling(retain_handling: int, existed: bool, expected: bool) -> None:
    assert wants_retained(retain_handling, existed) is expected
