"""A message is encoded once for a whole fan-out, and differs for a receiver only where it must."""

import pytest

from broker.mqtt import MQTT_3_1_1, MQTT_5, Decoder, Packet, Properties, Publish, forwarded_properties
from broker.session import NO_DEADLINE, Message

PROPERTIES = forwarded_properties(
    Properties(content_type="text/plain", user_property=(("a", "1"), ("a", "2")))
)


def _message(deadline_ms: int = NO_DEADLINE, properties: bytes = PROPERTIES) -> Message:
    return Message("a/b", b"payload", 1, True, properties, deadline_ms)


def _decode(data: bytes, version: int) -> Publish:
    packets: list[Packet] = []
    Decoder(False, 1 << 20, version).feed(data, packets)
    (packet,) = packets
    assert isinstance(packet, Publish)
    return packet


def _decode_parts(parts: tuple[bytes, bytes], version: int) -> Publish:
    return _decode(parts[0] + b"\x00\x07" + parts[1], version)


def test_repr_shows_no_payload() -> None:
    assert repr(_message()) == "Message('a/b', 7 bytes, qos=1, retain=True)"


@pytest.mark.parametrize(
    ("deadline_ms", "now_ms", "expected"),
    [(NO_DEADLINE, 10**15, False), (1000, 999, False), (1000, 1000, True), (1000, 1001, True)],
)
def test_expiry(deadline_ms: int, now_ms: int, expected: bool) -> None:
    assert _message(deadline_ms).is_expired(now_ms) is expected


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_parts_of_each_kind(version: int, qos: int, retain: bool) -> None:
    packet = _decode_parts(_message().parts(version, qos, retain), version)
    properties = Properties(content_type="text/plain", user_property=(("a", "1"), ("a", "2")))
    expected = properties if version == MQTT_5 else None
    assert packet == Publish("a/b", b"payload", qos, retain, False, 7, expected)


def test_every_encoding_is_made_once() -> None:
    message = _message()
    kinds = [(version, qos, retain) for version in (4, 5) for qos in (1, 2) for retain in (False, True)]
    first = [message.parts(*kind) for kind in kinds]
    second = [message.parts(*kind) for kind in kinds]
    assert all(a[0] is b[0] and a[1] is b[1] for a, b in zip(first, second, strict=True))
    assert len(set(first)) == len(kinds)


def test_the_whole_packet_at_qos_0() -> None:
    message = _message()
    whole = message.whole(MQTT_3_1_1, True)
    assert _decode(whole, MQTT_3_1_1) == Publish("a/b", b"payload", 0, True, False, 0)
    assert message.whole(MQTT_3_1_1, True) is whole
    assert _decode(message.whole(MQTT_5, False), MQTT_5).retain is False
    assert message.whole(MQTT_3_1_1, True) == whole


def test_a_plain_receiver_shares_the_encoding() -> None:
    message = _message()
    head, tail = message.parts(MQTT_5, 1, False)
    shared = message.parts_for(MQTT_5, 1, False, False, (), 0)
    assert shared[0] is head
    assert shared[1] is tail


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
def test_dup(version: int) -> None:
    message = _message()
    packet = _decode_parts(message.parts_for(version, 1, False, True, (), 0), version)
    assert packet.dup
    assert not _decode_parts(message.parts(version, 1, False), version).dup


@pytest.mark.parametrize("identifier", [1, 127, 128, 16_383, 16_384, 2_097_152, 268_435_455])
def test_subscription_identifiers(identifier: int) -> None:  # [MQTT-3.3.4-4]
    message = _message()
    packet = _decode_parts(message.parts_for(MQTT_5, 1, False, False, (3, identifier), 0), MQTT_5)
    assert packet.properties is not None
    assert packet.properties.subscription_identifier == (3, identifier)
    assert packet.properties.user_property == (("a", "1"), ("a", "2"))


def test_subscription_identifiers_are_nothing_to_older_clients() -> None:
    message = _message(deadline_ms=5_000)
    assert message.parts_for(MQTT_3_1_1, 1, False, False, (3,), 0) == message.parts(MQTT_3_1_1, 1, False)


