"""The codec on the packets that count; one operation is one packet."""

from typing import Final

from broker.mqtt import (
    MQTT_3_1_1,
    MQTT_5,
    PUBACK,
    Connect,
    Connection,
    ConnectionLimits,
    Decoder,
    Packet,
    Properties,
    Puback,
    Publish,
    encode,
    encode_ack,
    publish_parts,
)
from tests.bench.case import Case, Work

PER_CHUNK: Final = 20
TOPIC: Final = "bench/topic/1"
_TOLD: Final = Properties(payload_format_indicator=1, message_expiry_interval=5, user_property=(("a", "b"),))
_CONNECT: Final = encode(Connect("client", MQTT_5, True, 60), MQTT_5)


def _publishes(qos: int, size: int, properties: Properties | None = None) -> list[Packet]:
    numbers = range(1, PER_CHUNK + 1)
    return [Publish(TOPIC, bytes(size), qos, False, False, n if qos else 0, properties) for n in numbers]


def _pubacks(reason_code: int) -> list[Packet]:
    return [Puback(n + 1, reason_code) for n in range(PER_CHUNK)]


def _decode(name: str, packets: list[Packet], version: int = MQTT_5) -> Case:
    def make() -> Work:
        chunk = b"".join([encode(packet, version) for packet in packets])
        decoder = Decoder(True, 1 << 20, version)

        def run() -> None:
            out: list[Packet] = []
            decoder.feed(chunk, out)

        return run

    return Case(f"decode {name}", PER_CHUNK, make)


def _connect() -> None:
    out: list[Packet] = []
    connection = Connection(ConnectionLimits())
    connection.receive(_CONNECT, out)
    connection.accepted(out)


CASES: Final = (
    _decode("PUBLISH QoS 0, 16 bytes, 3.1.1", _publishes(0, 16), MQTT_3_1_1),
    _decode("PUBLISH QoS 0, 16 bytes, 5", _publishes(0, 16)),
    _decode("PUBLISH QoS 1, 16 bytes, 5", _publishes(1, 16)),
    _decode("PUBLISH QoS 1, 256 bytes, 5", _publishes(1, 256)),
    _decode("PUBLISH QoS 1, three properties", _publishes(1, 16, _TOLD)),
    _decode("PUBACK", _pubacks(0)),
    _decode("PUBACK with a reason", _pubacks(16)),
    Case("encode an acknowledgement", 1, lambda: lambda: encode_ack(PUBACK, 17, 0, MQTT_5)),
    Case(
        "encode PUBLISH QoS 0, 3.1.1",
        1,
        lambda: lambda: publish_parts(MQTT_3_1_1, TOPIC, b"x", 0, False, False, b""),
    ),
    Case(
        "encode PUBLISH QoS 1, 5",
        1,
        lambda: lambda: publish_parts(MQTT_5, TOPIC, b"x", 1, False, False, b""),
    ),
    Case("CONNECT through a new Connection", 1, lambda: _connect),
)
