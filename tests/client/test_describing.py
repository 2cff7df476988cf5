"""Packets as a trace shows them: all that matters, nothing that is secret, and never too much."""

import json

import orjson
import pytest

from broker.client.describing import ITEMS, PAYLOAD_BYTES, TEXT_CHARACTERS, bytes_text, cut, describe
from broker.mqtt import (
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Properties,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)
from cluster.taps import RECORD_BYTES

SECRET = "hush"
TELLING = Properties(
    authentication_method="m",
    authentication_data=SECRET.encode(),
    correlation_data=SECRET.encode(),
    user_property=(("name", SECRET), ("name", SECRET)),
    content_type="text/plain",
)
WILL = Will("gone", SECRET.encode(), 1, True, Properties(will_delay_interval=5))


@pytest.mark.parametrize(
    ("packet", "shown"),
    [
        (
            Connect("c", MQTT_5, True, 60, "ann", SECRET.encode(), WILL, TELLING),
            {
                "packet": "CONNECT",
                "protocol": "5.0",
                "clean_start": True,
                "keep_alive_seconds": 60,
                "username": "ann",
                "password": True,
                "will": {
                    "topic": "gone",
                    "qos": 1,
                    "retain": True,
                    "bytes": 4,
                    "properties": {"will_delay_interval": 5},
                },
                "properties": {
                    "content_type": "text/plain",
                    "correlation_data": "4 bytes",
                    "authentication_method": "m",
                    "user_property": [["name"], ["name"]],
                },
            },
        ),
        (Connack(True, 0), {"packet": "CONNACK", "session_present": True, "reason_code": 0}),
        (
            Publish("t", SECRET.encode(), 1, True, False, 7),
            {
                "packet": "PUBLISH",
                "topic": "t",
                "qos": 1,
                "retain": True,
                "dup": False,
                "bytes": 4,
                "packet_id": 7,
            },
        ),
        (Puback(7, 0x97), {"packet": "PUBACK", "packet_id": 7, "reason_code": 0x97}),
        (
            Subscribe(1, [SubscriptionRequest("a/#", 2, no_local=True)]),
            {
                "packet": "SUBSCRIBE",
                "packet_id": 1,
                "filters": [
                    {
                        "filter": "a/#",
                        "qos": 2,
                        "no_local": True,
                        "retain_as_published": False,
                        "retain_handling": 0,
                    }
                ],
            },
        ),
        (Suback(1, [2, 0x87]), {"packet": "SUBACK", "packet_id": 1, "reason_codes": [2, 0x87]}),
        (Unsubscribe(2, ["a"]), {"packet": "UNSUBSCRIBE", "packet_id": 2, "filters": [{"filter": "a"}]}),
        (Unsuback(2, []), {"packet": "UNSUBACK", "packet_id": 2, "reason_codes": []}),
        (Pingreq(), {"packet": "PINGREQ"}),
        (Disconnect(4), {"packet": "DISCONNECT", "reason_code": 4}),
        (
            Auth(0x18, Properties(authentication_method="m", authentication_data=SECRET.encode())),
            {"packet": "AUTH", "reason_code": 0x18, "properties": {"authentication_method": "m"}},
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Packet) else "",
)
def test_what_is_shown(packet: Packet, shown: dict[str, object]) -> None:
    assert describe(packet, False) == shown
    assert SECRET not in json.dumps(shown)


def test_content_for_those_who_may_see_it() -> None:
    shown = describe(Publish("t", b"on", 0, False, False, 0, TELLING), True)
    assert shown["payload"] == "on"
    assert shown["properties"] == {
        "content_type": "text/plain",
        "correlation_data": SECRET,
        "authentication_method": "m",
        "user_property": [["name", SECRET], ["name", SECRET]],
    }
    connect = describe(Connect("c", MQTT_5, True, 60, "ann", b"password", WILL), True)
    assert "will" in connect
    assert "password" not in str(list(connect.values()))
    assert SECRET in str(connect["will"])


def test_what_is_large_is_cut() -> None:
    long = "é" * 5000
    many = tuple((long, long) for _ in range(1000))
    packets: list[Packet] = [
        Publish(long, long.encode(), 0, False, False, 0, Properties(user_property=many)),
        Subscribe(1, [SubscriptionRequest(long, 0)] * 1000),
        Unsubscribe(1, [long] * 1000),
        Suback(1, [0] * 1000),
        Connect("c", MQTT_5, True, 0, long, None, Will(long, long.encode(), 0, False)),
    ]
    for packet in packets:
        record = orjson.dumps(describe(packet, True))
        assert len(record) <= RECORD_BYTES - 2000  # the head comes to that
    assert describe(packets[1], False)["more"] == 1000 - ITEMS
    assert cut(long) == "é" * TEXT_CHARACTERS + "..."


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", ""),
        (b"on", "on"),
        (b'{\n\t"a": 1\r\n}', '{\n\t"a": 1\r\n}'),
        ("é".encode(), "é"),
        (b"\x00\x01", "0x0001"),
        (b"\x1b[31m", "0x1b5b33316d"),
        (b"\xff", "0xff"),
        ("é".encode()[:1], "0xc3"),
        (b"x" * PAYLOAD_BYTES, "x" * PAYLOAD_BYTES),
        (b"x" * (PAYLOAD_BYTES + 1), "x" * PAYLOAD_BYTES + "..."),
        (("x" + "é" * PAYLOAD_BYTES).encode(), "x" + "é" * ((PAYLOAD_BYTES - 1) // 2) + "..."),
        (b"\xff" * 1000, "0x" + "ff" * PAYLOAD_BYTES + "..."),
    ],
)
def test_bytes_as_text(data: bytes, shown: str) -> None:
    assert bytes_text(data) == shown
