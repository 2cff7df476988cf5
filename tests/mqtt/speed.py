"""Measures the codec on the packets that count: `python -m tests.mqtt.speed`. Microseconds a packet, best of
nine."""

import gc
import timeit
from collections.abc import Callable

import broker.mqtt.decoder
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

PER_CHUNK = 20
TOPIC = "bench/topic/1"


def _time(function: Callable[[], object], packets: int) -> float:
    number = 100_000 // packets
    return min(timeit.repeat(function, number=number, repeat=9)) / number / packets * 1e6


def _publishes(qos: int, size: int, properties: Properties | None = None) -> list[Packet]:
    numbers = range(1, PER_CHUNK + 1)
    return [Publish(TOPIC, bytes(size), qos, False, False, n if qos else 0, properties) for n in numbers]


def _decode(packets: list[Packet], version: int) -> float:
    chunk = b"".join([encode(packet, version) for packet in packets])
    decoder = Decoder(True, 1 << 20, version)

    def run() -> None:
        out: list[Packet] = []
        decoder.feed(chunk, out)

    return _time(run, PER_CHUNK)


def _connect() -> None:
    out: list[Packet] = []
    connection = Connection(ConnectionLimits())
    connection.receive(_CONNECT, out)
    connection.accepted(out)


_CONNECT = encode(Connect("client", MQTT_5, True, 60), MQTT_5)


def main() -> None:
    """Prints one line for each kind of packet."""
    gc.disable()
    mode = "pure Python" if broker.mqtt.decoder.__file__.endswith(".py") else "compiled"
    told = Properties(payload_format_indicator=1, message_expiry_interval=5, user_property=(("a", "b"),))
    rows = {
        "decode PUBLISH QoS 0, 16 bytes, 3.1.1": _decode(_publishes(0, 16), MQTT_3_1_1),
        "decode PUBLISH QoS 0, 16 bytes, 5": _decode(_publishes(0, 16), MQTT_5),
        "decode PUBLISH QoS 1, 16 bytes, 5": _decode(_publishes(1, 16), MQTT_5),
        "decode PUBLISH QoS 1, 256 bytes, 5": _decode(_publishes(1, 256), MQTT_5),
        "decode PUBLISH QoS 1, three properties": _decode(_publishes(1, 16, told), MQTT_5),
        "decode PUBACK": _decode([Puback(n + 1) for n in range(PER_CHUNK)], MQTT_5),
        "decode PUBACK with a reason": _decode([Puback(n + 1, 16) for n in range(PER_CHUNK)], MQTT_5),
        "encode_ack": _time(lambda: encode_ack(PUBACK, 17, 0, MQTT_5), 1),
        "publish_parts QoS 0, 3.1.1": _time(
            lambda: publish_parts(MQTT_3_1_1, TOPIC, b"x", 0, False, False, b""), 1
        ),
        "publish_parts QoS 1, 5": _time(lambda: publish_parts(MQTT_5, TOPIC, b"x", 1, False, False, b""), 1),
        "CONNECT through a new Connection": _time(_connect, 1),
    }
    for name, microseconds in rows.items():
        print(f"{mode}  {name:42}{microseconds:7.3f} us")


if __name__ == "__main__":
    main()
