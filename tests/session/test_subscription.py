"""Subscription Options, and when a SUBSCRIBE is answered with retained messages."""

import pytest

from broker.session import SubscriptionOptions, wants_retained


def test_options_are_compared_by_value() -> None:
    options = SubscriptionOptions(1, True, False, 2, 5)
    assert options == SubscriptionOptions(1, True, False, 2, 5)
    for other in (
        SubscriptionOptions(2, True, False, 2, 5),
        SubscriptionOptions(1, False, False, 2, 5),
        SubscriptionOptions(1, True, True, 2, 5),
        SubscriptionOptions(1, True, False, 1, 5),
        SubscriptionOptions(1, True, False, 2, 6),
    ):
        assert options != other
    assert options != "options"
    with pytest.raises(TypeError):
        hash(options)


def test_options_show_what_they_are() -> None:
    assert repr(SubscriptionOptions(1)) == (
        "SubscriptionOptions(qos=1, no_local=False, retain_as_published=False, retain_handling=0, "
        "subscription_identifier=0)"
    )


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
