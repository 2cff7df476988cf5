"""What is kept of the will in a CONNECT, and the message it becomes."""

from broker.mqtt import Properties, Will, forwarded_properties
from broker.session import NO_DEADLINE, will_message


def test_a_will_without_properties() -> None:
    will = will_message("client", Will("t", b"gone", 1, True))
    assert (will.client_id, will.topic, will.payload, will.qos, will.retain) == (
        "client",
        "t",
        b"gone",
        1,
        True,
    )
    assert (will.delay_seconds, will.message_expiry_seconds, will.properties) == (0, None, b"")
    assert repr(will) == "WillMessage('client', 't', qos=1, delay=0 s)"
    message = will.message(5_000, b"token", 60_000)
    assert (message.topic, message.payload, message.qos, message.retain) == ("t", b"gone", 1, True)
    assert message.deadline_ms == NO_DEADLINE
    assert (message.publisher, message.token, message.token_ttl_ms) == ("client", b"token", 60_000)


def test_the_properties_of_a_will() -> None:
    properties = Properties(
        will_delay_interval=30,
        message_expiry_interval=10,
        content_type="text/plain",
        user_property=(("a", "1"), ("a", "2")),
    )
    will = will_message("client", Will("t", b"", 2, False, properties))
    assert will.delay_seconds == 30
    assert will.message_expiry_seconds == 10
    assert will.properties == forwarded_properties(properties)
    # The expiry counts from when the will is published, not from when it was left.
    assert will.message(5_000, b"token", 0).deadline_ms == 15_000
