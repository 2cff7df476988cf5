"""What the broker makes of topics beyond the specification, on two nodes: publisher on one, subscriber on the
other."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.mqtt import MQTT_3_1_1, MQTT_5, Connack, Connect, Properties, Publish, ReasonCode, Will
from tests.cluster.conftest import running_nodes
from tests.node.harness import NodeProcess
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import HOUR, WireClient, connected

LATE_SECONDS = 3.0  # deadlines are looked for once a second
DELAYED_LIMIT = 4
ENVIRONMENT = {
    "MOORLINE_TOPICS__DELAYED_MAXIMUM_SECONDS": "3600",
    "MOORLINE_TOPICS__EXCLUSIVE": "true",
    "MOORLINE_TOPICS__DELAYED_LIMIT": str(DELAYED_LIMIT),
    "MOORLINE_TOPICS__REWRITE": json.dumps(
        [
            {"pattern": "old/([^/]+)/(.+)", "target": "new/$2/$1"},
            {"action": "publish", "pattern": "to-own", "target": "own/%c/%u"},
            {"action": "subscribe", "pattern": "my-own/(.*)", "target": "own/%c/$1"},
        ]
    ),
    "MOORLINE_TOPICS__AUTO_SUBSCRIBE": json.dumps(
        [{"filter": "for/%c/#", "qos": 1, "retain_as_published": True}, {"filter": "users/%u", "qos": 2}]
    ),
}

Nodes = tuple[NodeProcess, NodeProcess]


@pytest.fixture(scope="module")
def nodes(redis_of_cluster: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    directory = tmp_path_factory.mktemp("nodes")
    with running_nodes(directory, redis_of_cluster.url, 2, ENVIRONMENT) as (first, second):
        yield first, second


# Delayed publish


@pytest.mark.parametrize(
    ("version", "publishing", "watching"),
    [(MQTT_5, None, HOUR), (MQTT_5, HOUR, None), (MQTT_3_1_1, None, None), (MQTT_3_1_1, HOUR, HOUR)],
    ids=["5-direct-stored", "5-stored-direct", "4-direct-direct", "4-stored-stored"],
)
def test_a_delayed_message_comes_once_and_in_time(
    nodes: Nodes, name: str, version: int, publishing: Properties | None, watching: Properties | None
) -> None:
    first, second = nodes
    with (
        connected(second.port, f"{name}-watcher", properties=watching) as watcher,
        connected(
            first.port,
            f"{name}-publisher",
            version,
            clean_start=publishing is None,
            properties=publishing if version == MQTT_5 else None,
        ) as publisher,
    ):
        watcher.subscribe(f"{name}/#", qos=2)
        started = time.monotonic()
        for qos in (0, 1, 2):
            assert publisher.publish(f"$delayed/1/{name}/{qos}", b"%d" % qos, qos) == 0
        publisher.disconnect()
        watcher.assert_silence()
        received = [watcher.message() for _ in range(3)]
        assert 1.0 <= time.monotonic() - started <= 1.0 + LATE_SECONDS
        assert [(each.topic, each.payload, each.qos) for each in received] == [
            (f"{name}/{qos}", b"%d" % qos, qos) for qos in (0, 1, 2)
        ]
        watcher.assert_silence(1.2)


def test_all_of_the_message_is_kept(nodes: Nodes, name: str) -> None:
    properties = Properties(
        content_type="text/plain", user_property=(("a", "b"),), message_expiry_interval=60
    )
    with connected(nodes[0].port, f"{name}-p") as publisher:
        publisher.publish(f"$delayed/0/{name}", b"kept", 1, retain=True, properties=properties)
        time.sleep(1.5)
    with connected(nodes[1].port, f"{name}-w") as watcher:
        watcher.subscribe(name, qos=1)
        publish = watcher.message()
    assert (publish.payload, publish.qos, publish.retain) == (b"kept", 1, True)
    assert publish.properties is not None
    assert publish.properties.content_type == "text/plain"
    assert publish.properties.user_property == (("a", "b"),)
    assert 0 < (publish.properties.message_expiry_interval or 0) <= 60


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("$delayed/1", ReasonCode.TOPIC_NAME_INVALID),
        ("$delayed/1/", ReasonCode.TOPIC_NAME_INVALID),
        ("$delayed//t", ReasonCode.TOPIC_NAME_INVALID),
        ("$delayed/-1/t", ReasonCode.TOPIC_NAME_INVALID),
        ("$delayed/1.5/t", ReasonCode.TOPIC_NAME_INVALID),
        ("$delayed/\u0661/t", ReasonCode.TOPIC_NAME_INVALID),
        ("$delayed/1/$delayed/1/t", ReasonCode.TOPIC_NAME_INVALID),
        ("$delayed/1/$SYS/t", ReasonCode.NOT_AUTHORIZED),
        ("$delayed/3601/t", ReasonCode.QUOTA_EXCEEDED),
    ],
)
def test_what_is_not_delayed(nodes: Nodes, topic: str, code: ReasonCode) -> None:
    with (
        connected(nodes[0].port, "refused") as client,
        connected(nodes[0].port, "old", MQTT_3_1_1, clean_start=False) as old,
    ):
        for qos in (0, 1, 2):
            assert client.publish(topic, b"", qos) == (code if qos else 0)
            assert old.publish(topic, b"", qos) == 0
        old.assert_silence()


def test_a_client_may_have_so_many_waiting(nodes: Nodes, name: str) -> None:
    with connected(nodes[0].port, f"{name}-p") as publisher:
        codes = [publisher.publish(f"$delayed/3600/{name}", b"", 2) for _ in range(DELAYED_LIMIT + 1)]
        assert codes == [0] * DELAYED_LIMIT + [ReasonCode.QUOTA_EXCEEDED]
    with connected(nodes[0].port, f"{name}-other") as other:
        assert other.publish(f"$delayed/3600/{name}", b"", 2) == 0


@pytest.mark.timeout(60)
def test_a_delayed_message_outlives_both_nodes(tmp_path: Path) -> None:
    """kill -9 of the node that has taken it, and of the other one when its time comes."""
    with (
        running_redis(tmp_path / "redis") as server,
        running_nodes(tmp_path, server.url, 2, ENVIRONMENT) as (first, second),
    ):
        with connected(second.port, "watcher", properties=HOUR) as watcher:
            watcher.subscribe("t", qos=2)
        with connected(first.port, "publisher", properties=HOUR) as publisher:
            assert publisher.publish("$delayed/2/t", b"later", 2) == 0
            first.kill()
        time.sleep(1.0)
        second.restart()
        with WireClient(second.port) as watcher:
            watcher.connect("watcher", clean_start=False, properties=HOUR)
            assert watcher.message().payload == b"later"
            watcher.assert_silence(1.5)
        with WireClient(second.port) as publisher:
            publisher.connect("publisher", clean_start=False, properties=HOUR)
            publisher.send(Publish("other", b"", 0, False, False, 0, None))
            publisher.assert_silence()


# Rewrite rules


@pytest.mark.parametrize("properties", [None, HOUR], ids=["direct", "stored"])
def test_topics_and_filters_are_rewritten(nodes: Nodes, name: str, properties: Properties | None) -> None:
    first, second = nodes
    with (
        connected(second.port, f"{name}-w", properties=properties) as watcher,
        connected(second.port, f"{name}-s") as sharing,
        connected(first.port, f"{name}-p") as publisher,
    ):
        watcher.subscribe(f"old/+/{name}", qos=2)
        sharing.subscribe(f"$share/{name}/old/+/{name}", qos=1)
        publisher.publish(f"old/a/{name}", b"1", 2)
        publisher.publish(f"new/{name}/b", b"2", 1)
        publisher.publish(f"$delayed/0/old/c/{name}", b"3", 1)
        expected = [f"new/{name}/{place}" for place in "abc"]
        assert [watcher.message().topic for _ in expected] == expected
        assert [sharing.message().topic for _ in expected] == expected
        assert watcher.unsubscribe(f"old/+/{name}").reason_codes == [0]
        assert publisher.publish(f"new/{name}", b"", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS


def test_a_will_is_rewritten(nodes: Nodes, name: str) -> None:
    with connected(nodes[1].port, f"{name}-w") as watcher:
        watcher.subscribe(f"new/{name}/will")
        connected(nodes[0].port, f"{name}-p", will=Will(f"old/will/{name}", b"", 0, False, None)).close()
        assert watcher.message().topic == f"new/{name}/will"


def test_names_of_clients_in_rules(nodes: Nodes) -> None:
    with (
        connected(nodes[1].port, "me") as me,
        connected(nodes[1].port, "+") as everybody,
        connected(nodes[1].port, "watcher") as watcher,
        WireClient(nodes[0].port) as named,
    ):
        me.subscribe("my-own/#", qos=1)
        everybody.subscribe("my-own/#", qos=1)  # no rule lets it see what others have
        named.send(Connect("me-too", MQTT_5, True, 0, "user", None, None, None))
        assert named.expect(Connack).reason_code == 0
        watcher.subscribe("own/#", qos=1)
        for qos in (1, 2, 0):  # of a subscription elsewhere a node learns with its next batch
            named.publish("to-own", b"%d" % qos, qos)
        assert [watcher.message().topic for _ in range(3)] == ["own/me-too/user"] * 3
        assert me.publish("to-own", b"", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS  # it has no user name
        assert named.publish("own/me/x", b"", 1) == 0
        assert watcher.message().topic == me.message().topic == "own/me/x"
        everybody.assert_silence()


# Subscriptions that every client has


@pytest.mark.parametrize(
    ("version", "properties"), [(MQTT_3_1_1, None), (MQTT_5, None), (MQTT_5, HOUR)], ids=["4", "5", "stored"]
)
def test_each_client_has_its_subscriptions(
    nodes: Nodes, name: str, version: int, properties: Properties | None
) -> None:
    first, second = nodes
    with (
        connected(second.port, f"{name}-p") as publisher,
        connected(first.port, f"{name}-w", version, properties=properties) as watcher,
    ):
        deadline = time.monotonic() + LATE_SECONDS
        while publisher.publish(f"for/{name}-w/a", b"1", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS:
            assert time.monotonic() < deadline
        first_message = watcher.message()
        assert (first_message.payload, first_message.qos, first_message.retain) == (b"1", 1, False)
        watcher.assert_silence(0.2)  # it may still read what is retained, and would get the next one so, too
        publisher.publish(f"for/{name}-w/b", b"3", 2, retain=True)
        second_message = watcher.message()
        assert (second_message.payload, second_message.qos, second_message.retain) == (b"3", 1, True)
        watcher.publish(f"for/{name}-p/a", b"2", 1)
        assert publisher.message().payload == b"2"
        watcher.assert_silence()
        watcher.unsubscribe(f"for/{name}-w/#")
        publisher.publish(f"for/{name}-w/a", b"", 1)
        watcher.assert_silence()


def test_a_session_that_goes_on_keeps_them_as_they_are(nodes: Nodes, name: str) -> None:
    """No retained message comes a second time; what came while it was away comes."""
    with connected(nodes[1].port, f"{name}-p") as publisher:
        publisher.publish(f"for/{name}-w/kept", b"kept", 1, retain=True)
        with connected(nodes[0].port, f"{name}-w", properties=HOUR) as watcher:
            assert watcher.message().payload == b"kept"
            watcher.assert_silence(0.2)
        publisher.publish(f"for/{name}-w/a", b"away", 1)
        with WireClient(nodes[1].port) as watcher:
            watcher.connect(f"{name}-w", clean_start=False, properties=HOUR)
            assert watcher.message().payload == b"away"
            watcher.assert_silence(0.3)


def test_a_name_with_wildcards_gets_none(nodes: Nodes) -> None:
    with (
        connected(nodes[0].port, "#") as greedy,
        connected(nodes[0].port, "modest") as modest,
        connected(nodes[0].port, "publisher") as publisher,
    ):
        modest.subscribe("for/modest/x", qos=1)
        assert publisher.publish("for/modest/x", b"", 1) == 0
        modest.message()
        greedy.assert_silence(0.3)


# Exclusive subscriptions

LIVES = pytest.mark.parametrize("properties", [None, HOUR], ids=["direct", "stored"])
TAKEN = [ReasonCode.QUOTA_EXCEEDED]


@LIVES
def test_one_client_at_a_time_has_it(nodes: Nodes, name: str, properties: Properties | None) -> None:
    """Until it unsubscribes; others may have the same filter in the ordinary way."""
    first, second = nodes
    filter = f"$exclusive/{name}/+"
    with (
        connected(first.port, f"{name}-a", properties=properties) as a,
        connected(second.port, f"{name}-b", properties=properties) as b,
        connected(second.port, f"{name}-p") as publisher,
    ):
        publisher.publish(f"{name}/kept", b"kept", 1, retain=True)
        assert a.subscribe(filter, qos=1).reason_codes == [1]
        assert a.message().payload == b"kept"
        assert b.subscribe(filter, f"{name}/x", qos=1).reason_codes == [*TAKEN, 1]
        assert a.subscribe(filter, qos=1, retain_handling=2).reason_codes == [1]
        publisher.publish(f"{name}/x", b"1", 1)
        assert a.message().payload == b.message().payload == b"1"
        publisher.publish(f"{name}/y", b"2", 1)
        assert a.message().payload == b"2"
        b.assert_silence()
        assert a.unsubscribe(filter).reason_codes == [0]
        assert b.subscribe(filter, qos=1, retain_handling=2).reason_codes == [1]
        publisher.publish(f"{name}/x", b"3", 1)  # one copy, though it has two subscriptions
        publisher.publish(f"{name}/y", b"4", 1)
        assert b.payloads(2) == [b"3", b"4"]
        assert b.unsubscribe(filter).reason_codes == [0]
        publisher.publish(f"{name}/x", b"5", 1)
        publisher.publish(f"{name}/y", b"6", 1)
        assert b.message().payload == b"5"
        a.assert_silence()
        b.assert_silence()


def test_it_ends_with_the_session(nodes: Nodes, name: str) -> None:
    first, second = nodes
    filter = f"$exclusive/{name}"
    with connected(second.port, f"{name}-b") as b:
        with connected(first.port, f"{name}-direct") as direct:
            direct.subscribe(filter)
            assert b.subscribe(filter).reason_codes == TAKEN
            direct.disconnect()
        assert b.subscribe(filter).reason_codes == [0]
        b.unsubscribe(filter)
        with connected(first.port, f"{name}-stored", properties=HOUR) as stored:
            stored.subscribe(filter)
            stored.disconnect()
        assert b.subscribe(filter).reason_codes == TAKEN  # it may come back
        with connected(second.port, f"{name}-stored", clean_start=True):
            assert b.subscribe(filter).reason_codes == [0]


@pytest.mark.parametrize(
    "filter", ["$exclusive/", "$exclusive/$share/g/a", "$exclusive/$exclusive/a", "$share/g/$exclusive/a"]
)
def test_no_exclusive_filter(nodes: Nodes, filter: str) -> None:
    with connected(nodes[0].port, "client") as client:
        assert client.subscribe(filter).reason_codes == [ReasonCode.TOPIC_FILTER_INVALID]


@pytest.mark.timeout(60)
def test_a_killed_node_frees_it(tmp_path: Path) -> None:
    """What had a direct session there, as soon as the others have found the node dead; a persistent session
    keeps it."""
    with (
        running_redis(tmp_path / "redis") as server,
        running_nodes(tmp_path, server.url, 2, ENVIRONMENT) as (first, second),
        connected(second.port, "b") as b,
    ):
        with (
            connected(first.port, "direct") as direct,
            connected(first.port, "stored", properties=HOUR) as stored,
        ):
            direct.subscribe("$exclusive/d")
            stored.subscribe("$exclusive/s")
            first.kill()
        deadline = time.monotonic() + 20.0
        while b.subscribe("$exclusive/d").reason_codes == TAKEN:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert b.subscribe("$exclusive/s").reason_codes == TAKEN
        with WireClient(second.port) as stored:
            assert stored.connect("stored", clean_start=False, properties=HOUR).session_present
            b.publish("s", b"still mine")
            assert stored.message().payload == b"still mine"
            assert b.subscribe("$exclusive/s").reason_codes == TAKEN
