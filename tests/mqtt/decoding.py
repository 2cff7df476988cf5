"""Feeds a decoder the three ways: whole, byte by byte, and several packets in one chunk."""

from collections.abc import Callable

from broker.mqtt import Connect, Decoder, MqttError, Packet, Pingreq, Pingresp, encode
from tests.mqtt.vectors import Refusal, Vector

MAXIMUM_PACKET_SIZE = 1 << 20

Outcome = tuple[list[Packet], Refusal | None]
"""The packets that came out, and the error after them."""


def decode_chunks(decoder: Decoder, chunks: list[bytes]) -> Outcome:
    """Everything that the chunks give; the error, if there is one, comes again with any further byte."""
    out: list[Packet] = []
    for chunk in chunks:
        try:
            decoder.feed(chunk, out)
        except MqttError as error:
            return out, Refusal(type(error), error.reason_code)
    return out, None


def whole(vector: Vector) -> Outcome:
    decoder = Decoder(vector.from_client, MAXIMUM_PACKET_SIZE, vector.version)
    return decode_chunks(decoder, [vector.data])


def byte_by_byte(vector: Vector) -> Outcome:
    decoder = Decoder(vector.from_client, MAXIMUM_PACKET_SIZE, vector.version)
    data = vector.data
    return decode_chunks(decoder, [data[at : at + 1] for at in range(len(data))])


def among_others(vector: Vector) -> Outcome:
    """In one chunk with a packet before it and one after it; both are taken out of the answer again."""
    decoder = Decoder(vector.from_client, MAXIMUM_PACKET_SIZE, vector.version)
    ping: Packet = Pingreq() if vector.from_client else Pingresp()
    before = encode(ping, 5) if vector.version else b""
    after = b"" if isinstance(vector.expected, Connect) else encode(ping, 5)
    out, error = decode_chunks(decoder, [before + vector.data + after])
    if before:
        assert out.pop(0) == ping
    if after and error is None:
        assert out.pop() == ping
    return out, error


WAYS: list[Callable[[Vector], Outcome]] = [whole, byte_by_byte, among_others]


def wanted(vector: Vector) -> Outcome:
    if isinstance(vector.expected, Refusal):
        return [], vector.expected
    return [vector.expected], None
