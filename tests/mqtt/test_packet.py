"""Packets are values: equal by their fields, and shown without secrets and payloads."""

import pytest

from broker.mqtt import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)

ALL: list[Packet] = [
    Connect("c", 5, True, 60),
    Connack(False, 0),
    Publish("a", b"", 0, False, False, 0),
    Puback(1),
    Pubrec(1),
    Pubrel(1),
    Pubcomp(1),
    Subscribe(1, [SubscriptionRequest("a", 0)]),
    Suback(1, [0]),
    Unsubscribe(1, ["a"]),
    Unsuback(1, [0]),
    Pingreq(),
    Pingresp(),
    Disconnect(),
    Auth(),
]


def test_types() -> None:
    assert [packet.packet_type for packet in ALL] == list(PacketType)
    assert [PacketType(packet.packet_type).name.title() for packet in ALL] == [type(p).__name__ for p in ALL]


def test_equality() -> None:
    for number, packet in enumerate(ALL):
        assert [packet == other for other in ALL] == [number == at for at in range(len(ALL))]
    assert Puback(1) != Puback(2)
    assert Puback(1) != Puback(1, 0x10)
    assert Puback(1) != Puback(1, 0, Properties())
    assert Will("a", b"", 0, False) == Will("a", b"", 0, False)
    assert Will("a", b"", 0, False) != Will("a", b"", 1, False)


def test_packets_can_not_be_keys() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Pingreq())


def test_repr() -> None:
    assert repr(Puback(1, 16)) == "Puback(packet_id=1, reason_code=16, properties=None)"
    assert repr(Pingreq()) == "Pingreq()"
    assert "filter='a'" in repr(ALL[7])


def test_repr_keeps_secrets_and_payloads() -> None:
    will = Will("w", b"last words", 1, True)
    connect = Connect("c", 5, True, 60, "user", b"secret", will)
    assert repr(connect) == (
        "Connect('c', version=5, clean_start=True, keep_alive=60, username='user', password=***, "
        "will=Will('w', 10 bytes, qos=1, retain=True), properties=None)"
    )
    assert "password=None" in repr(Connect("c", 5, True, 60))
    publish = Publish("a/b", b"secret", 1, True, False, 7)
    assert repr(publish) == (
        "Publish('a/b', 6 bytes, qos=1, retain=True, dup=False, packet_id=7, properties=None)"
    )