@pytest.mark.parametrize(
    ("now_ms", "seconds"),
    [
        (0, 10), (1, 10), (749, 10), (750, 9), (1000, 9), (9_001, 1), (9_999, 1), (10_000, 0), (12_000, 0),
        (-250, 10),  # on a node that is a little behind the one that took it
    ],
)  # fmt: skip
def test_what_is_left_of_the_expiry(now_ms: int, seconds: int) -> None:  # [MQTT-3.3.2-6]
    packet = _decode_parts(_message(10_000).parts_for(MQTT_5, 1, False, False, (), now_ms), MQTT_5)
    assert packet.properties is not None
    assert packet.properties.message_expiry_interval == seconds


def test_the_longest_expiry_when_the_clock_steps_back() -> None:
    published_ms = 1_000_000
    message = _message(published_ms + 0xFFFFFFFF * 1000)
    packet = _decode_parts(message.parts_for(MQTT_5, 1, False, False, (), published_ms - 1), MQTT_5)
    assert packet.properties is not None
    assert packet.properties.message_expiry_interval == 0xFFFFFFFF


def test_an_encoding_that_is_known_is_not_made_again() -> None:
    arrived = Message("t", b"payload", 0, True)
    arrived.encoded_as(4, b"bytes")
    assert arrived.whole(4, True) == b"bytes"
    assert arrived.whole(4, False) != b"bytes"


def test_parts_that_are_known_are_not_made_again() -> None:
    arrived = Message("t", b"payload", 1, False)
    arrived.encoded_in_parts(4, 1, b"head", b"tail")
    assert arrived.parts(4, 1, False) == (b"head", b"tail")
    for version, qos, retain in ((5, 1, False), (4, 2, False), (4, 1, True)):
        made = Message("t", b"payload", 1, False).parts(version, qos, retain)
        assert arrived.parts(version, qos, retain) == made


# Below a mount point


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("a/b/c", "b/c"),
        ("a/b", "b"),
        ("a//b", "/b"),
        ("a/", None),  # no topic is empty
        ("a", None),  # `#` below matches it, as the level above
        ("ab/c", None),
        ("a/$b", None),  # [MQTT-4.7.2-1]: `#` and `+` below match it
        ("a/b/$c", "b/$c"),
        ("b/a/c", None),
    ],
)
def test_what_is_seen_below_a_mount_point(topic: str, expected: str | None) -> None:
    message = Message(topic, b"payload", 1, True, PROPERTIES, 5, "publisher")
    seen = message.below("a/")
    if expected is None:
        assert seen is None
        return
    assert seen is not None
    assert (seen.topic, seen.payload, seen.qos, seen.retain) == (expected, b"payload", 1, True)
    assert (seen.properties, seen.deadline_ms, seen.publisher) == (PROPERTIES, 5, "publisher")


def test_it_is_made_once_for_each_mount_point() -> None:
    message = Message("a/b/c", b"", 0, False)
    assert message.below("a/") is message.below("a/")
    deeper = message.below("a/b/")
    assert deeper is not None
    assert deeper.topic == "c"
    assert message.below("b/") is None


@pytest.mark.parametrize(
    ("response_topic", "expected"),
    [("a/reply", "reply"), ("ab/reply", None), ("a/", None), ("a/$reply", None), (None, None)],
)
@pytest.mark.parametrize("content_type", [None, "x" * 300])
def test_the_response_topic_below_a_mount_point(
    content_type: str | None, response_topic: str | None, expected: str | None
) -> None:
    def properties(response_topic: str | None) -> bytes:
        return forwarded_properties(
            Properties(
                content_type=content_type,
                response_topic=response_topic,
                correlation_data=b"\x08",
                user_property=(("a", "b"),),
            )
        )

    seen = Message("a/b", b"", 0, False, properties(response_topic)).below("a/")
    assert seen is not None
    assert seen.properties == properties(expected)
