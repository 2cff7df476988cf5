"""What an operator has switched off: said in CONNACK, refused when it is used."""

import pytest

from broker.mqtt import (
    Capabilities,
    Properties,
    ProtocolError,
    ReasonCode,
    Subscribe,
    SubscriptionRequest,
    Will,
    is_payload_as_said,
)

EVERYTHING = Capabilities()
NOTHING = Capabilities(
    maximum_qos=0,
    retain_available=False,
    wildcard_subscription_available=False,
    shared_subscription_available=False,
    subscription_identifier_available=False,
)
UTF_8 = Properties(payload_format_indicator=1)


def _subscribe(filter: str, identifier: int = 0) -> Subscribe:
    properties = Properties(subscription_identifier=(identifier,)) if identifier else None
    return Subscribe(1, [SubscriptionRequest("plain", 2), SubscriptionRequest(filter, 2)], properties)


def _code(capabilities: Capabilities, subscribe: Subscribe) -> ReasonCode:
    with pytest.raises(ProtocolError) as caught:
        capabilities.check_subscribe(subscribe)
    return caught.value.reason_code


def test_what_is_there_is_not_mentioned() -> None:
    properties = Properties()
    EVERYTHING.announce(properties)
    assert properties == Properties()


def test_what_is_not_there_is_said() -> None:  # [MQTT-3.2.2-9]
    properties = Properties(receive_maximum=5)
    NOTHING.announce(properties)
    assert properties == Properties(
        receive_maximum=5,
        maximum_qos=0,
        retain_available=0,
        wildcard_subscription_available=0,
        shared_subscription_available=0,
        subscription_identifier_available=0,
    )


@pytest.mark.parametrize(
    ("capabilities", "qos", "retain", "code"),
    [
        (Capabilities(maximum_qos=1), 2, False, ReasonCode.QOS_NOT_SUPPORTED),
        (Capabilities(maximum_qos=0), 1, True, ReasonCode.QOS_NOT_SUPPORTED),
        (Capabilities(retain_available=False), 0, True, ReasonCode.RETAIN_NOT_SUPPORTED),
    ],
)
def test_more_than_a_client_may_publish(
    capabilities: Capabilities, qos: int, retain: bool, code: ReasonCode
) -> None:
    with pytest.raises(ProtocolError) as caught:
        capabilities.check_publish(qos, retain)
    assert caught.value.reason_code is code
    with pytest.raises(ProtocolError) as caught:  # [MQTT-3.2.2-12], [MQTT-3.2.2-13]
        capabilities.check_will(Will("t", b"", qos, retain))
    assert caught.value.reason_code is code


def test_what_a_client_may_publish() -> None:
    EVERYTHING.check_publish(2, True)
    NOTHING.check_publish(0, False)
    NOTHING.check_will(Will("t", b"\xff", 0, False, UTF_8))


def test_the_payload_of_a_will() -> None:
    checking = Capabilities(checks_payload_format=True)
    checking.check_will(Will("t", b"good", 2, True, UTF_8))
    with pytest.raises(ProtocolError) as caught:
        checking.check_will(Will("t", b"\xff", 2, True, UTF_8))
    assert caught.value.reason_code is ReasonCode.PAYLOAD_FORMAT_INVALID


def test_a_will_that_is_too_large_to_be_retained() -> None:
    capabilities = Capabilities(retained_payload_bytes_maximum=3)
    capabilities.check_will(Will("t", b"1234", 0, False))
    capabilities.check_will(Will("t", b"123", 0, True))
    with pytest.raises(ProtocolError) as caught:
        capabilities.check_will(Will("t", b"1234", 0, True))
    assert caught.value.reason_code == ReasonCode.QUOTA_EXCEEDED


@pytest.mark.parametrize(
    ("payload", "properties", "expected"),
    [
        (b"\xff", None, True),
        (b"\xff", Properties(content_type="a"), True),
        (b"\xff", Properties(payload_format_indicator=0), True),
        ("größer\0".encode(), UTF_8, True),
        (b"", UTF_8, True),
        (b"\xc3", UTF_8, False),
        (b"\xed\xa0\x80", UTF_8, False),  # a surrogate
    ],
)
def test_payload_format_indicator(payload: bytes, properties: Properties | None, expected: bool) -> None:
    assert is_payload_as_said(payload, properties) is expected


@pytest.mark.parametrize(
    ("filter", "code"),
    [
        ("a/+", ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
        ("#", ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
        ("$share/g/a", ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
        ("$share/g/#", ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
    ],
)
def test_subscriptions_that_are_not_available(filter: str, code: ReasonCode) -> None:
    EVERYTHING.check_subscribe(_subscribe(filter, 1))
    assert EVERYTHING.refusal(filter) is None
    assert _code(NOTHING, _subscribe(filter)) is code
    assert NOTHING.refusal(filter) is code


def test_subscription_identifiers_that_are_not_available() -> None:
    assert _code(NOTHING, _subscribe("a", 1)) is ReasonCode.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED
    NOTHING.check_subscribe(_subscribe("a"))
    other = Properties(user_property=(("a", "b"),))
    NOTHING.check_subscribe(Subscribe(1, [SubscriptionRequest("a", 0)], other))
