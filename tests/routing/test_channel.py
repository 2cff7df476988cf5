"""Records of channels: what goes in comes out, whatever it is; and damage is noticed."""

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.mqtt import MQTT_3_1_1, MQTT_5, MalformedPacket
from broker.routing.channel import Channel, messages_of
from broker.session import Message

USER_PROPERTY = b"\x26\x00\x01k\x00\x01v"

topics = st.text(st.characters(codec="utf-8", exclude_characters="+#\0"), min_size=1, max_size=20)
payloads = st.binary(max_size=40) | st.integers(100, 20_000).map(bytes)
messages = st.builds(
    Message,
    topics,
    payloads,
    st.sampled_from([0, 0, 0, 1, 2]),
    st.booleans(),
    st.sampled_from([b"", b"", USER_PROPERTY, USER_PROPERTY * 30]),
    st.sampled_from([0, 0, 1_000]),
    st.sampled_from(["", "a", "ä"]),
)


def travelled(*sent: Message) -> list[Message]:
    """By a channel, packed as in Redis."""
    channel = Channel()
    for message in sent:
        channel.add(message)
    packed = msgpack.packb(channel.runs(), use_bin_type=False)
    messages, shared = messages_of(msgpack.unpackb(packed, raw=True))
    assert shared == []
    return messages


def facts(message: Message) -> tuple[object, ...]:
    return (
        message.topic,
        message.payload,
        message.qos,
        message.retain,
        message.properties,
        message.deadline_ms,
        message.publisher,
    )


@given(st.lists(messages, max_size=20))
def test_what_goes_in_comes_out_in_order(sent: list[Message]) -> None:
    assert [facts(message) for message in travelled(*sent)] == [facts(message) for message in sent]


@given(messages)
def test_what_arrives_is_encoded_like_any_other(message: Message) -> None:
    (arrived,) = travelled(message)
    for version in (MQTT_3_1_1, MQTT_5):
        for retain in (False, True):
            assert arrived.whole(version, retain) == Message(*facts(message)[:5]).whole(version, retain)  # type: ignore[arg-type]  # they are its fields


def test_messages_of_one_publisher_travel_as_one_run() -> None:
    channel = Channel()
    for payload in (b"one", b"two"):
        channel.add(Message("t", payload, 0, False, publisher="p"))
    assert channel.runs() == ["p", MQTT_3_1_1, b"\x30\x06\x00\x01tone\x30\x06\x00\x01ttwo"]


def test_a_message_is_added_once() -> None:
    message = Message("t", b"", 0, False)
    assert len(travelled(message, message)) == 1


@pytest.mark.parametrize(
    "runs",
    [
        [7],
        [b"p", 4],
        [b"p", 4, 7],
        ["p", 4, b"\x30\x03\x00\x01t"],
        [b"p", 0, b"\x30\x03\x00\x01t"],
        [b"p", 4, b"\x30"],
        [b"p", 4, b"\x30\x05\x00\x01t"],
        [b"p", 4, b"\x30\x03\x00\x02tt"],
        [b"p", 5, b"\x30\x04\x00\x01t\x07"],
        [b"p", 4, b"\x30\x03\x00\x01\xff"],
    ],
)
def test_damage_is_noticed(runs: list[object]) -> None:
    with pytest.raises((TypeError, ValueError, LookupError, MalformedPacket)):
        messages_of(runs)
