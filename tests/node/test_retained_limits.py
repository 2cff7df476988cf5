"""What may be retained: so many messages in the whole cluster, and payloads of such a size."""

import re
import time
from collections.abc import Iterator

import pytest

from broker.mqtt import (
    MQTT_3_1_1,
    Connack,
    Connect,
    Properties,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Will,
)
from tests.node.conftest import Clients
from tests.node.harness import NodeProcess, running_node

LIMIT = 3
SHOWN_SECONDS = 10.0
QUOTA_EXCEEDED = 0x97


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    environment = {
        "MOORLINE_LIMITS__RETAINED_MESSAGES": str(LIMIT),
        "MOORLINE_LIMITS__RETAINED_PAYLOAD_BYTES": "10",
        "MOORLINE_MQTT__SYS_INTERVAL_SECONDS": "0",  # those would count
    }
    with running_node(tmp_path_factory.mktemp("node"), environment=environment) as node:
        yield node


def test_so_many_and_no_more(client: Clients, node: NodeProcess) -> None:
    publisher, older, watcher = client("publisher"), client("older", MQTT_3_1_1), client("watcher")
    watcher.subscribe("#", qos=1)
    for number in range(LIMIT):
        assert publisher.publish(f"a/{number}", b"1", 1, retain=True) == 0
    assert publisher.publish("a/3", b"1", 1, retain=True) == QUOTA_EXCEEDED
    assert older.publish("a/4", b"1", 1, retain=True) == 0
    assert publisher.publish("a/2", b"2", 1, retain=True) == 0
    assert [watcher.message().topic for _ in range(6)] == ["a/0", "a/1", "a/2", "a/3", "a/4", "a/2"]

    page = _until_shown(
        node, f"moorline_retained {LIMIT:.1f}"
    )  # the node has looked: other buckets know of it
    refused = re.search(r'moorline_refused_total\{limit="retained_messages"\} (\d+)', page)
    assert refused is not None
    assert int(refused[1]) == 2
    assert publisher.publish("b/5", b"1", 1, retain=True) == QUOTA_EXCEEDED

    soon = Properties(message_expiry_interval=1)  # nobody asks for it: it makes room by itself
    assert publisher.publish("a/0", b"2", 1, retain=True, properties=soon) == 0
    _until_shown(node, f"moorline_retained {LIMIT - 1:.1f}")
    assert publisher.publish("b/5", b"1", 1, retain=True) == 0
    late = client("late")
    late.send(Subscribe(1, [SubscriptionRequest("#", 1)]))
    late.expect(Suback)
    found = {(message.topic, message.payload) for message in (late.message() for _ in range(LIMIT))}
    assert found == {("a/1", b"1"), ("a/2", b"2"), ("b/5", b"1")}
    for topic in ("a/1", "a/2", "b/5"):
        publisher.publish(topic, b"", 1, retain=True)


def _until_shown(node: NodeProcess, line: str) -> str:
    """The metrics, when they have it: nodes look once a second."""
    deadline = time.monotonic() + SHOWN_SECONDS
    while line not in (page := node.get("/metrics").text).splitlines():
        assert time.monotonic() < deadline, page
        time.sleep(0.05)
    return page


@pytest.mark.parametrize("qos", [1, 2])
def test_a_large_payload(client: Clients, name: str, qos: int) -> None:
    publisher, watcher = client("publisher"), client("watcher")
    watcher.subscribe(name, qos=2)
    assert publisher.publish(name, b"eleven byte", qos, retain=True) == QUOTA_EXCEEDED
    assert publisher.publish(name, b"eleven byte", qos) == 0
    message = watcher.message()
    assert (message.payload, message.retain) == (b"eleven byte", False)
    watcher.assert_silence(0.1)


def test_a_will_with_a_large_payload(client: Clients, name: str) -> None:
    raw = client.raw()
    will = Will(name, b"eleven byte", 1, True, None)
    raw.send(Connect(name, raw.version, True, 0, None, None, will, None))
    assert raw.expect(Connack).reason_code == QUOTA_EXCEEDED
