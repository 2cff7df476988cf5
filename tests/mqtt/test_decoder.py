"""Framing, PUBLISH, and what holds for all packets."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.mqtt import (
    Auth,
    Connect,
    Decoder,
    Disconnect,
    MalformedPacket,
    MqttError,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    ProtocolError,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    ReasonCode,
    encode,
    topic_name,
)
from tests.mqtt.decoding import MAXIMUM_PACKET_SIZE, WAYS, Outcome, decode_chunks, wanted
from tests.mqtt.strategies import VERSIONS, client_packets, connects, server_packets
from tests.mqtt.vectors import (
    ACCEPTED,
    ACCEPTED_CONNECTS,
    ACCEPTED_OTHERS,
    ACCEPTED_PUBLISHES,
    MALFORMED,
    PROTOCOL_ERROR,
    REFUSED,
    REFUSED_FRAMES,
    REFUSED_PUBLISHES,
    Refusal,
    Vector,
    wire,
)

TOO_LARGE = Refusal(ProtocolError, ReasonCode.PACKET_TOO_LARGE)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "vector", ACCEPTED_PUBLISHES + REFUSED_PUBLISHES + REFUSED_FRAMES, ids=lambda vector: vector.name
)
def test_publish_and_frames(vector: Vector, way: Callable[[Vector], Outcome]) -> None:
    assert way(vector) == wanted(vector)


def test_many_packets_of_every_kind_in_one_chunk() -> None:
    vectors = [v for v in ACCEPTED_OTHERS + ACCEPTED_PUBLISHES if v.version == 5 and v.from_client]
    decoder = Decoder(True, MAXIMUM_PACKET_SIZE, 5)
    out, error = decode_chunks(decoder, [b"".join([v.data for v in vectors])])
    assert error is None
    assert out == [v.expected for v in vectors]


def test_connect_and_what_follows_in_one_chunk() -> None:
    connect = Connect("c", 5, True, 0)
    decoder = Decoder(True, MAXIMUM_PACKET_SIZE)
    out, error = decode_chunks(decoder, [encode(connect, 5) + encode(Pingreq(), 5) + b"\x30"])
    assert (out, error) == ([connect, Pingreq()], None)
    assert decoder.version == 5
    assert repr(decoder) == "Decoder(version=5, 1 of 2 bytes, None)"


def test_packets_before_an_error_come_out_and_the_error_stays() -> None:
    decoder = Decoder(True, MAXIMUM_PACKET_SIZE, 4)
    out: list[Packet] = []
    with pytest.raises(MqttError) as first:
        decoder.feed(wire("40 02 0001") + wire("C1 00") + wire("40 02 0002"), out)
    with pytest.raises(MqttError) as second:
        decoder.feed(wire("C0 00"), out)
    assert second.value is first.value
    assert out == [Puback(1)]
    assert "reserved flags" in repr(decoder)


def test_nothing_comes_of_no_bytes() -> None:
    assert decode_chunks(Decoder(True, MAXIMUM_PACKET_SIZE), [b""]) == ([], None)
    assert decode_chunks(Decoder(True, MAXIMUM_PACKET_SIZE, 4), [b"", b"\xc0", b"", b"\0"]) == (
        [Pingreq()],
        None,
    )


@pytest.mark.parametrize("packet", [Puback(1), Pubrec(2), Pubrel(3), Pubcomp(65_535)])
@pytest.mark.parametrize("server_side", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_plain_acknowledgements(packet: Packet, server_side: bool, version: int) -> None:
    decoder = Decoder(server_side, MAXIMUM_PACKET_SIZE, version)
    assert decode_chunks(decoder, [encode(packet, version)]) == ([packet], None)


@pytest.mark.parametrize("first_byte", [0x40, 0x50, 0x62, 0x70])
def test_acknowledgement_with_packet_identifier_0(first_byte: int) -> None:
    """[MQTT-2.2.1-5]"""
    decoder = Decoder(True, MAXIMUM_PACKET_SIZE, 4)
    assert decode_chunks(decoder, [bytes((first_byte, 2, 0, 0))]) == ([], PROTOCOL_ERROR)


@pytest.mark.parametrize(
    ("size", "version", "sent_before"),
    [(20, 4, b""), (20, 5, b""), (200, 4, b""), (20_000, 5, b""), (20, 0, b""), (200, 0, b"\x10")],
)
def test_maximum_packet_size(size: int, version: int, sent_before: bytes) -> None:
    """A packet as large as allowed passes; one byte more is refused, whole or cut [MQTT-3.1.2-24]."""
    packet: Packet
    if version == 0:
        empty = encode(Connect("", 4, True, 0), 4)
        packet = Connect("c" * (size - len(empty) - (1 if size > 128 else 0)), 4, True, 0)
    else:
        empty = encode(Publish("a", b"", 0, False, False, 0), version)
        more = (1 if size > 128 else 0) + (1 if size > 16_384 else 0)
        packet = Publish("a", bytes(size - len(empty) - more), 0, False, False, 0)
    data = encode(packet, version or 4)
    assert len(data) == size
    assert decode_chunks(Decoder(True, size, version), [data]) == ([packet], None)
    assert decode_chunks(Decoder(True, size - 1, version), [data]) == ([], TOO_LARGE)
    # As soon as the fixed header shows it.
    assert decode_chunks(Decoder(True, size - 1, version), [data[:5]]) == ([], TOO_LARGE)


def test_wrong_flags_are_refused_before_the_packet_is_there() -> None:
    assert decode_chunks(Decoder(True, MAXIMUM_PACKET_SIZE, 5), [b"\x36"]) == ([], MALFORMED)
    assert decode_chunks(Decoder(True, MAXIMUM_PACKET_SIZE, 5), [b"\x38\xff"]) == ([], MALFORMED)
    assert decode_chunks(Decoder(True, MAXIMUM_PACKET_SIZE, 5), [b"\x81"]) == ([], MALFORMED)


def test_a_large_packet_in_small_chunks_with_packets_around_it() -> None:
    publish = Publish("a", bytes(range(256)) * 800, 1, False, False, 7)
    data = encode(Pingreq(), 5) + encode(publish, 5) + encode(Pingreq(), 5)
    for size in (1, 7, 1000, 65_536):
        decoder = Decoder(True, MAXIMUM_PACKET_SIZE, 5)
        chunks = [data[at : at + size] for at in range(0, len(data), size)]
        assert decode_chunks(decoder, chunks) == ([Pingreq(), publish, Pingreq()], None)


def test_more_topic_names_than_are_remembered() -> None:
    decoder = Decoder(True, MAXIMUM_PACKET_SIZE, 4)
    count = 66_000
    data = b"".join([wire("30 07") + b"\0\5" + f"{number:05}".encode() for number in range(count)])
    out, error = decode_chunks(decoder, [data, data[:9]])
    assert error is None
    assert len(out) == count + 1
    assert [p.topic for p in out if isinstance(p, Publish)] == [f"{n:05}" for n in range(count)] + ["00000"]


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (Pingreq(), False),
        (Publish("a", b"", 0, False, False, 0), False),
        (Publish("a", b"", 0, False, False, 0, Properties(content_type="x")), False),
        (Publish("a", b"", 0, False, False, 0, Properties(topic_alias=1)), True),
        (Disconnect(), True),
        (Auth(0x18, Properties(authentication_method="m")), True),
    ],
)
def test_needs_attention(packet: Packet, expected: bool) -> None:
    decoder = Decoder(True, MAXIMUM_PACKET_SIZE, 5)
    decode_chunks(decoder, [encode(packet, 5)])
    assert decoder.needs_attention == expected


def test_connect_needs_attention() -> None:
    decoder = Decoder(True, MAXIMUM_PACKET_SIZE)
    decode_chunks(decoder, [ACCEPTED_CONNECTS[0].data])
    assert decoder.needs_attention


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_decode_of_encode_is_the_same(data: st.DataObject) -> None:
    version = data.draw(st.sampled_from(VERSIONS))
    server_side = data.draw(st.booleans())
    packets: list[Packet] = data.draw(
        st.lists(client_packets(version) if server_side else server_packets(version), max_size=5)
    )
    decoder = Decoder(server_side, MAXIMUM_PACKET_SIZE, version)
    if server_side and data.draw(st.booleans()):
        packets.insert(0, data.draw(connects(version)))
        decoder = Decoder(True, MAXIMUM_PACKET_SIZE)
    encoded = b"".join([encode(packet, version) for packet in packets])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=4)))
    edges = [0, *cuts, len(encoded)]
    chunks = [encoded[start:end] for start, end in pairwise(edges)]
    assert decode_chunks(decoder, chunks) == (packets, None)


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_random_bytes_raise_only_the_two_errors(data: st.DataObject) -> None:
    version = data.draw(st.sampled_from((0, *VERSIONS)))
    decoder = Decoder(data.draw(st.booleans()), 1000, version)
    decode_chunks(decoder, data.draw(st.lists(st.binary(max_size=40), max_size=4)))


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_packets_with_wrong_bytes_raise_only_the_two_errors(data: st.DataObject) -> None:
    vector: Vector = data.draw(st.sampled_from(ACCEPTED + REFUSED))
    changed = bytearray(vector.data[:300])
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    decoder = Decoder(vector.from_client, MAXIMUM_PACKET_SIZE, vector.version)
    decode_chunks(decoder, [bytes(changed)])


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_chunks_make_no_difference(data: st.DataObject) -> None:
    vectors: list[Vector] = data.draw(
        st.lists(st.sampled_from([v for v in ACCEPTED + REFUSED if v.version == 5]))
    )
    encoded = b"".join([vector.data[:300] for vector in vectors])
    at_once = decode_chunks(Decoder(True, MAXIMUM_PACKET_SIZE, 5), [encoded])
    singly = [encoded[at : at + 1] for at in range(len(encoded))]
    assert decode_chunks(Decoder(True, MAXIMUM_PACKET_SIZE, 5), singly) == at_once


def test_a_client_decodes_what_a_server_sends() -> None:
    decoder = Decoder(False, MAXIMUM_PACKET_SIZE, 5)
    vectors = [v for v in ACCEPTED_OTHERS if v.version == 5 and not v.from_client]
    assert decode_chunks(decoder, [b"".join([v.data for v in vectors])]) == (
        [v.expected for v in vectors],
        None,
    )
    assert decode_chunks(decoder, [encode(Pingresp(), 5)]) == ([Pingresp()], None)


def test_a_topic_name_by_its_bytes() -> None:
    first = topic_name(b"a/b")
    assert topic_name(b"a/b") is first
    with pytest.raises(MalformedPacket):
        topic_name(b"a/+")
