"""Mount points: what becomes of the names that clients use."""

import pytest

from broker.client.mounting import MountPoint
from broker.client.renaming import renamed
from broker.mqtt import (
    MQTT_5,
    Connect,
    Packet,
    Pingreq,
    Properties,
    Publish,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
    Will,
)

MOUNT_POINT = MountPoint("a/")
LONGEST = "x" * 65_533


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("t", "a/t"),
        ("/t", "a//t"),
        ("a/t", "a/a/t"),
        ("$SYS/t", "$SYS/t"),
        ("$t", "$t"),
        ("$delayed/5/t", "$delayed/5/a/t"),
        ("$delayed/5/$SYS/t", "$delayed/5/$SYS/t"),
        ("$delayed/5/$delayed/5/t", "$delayed/5/$delayed/5/t"),
        ("$delayed/5/", "$delayed/5/"),
        (LONGEST, "a/" + LONGEST),
        (LONGEST + "x", "$" + LONGEST + "x"),
        ("a/" + LONGEST, "$a/" + LONGEST),
        ("\u20ac" * 21_845, "$" + "\u20ac" * 21_845),
    ],
)
def test_topics(topic: str, expected: str) -> None:
    assert MOUNT_POINT.topic(topic) == expected
    assert MOUNT_POINT.has(expected) is (expected.startswith("a/"))


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("#", "a/#"),
        ("+/t", "a/+/t"),
        ("$share/g/#", "$share/g/a/#"),
        ("$share/g//", "$share/g/a//"),
        ("$share/g/", "$share/g/"),
        ("$share/g", "$share/g"),
        ("$share//t", "$share//t"),
        ("$share/g/$SYS/#", "$share/g/$SYS/#"),
        ("$share/g/$exclusive/t", "$share/g/$exclusive/t"),
        ("$exclusive/t", "$exclusive/a/t"),
        ("$exclusive/", "$exclusive/"),
        ("$exclusive/$share/g/t", "$exclusive/$share/g/t"),
        ("$SYS/#", "$SYS/#"),
        ("$share/g/" + LONGEST, "$share/g/$" + LONGEST),
    ],
)
def test_filters(filter: str, expected: str) -> None:
    assert MOUNT_POINT.filter(filter) == expected


def _answered(response_topic: str | None) -> Properties:
    return Properties(response_topic=response_topic, content_type="text/plain", topic_alias=3)


def test_packets() -> None:
    will = Will("t", b"", 1, True, _answered("r"))
    sent: list[Packet] = [
        Connect("c", MQTT_5, True, 7, "u", b"p", will, Properties(receive_maximum=9)),
        Connect("c", MQTT_5, True, 7),
        Publish("t", b"x", 1, True, True, 5, _answered("r")),
        Publish("t", b"x", 0, False, False, 0, _answered("$SYS/r")),
        Publish("t", b"x", 0, False, False, 0),
        Publish("$SYS/t", b"x", 0, False, False, 0),
        Subscribe(6, [SubscriptionRequest("#", 1, True, True, 2)], Properties(subscription_identifier=(1,))),
        Unsubscribe(7, ["t", "$share/g/t"]),
        Pingreq(),
    ]
    mounted = Will("a/t", b"", 1, True, _answered("a/r"))
    assert renamed(sent, MOUNT_POINT) == [
        Connect("c", MQTT_5, True, 7, "u", b"p", mounted, Properties(receive_maximum=9)),
        sent[1],
        Publish("a/t", b"x", 1, True, True, 5, _answered("a/r")),
        Publish("a/t", b"x", 0, False, False, 0, _answered(None)),
        Publish("a/t", b"x", 0, False, False, 0),
        sent[5],
        Subscribe(
            6, [SubscriptionRequest("a/#", 1, True, True, 2)], Properties(subscription_identifier=(1,))
        ),
        Unsubscribe(7, ["a/t", "$share/g/a/t"]),
        sent[8],
    ]
    assert sent[2] == Publish("t", b"x", 1, True, True, 5, _answered("r")), "what came is not changed"
