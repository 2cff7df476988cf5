"""What one packet may bring, and who does not take what it is sent."""

import threading
import time
from contextlib import ExitStack

import pytest

from broker.mqtt import MQTT_3_1_1, MQTT_5, Properties, Publish, Will, encode
from tests.limits.conftest import SECONDS, Limited
from tests.node.wire import WireClient

TOPIC_NAME_INVALID = 0x90
TOPIC_FILTER_INVALID = 0x8F
QUOTA_EXCEEDED = 0x97

LONGEST = "é" * 25  # 50 bytes
BEYOND = {"topic_bytes": LONGEST + "x", "topic_levels": "a/b/c/d/e/f"}
PAYLOAD = bytes(500_000)


@pytest.mark.parametrize("limit", BEYOND)
def test_a_topic_may_be_so_long_and_so_deep(limited: Limited, name: str, limit: str) -> None:
    topic = BEYOND[limit]
    before = limited.refused(limit)
    with ExitStack() as stack:
        watcher = stack.enter_context(limited.wire())
        watcher.connect(f"{name}-watcher")
        watcher.subscribe("#")
        sender = stack.enter_context(limited.wire())
        sender.connect(f"{name}-sender")
        older = stack.enter_context(limited.wire(version=MQTT_3_1_1))
        older.connect(f"{name}-older")
        for _ in range(2):  # a refusal is not remembered as something else
            for qos in (0, 1, 2):
                assert sender.publish(topic, b"", qos) == (TOPIC_NAME_INVALID if qos else 0)
                assert older.publish(topic, b"", qos) == 0
        for allowed in (LONGEST, "a/b/c/d/e", LONGEST):
            assert sender.publish(allowed, b"", 1) == 0
            assert watcher.message().topic == allowed
        watcher.assert_silence()
        assert limited.refused(limit) == before + 12
        with limited.wire() as another:
            connack = another.connect(f"{name}-will", will=Will(topic, b"", 0, False))
            assert connack.reason_code == TOPIC_NAME_INVALID
    limited.wait_at_least("moorline_messages_dropped_total", 12, reason="topic_name_invalid")


def test_an_alias_is_no_way_around(limited: Limited, name: str) -> None:
    with limited.wire() as sender:
        sender.connect(name)
        first = Properties(topic_alias=1)
        assert sender.publish(BEYOND["topic_levels"], b"", 1, properties=first) == TOPIC_NAME_INVALID
        assert sender.publish("", b"", 1, properties=first) == TOPIC_NAME_INVALID


def test_a_filter_may_be_so_long_and_so_deep(limited: Limited, name: str) -> None:
    with limited.wire() as client, limited.wire(version=MQTT_3_1_1) as older:
        client.connect(name)
        filters = ["x" * 50, "x" * 51, "+/" * 7 + "#", "+/" * 8 + "#"]
        expected = [0, TOPIC_FILTER_INVALID, 0, TOPIC_FILTER_INVALID]
        assert client.subscribe(*filters).reason_codes == expected
        older.connect(f"{name}-older")
        assert older.subscribe(*filters).reason_codes == [0, 0x80, 0, 0x80]
    assert limited.refused("topic_bytes") >= 2
    assert limited.refused("topic_levels_maximum") == 2


def test_a_subscribe_may_have_so_many_filters(limited: Limited, name: str) -> None:
    with limited.wire() as client:
        client.connect(name)
        suback = client.subscribe(*(f"{name}/{number}" for number in range(1000)))
        assert suback.reason_codes == [0] * 10 + [QUOTA_EXCEEDED] * 990
        assert limited.refused("filters_per_packet") == 1
        suback = client.subscribe(*(f"{name}/{number}" for number in range(10, 20)))
        assert suback.reason_codes == [0] * 5 + [QUOTA_EXCEEDED] * 5
        assert limited.refused("subscriptions_per_session") == 5
        assert client.publish(f"{name}/14", b"here") == 0


def test_a_packet_may_have_so_many_user_properties(limited: Limited, name: str) -> None:
    with limited.wire() as client, limited.wire() as other:
        other.connect(f"{name}-other")
        client.connect(name)
        pairs = (("", ""),) * 1000
        assert client.publish(name, b"", 1, properties=Properties(user_property=pairs)) < 0x80
        client.send(
            Publish(name, b"", 0, False, False, 0, Properties(user_property=(*pairs, ("one", "more"))))
        )
        assert client.wait_refused() == QUOTA_EXCEEDED
        assert other.ping() == []
    assert limited.metric("moorline_malformed_total", reason="quota_exceeded") == 1


def _fill(limited: Limited, sender: WireClient, topic: str, is_over: threading.Event) -> None:
    """Sends so much that a subscriber that does not read can't be written to."""
    while not is_over.is_set():
        sender.send_bytes(encode(Publish(topic, PAYLOAD, 0, False, False, 0), MQTT_5))
        sender.ping()


def test_who_takes_nothing_for_long_is_disconnected(limited: Limited, name: str) -> None:
    """And who takes little stays."""
    with ExitStack() as stack:
        clients = []
        for kind in ("stalled", "slow", "sender"):
            client = stack.enter_context(limited.wire())
            client.connect(f"{name}-{kind}")
            clients.append(client)
        stalled, slow, sender = clients
        stalled.subscribe(name)
        slow.subscribe(name)
        is_over = threading.Event()
        thread = threading.Thread(target=_fill, args=(limited, sender, name, is_over))
        thread.start()
        try:
            deadline = time.monotonic() + 3 * SECONDS
            while not limited.refused("stalled_seconds"):
                assert time.monotonic() < deadline, "it is not noticed"
                slow.receive_bytes(1)  # at most 64 KiB
        finally:
            is_over.set()
            thread.join()
        (line,) = limited.lines("stalled_seconds")
        assert line["client_id"] == f"{name}-stalled"
        assert limited.refused("stalled_seconds") == 1
        (ended,) = [
            event for event in limited.node.events("disconnected") if event["client_id"] == f"{name}-stalled"
        ]
        assert str(ended["reason"]).startswith("quota_exceeded")
        assert sender.ping() == []
        for _ in range(20):
            slow.receive_bytes(20_000)
