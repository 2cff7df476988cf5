"""Every rule of CONNECT, by vectors."""

from collections.abc import Callable

import pytest

from broker.mqtt import Decoder, ProtocolError, encode
from tests.mqtt.decoding import MAXIMUM_PACKET_SIZE, WAYS, Outcome, wanted
from tests.mqtt.vectors import ACCEPTED_CONNECTS, REFUSED_CONNECTS, Vector, wire


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vector", ACCEPTED_CONNECTS + REFUSED_CONNECTS, ids=lambda vector: vector.name)
def test_connect(vector: Vector, way: Callable[[Vector], Outcome]) -> None:
    assert way(vector) == wanted(vector)


@pytest.mark.parametrize(
    ("notation", "answer_in"),
    [
        ("10 * 'MQTT' 06 02 003C 00 'c'", 5),
        ("10 * 'MQTT' 03 02 003C 'c'", 4),
        ("10 * 'MQIsdp' 02 02 003C 'c'", 4),
        ("10 * 'HTTP' 04 02 003C 'c'", 0),
    ],
)
def test_the_version_to_answer_an_unsupported_one_in(notation: str, answer_in: int) -> None:
    decoder = Decoder(True, MAXIMUM_PACKET_SIZE)
    with pytest.raises(ProtocolError, match="version"):
        decoder.feed(wire(notation), [])
    assert decoder.version == answer_in


@pytest.mark.parametrize("vector", [v for v in ACCEPTED_CONNECTS if v.canonical], ids=lambda v: v.name)
def test_encoded_as_in_the_vector(vector: Vector) -> None:
    packet = vector.expected
    assert not isinstance(packet, tuple)
    assert encode(packet, 5) == vector.data
