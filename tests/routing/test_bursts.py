"""Messages in bursts: what goes in comes out, as short as it can be; and damage is noticed."""

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.mqtt import MQTT_3_1_1, MQTT_5, MalformedPacket
from broker.routing.bursts import BURST_FIELDS, Burst, Bursts
from broker.session import Message
from tests.routing.test_channel import USER_PROPERTY, facts, messages

sent_messages = st.lists(st.tuples(messages, st.booleans(), st.sampled_from([b"", b"token"])), max_size=20)


def travelled(bursts: Bursts) -> list[Burst]:
    """To another node, packed as in Redis."""
    arrived = msgpack.unpackb(msgpack.packb(bursts.packed, use_bin_type=False), raw=True)
    return [Burst(arrived, place) for place in range(0, len(arrived), BURST_FIELDS)]


@given(sent_messages)
def test_what_goes_in_comes_out_in_order(sent: list[tuple[Message, bool, bytes]]) -> None:
    bursts = Bursts()
    for message, for_everyone, token in sent:
        bursts.add(message, for_everyone, token)
    arrived = [
        (*facts(message), burst.for_everyone, message.token)
        for burst in travelled(bursts)
        for message in burst.messages(MQTT_5, 1)
    ]
    assert arrived == [(*facts(message), for_everyone, token) for message, for_everyone, token in sent]


@given(
    st.lists(st.binary(max_size=3) | st.integers(100, 20_000).map(bytes), max_size=6),
    st.sampled_from([MQTT_3_1_1, MQTT_5]),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
    st.sampled_from([b"", USER_PROPERTY]),
)
def test_what_arrives_is_encoded_like_any_other(
    payloads: list[bytes], version: int, qos: int, retain: bool, properties: bytes
) -> None:
    bursts = Bursts()
    for payload in payloads:
        bursts.add(Message("t", payload, 2, retain, properties), False, b"")
    arrived = [message for burst in travelled(bursts) for message in burst.messages(version, qos)]
    assert len(arrived) == len(payloads)
    for message in arrived:
        plain = Message("t", message.payload, 2, retain, properties)
        for each in (MQTT_3_1_1, MQTT_5):
            for flag in (False, True):
                assert message.whole(each, flag) == plain.whole(each, flag)
                for level in (1, 2):
                    assert message.parts(each, level, flag) == plain.parts(each, level, flag)


def test_a_burst_says_once_what_all_of_it_have_in_common() -> None:
    bursts = Bursts()
    for payload in (b"one", b"two"):
        bursts.add(Message("t", payload, 1, False, publisher="p"), False, b"")
    bursts.add(Message("t", b"three", 0, False, publisher="p"), False, b"")
    assert bursts.packed == [
        *("t", b"", 0, 1, "p", b"", [b"one", b"two"]),
        *("t", b"", 0, 0, "p", b"", [b"three"]),
    ]


def test_a_message_is_added_once() -> None:
    bursts = Bursts()
    message = Message("t", b"", 0, False)
    for _ in range(2):
        bursts.add(message, False, b"")
    assert bursts.packed[-1] == [b""]


PLAIN: list[object] = [b"t", b"", 0, 1, b"p", b"", [b"payload"]]


@pytest.mark.parametrize("place", range(BURST_FIELDS))
def test_damage_is_noticed(place: int) -> None:
    for damage in (None, [7], "text"):
        fields = [*PLAIN[:place], damage, *PLAIN[place + 1 :]]
        with pytest.raises(TypeError):
            Burst(fields, 0).messages(MQTT_5, 1)
    with pytest.raises(LookupError):
        Burst(PLAIN[:place], 0)


@pytest.mark.parametrize("topic", [b"\xff", b"a/#"])
def test_a_damaged_topic_is_noticed(topic: bytes) -> None:
    with pytest.raises(MalformedPacket):
        Burst([topic, *PLAIN[1:]], 0)
