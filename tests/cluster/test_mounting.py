"""Listeners with a mount point beside one without, on one node and on two: publishers on the first one."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from broker.mqtt import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Properties,
    Publish,
    ReasonCode,
    Will,
)
from tests.cluster.conftest import running_nodes
from tests.node.harness import NodeProcess
from tests.node.redis_server import RedisServer
from tests.node.wire import HOUR, WireClient, connected

ENVIRONMENT = {
    "MOORLINE_LISTENERS__A__ADDRESS": "mqtt://127.0.0.1:0",
    "MOORLINE_LISTENERS__A__MOUNT_POINT": "tenants/a",
    "MOORLINE_LISTENERS__B__ADDRESS": "mqtt://127.0.0.1:0",
    "MOORLINE_LISTENERS__B__MOUNT_POINT": "tenants/b/",
    "MOORLINE_TOPICS__DELAYED_MAXIMUM_SECONDS": "3600",
    "MOORLINE_TOPICS__EXCLUSIVE": "true",
    "MOORLINE_TOPICS__REWRITE": json.dumps(
        [
            {"pattern": "old/(.+)", "target": "new/$1"},
            {"action": "subscribe", "pattern": "everything", "target": "$SYS/#"},
        ]
    ),
    "MOORLINE_TOPICS__AUTO_SUBSCRIBE": json.dumps([{"filter": "for/%c", "qos": 1}]),
}
INVALID = ReasonCode.TOPIC_NAME_INVALID
VERSIONS = pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
KEEPS = pytest.mark.parametrize("keeps", [False, True], ids=["direct", "stored"])


@dataclass(frozen=True)
class Ports:
    """Of the listeners of one node."""

    plain: int
    a: int
    b: int


@dataclass(frozen=True)
class Flow:
    """`near` has the publishers, `far` the subscribers."""

    near: Ports
    far: Ports


def _ports(node: NodeProcess) -> Ports:
    found = dict(re.findall(r"^  mqtt +\S+:(\d+), mount point tenants/(\w)/$", node.output(), re.MULTILINE))
    ports = {name: int(port) for port, name in found.items()}
    return Ports(node.port, ports["a"], ports["b"])


@pytest.fixture(scope="module")
def ports(
    redis_of_cluster: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Ports, Ports]]:
    directory = tmp_path_factory.mktemp("nodes")
    with running_nodes(directory, redis_of_cluster.url, 2, ENVIRONMENT) as (first, second):
        yield _ports(first), _ports(second)


@pytest.fixture(params=["one", "two"])
def flow(request: pytest.FixtureRequest, ports: tuple[Ports, Ports]) -> Flow:
    first, second = ports
    return Flow(first, first if request.param == "one" else second)


def _client(port: int, client_id: str, version: int = MQTT_5, *, keeps: bool = False) -> WireClient:
    properties = HOUR if keeps and version == MQTT_5 else None
    clean_start = version == MQTT_5 or not keeps
    return connected(port, client_id, version, clean_start=clean_start, properties=properties)


def _received(client: WireClient, count: int) -> list[str]:
    """The topics of so many messages, in alphabetical order, as those at QoS 0 may overtake others; and that
    there are no more."""
    topics = sorted(client.message().topic for _ in range(count))
    client.assert_silence()
    return topics


@VERSIONS
@KEEPS
def test_who_sees_what(flow: Flow, name: str, version: int, keeps: bool) -> None:
    with (
        _client(flow.far.plain, f"{name}-all", version, keeps=keeps) as everybody,
        _client(flow.far.a, f"{name}-a", version, keeps=keeps) as of_a,
        _client(flow.far.b, f"{name}-b", version, keeps=keeps) as of_b,
        _client(flow.near.plain, f"{name}-pub", version) as publisher,
        _client(flow.near.a, f"{name}-pub-a", version) as publisher_of_a,
    ):
        everybody.subscribe("#", qos=2, retain_handling=2 if version == MQTT_5 else 0)
        of_a.subscribe("#", f"{name}/+", qos=2)
        of_b.subscribe("+/#", qos=2)
        for qos in (1, 2, 0):  # of a subscription elsewhere a node learns with its next batch
            publisher_of_a.publish(f"{name}/{qos}", b"", qos)
            publisher.publish(f"tenants/b/{name}/{qos}", b"", qos)
            publisher.publish(name, b"", qos)
        publisher.publish(f"tenants/a/$x/{name}", b"", 1)
        publisher.publish("tenants/a", b"", 1)
        assert _received(of_a, 3) == [f"{name}/{qos}" for qos in (0, 1, 2)]
        assert _received(of_b, 3) == [f"{name}/{qos}" for qos in (0, 1, 2)]
        assert _received(everybody, 11) == sorted(
            [
                *[f"tenants/{tenant}/{name}/{qos}" for tenant in "ab" for qos in (0, 1, 2)],
                *[name] * 3,
                f"tenants/a/$x/{name}",
                "tenants/a",
            ]
        )
        assert of_a.unsubscribe("#", f"{name}/+").reason_codes == ([0, 0] if version == MQTT_5 else [])
        publisher_of_a.publish(name, b"", 1)
        of_a.assert_silence()


@VERSIONS
@KEEPS
def test_retained_messages(flow: Flow, name: str, version: int, keeps: bool) -> None:
    with _client(flow.near.a, f"{name}-pub", version) as publisher:
        for qos in (0, 1, 2):
            publisher.publish(f"{name}/{qos}", b"x", qos, retain=True)
        publisher.publish(f"{name}/last", b"x", 1)  # and so are those at QoS 0
    with (
        _client(flow.far.plain, f"{name}-all", version, keeps=keeps) as everybody,
        _client(flow.far.a, f"{name}-a", version, keeps=keeps) as of_a,
        _client(flow.far.b, f"{name}-b", version, keeps=keeps) as of_b,
    ):
        everybody.subscribe(f"tenants/+/{name}/#", qos=2)
        of_a.subscribe(f"+/{name}/#", f"{name}/+", qos=2)
        of_b.subscribe(f"+/{name}/#", f"{name}/+", qos=2)
        assert _received(everybody, 3) == [f"tenants/a/{name}/{qos}" for qos in (0, 1, 2)]
        assert _received(of_a, 3) == [f"{name}/{qos}" for qos in (0, 1, 2)]
        of_b.assert_silence()


@VERSIONS
def test_wills_and_delayed_messages(flow: Flow, name: str, version: int) -> None:
    with (
        _client(flow.far.plain, f"{name}-all") as everybody,
        _client(flow.far.a, f"{name}-a") as of_a,
        _client(flow.far.b, f"{name}-b") as of_b,
    ):
        everybody.subscribe(f"tenants/a/{name}/#", qos=1)
        for each in (of_a, of_b):
            each.subscribe(f"{name}/#", qos=1)
        will = Will(f"{name}/will", b"", 1, False)
        with connected(flow.near.a, f"{name}-pub", version, will=will) as publisher:
            assert publisher.publish(f"$delayed/0/{name}/later", b"", 1) == 0
        assert sorted(everybody.message().topic for _ in range(2)) == [
            f"tenants/a/{name}/later",
            f"tenants/a/{name}/will",
        ]
        assert _received(of_a, 2) == [f"{name}/later", f"{name}/will"]
        of_b.assert_silence()


def test_topic_aliases_and_response_topics(flow: Flow, name: str) -> None:
    aliases = Properties(topic_alias_maximum=5)
    with (
        connected(flow.far.a, f"{name}-a", properties=aliases) as of_a,
        _client(flow.far.plain, f"{name}-all") as everybody,
        _client(flow.near.a, f"{name}-pub") as publisher,
    ):
        of_a.subscribe(name, qos=1)
        everybody.subscribe(f"tenants/a/{name}", qos=1, no_local=True)
        for topic, answered in ((name, f"{name}/reply"), ("", None), ("", "$SYS/reply")):
            properties = Properties(topic_alias=1, response_topic=answered)
            publisher.publish(topic, b"", 1, properties=properties)
        seen = [of_a.message() for _ in range(3)]
        assert [each.topic for each in seen] == [name, name, ""], "the second one has set an alias"
        assert [_response_topic(each) for each in seen] == [f"{name}/reply", None, None]
        by_all = [everybody.message() for _ in range(3)]
        assert [each.topic for each in by_all] == [f"tenants/a/{name}"] * 3
        assert [_response_topic(each) for each in by_all] == [f"tenants/a/{name}/reply", None, None]
        everybody.publish(f"tenants/a/{name}", b"", 1, properties=Properties(response_topic=name))
        assert _response_topic(of_a.message()) is None, "nobody below could answer there"


def _response_topic(publish: Publish) -> str | None:
    return publish.properties.response_topic if publish.properties is not None else None


@KEEPS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_shared_subscriptions(flow: Flow, name: str, keeps: bool, qos: int) -> None:
    """One group, whoever joins it from where; each member sees the topic as it has to."""
    with (
        _client(flow.near.plain, f"{name}-all", keeps=keeps) as of_all,
        _client(flow.far.a, f"{name}-a", MQTT_3_1_1, keeps=keeps) as of_a,
        _client(flow.far.b, f"{name}-b", keeps=keeps) as of_b,
        _client(flow.near.a, f"{name}-pub") as publisher,
    ):
        of_a.subscribe(f"$share/g/{name}/+", qos=2)
        of_b.subscribe(f"$share/g/{name}/+", qos=2)
        publisher.publish(f"{name}/0", b"", 1)
        assert of_a.message().topic == f"{name}/0"
        publisher.publish(f"{name}/1", b"", qos)
        assert of_a.message().topic == f"{name}/1"
        of_all.subscribe(f"$share/g/tenants/a/{name}/+", qos=2)
        of_a.unsubscribe(f"$share/g/{name}/+")
        publisher.publish(f"{name}/2", b"", max(qos, 1))
        assert of_all.message().topic == f"tenants/a/{name}/2"
        of_b.assert_silence()


def test_exclusive_subscriptions(flow: Flow, name: str) -> None:
    with (
        _client(flow.near.plain, f"{name}-all") as of_all,
        _client(flow.far.a, f"{name}-a") as of_a,
        _client(flow.far.b, f"{name}-b") as of_b,
    ):
        assert of_a.subscribe(f"$exclusive/{name}", qos=1).reason_codes == [1]
        assert of_b.subscribe(f"$exclusive/{name}", qos=1).reason_codes == [1]
        taken = of_all.subscribe(f"$exclusive/tenants/a/{name}", qos=1)
        assert taken.reason_codes == [ReasonCode.QUOTA_EXCEEDED]
        of_all.publish(f"tenants/a/{name}", b"", 1)
        assert of_a.message().topic == name
        of_b.assert_silence()
        assert of_a.unsubscribe(f"$exclusive/{name}").reason_codes == [0]
        assert of_all.subscribe(f"$exclusive/tenants/a/{name}", qos=1).reason_codes == [1]


# What is refused

LONG = "x" * (65_536 - len("tenants/a/"))


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("$SYS/t", ReasonCode.NOT_AUTHORIZED),
        ("$t", INVALID),
        ("$share/g/t", INVALID),
        ("$delayed/0/$t", INVALID),
        ("$delayed/0/$SYS/t", ReasonCode.NOT_AUTHORIZED),
        (LONG, INVALID),
        (f"tenants/a/{LONG[10:]}", INVALID),
        (f"$delayed/0/{LONG[11:]}", INVALID),
    ],
)
def test_what_is_not_published(ports: tuple[Ports, Ports], topic: str, code: ReasonCode) -> None:
    with (
        _client(ports[0].a, "refused") as client,
        _client(ports[0].a, "old", MQTT_3_1_1) as old,
        _client(ports[0].plain, "watcher") as watcher,
    ):
        watcher.subscribe("#", "$t", "$share/g/t", qos=1, retain_handling=2)
        for qos in (0, 1, 2):
            assert client.publish(topic, b"", qos) == (code if qos else 0)
            assert old.publish(topic, b"", qos) == 0
        watcher.assert_silence()


@pytest.mark.parametrize(("topic", "code"), [("$SYS/t", ReasonCode.NOT_AUTHORIZED), (LONG, INVALID)])
def test_a_will_that_is_refused(ports: tuple[Ports, Ports], topic: str, code: ReasonCode) -> None:
    with WireClient(ports[0].a) as client:
        client.send(Connect("c", MQTT_5, True, 0, None, None, Will(topic, b"", 0, False)))
        (connack,) = client.wait_closed()
        assert isinstance(connack, Connack)
        assert connack.reason_code == code


@VERSIONS
def test_what_is_not_subscribed_to(ports: tuple[Ports, Ports], name: str, version: int) -> None:
    failure = ReasonCode.TOPIC_FILTER_INVALID if version == MQTT_5 else 0x80
    filters = ["$SYS/#", "$t", "$share/g/$SYS/#", "$exclusive/$t", LONG, "everything"]
    with _client(ports[0].a, name, version) as client:
        assert client.subscribe(*filters, LONG[1:], "#").reason_codes == [failure] * len(filters) + [0, 0]
        while client.poll(0.2):  # what others have retained
            pass
        codes = client.unsubscribe(*filters, LONG[1:], "#").reason_codes
        assert codes == ([0x11] * len(filters) + [0, 0] if version == MQTT_5 else [])


# Other rules


def test_rewrite_rules_come_first(flow: Flow, name: str) -> None:
    """And see no mount point."""
    with (
        _client(flow.far.plain, f"{name}-all") as everybody,
        _client(flow.far.a, f"{name}-a") as of_a,
        _client(flow.near.a, f"{name}-pub") as publisher,
    ):
        everybody.subscribe(f"tenants/a/+/{name}", qos=1)
        of_a.subscribe(f"old/{name}", qos=1)
        assert publisher.publish(f"old/{name}", b"", 1) == 0
        assert of_a.message().topic == f"new/{name}"
        assert _received(everybody, 1) == [f"tenants/a/new/{name}"]


@KEEPS
def test_what_each_client_is_subscribed_to(flow: Flow, name: str, keeps: bool) -> None:
    with _client(flow.near.plain, f"{name}-pub") as publisher:
        for _ in range(2 if keeps else 1):
            with _client(flow.far.a, name, MQTT_3_1_1, keeps=keeps) as of_a:
                of_a.subscribe(f"{name}/own", qos=1)  # is stored behind what it is subscribed to
                publisher.publish(f"for/{name}", b"1", 1)
                publisher.publish(f"tenants/a/for/{name}", b"2", 1)
                publish = of_a.message()
                assert (publish.topic, publish.payload) == (f"for/{name}", b"2")
                of_a.assert_silence()


def test_a_session_that_comes_by_another_listener(flow: Flow, name: str) -> None:
    """It keeps its subscriptions. What it can't see there is dropped, never sent under a wrong name."""
    with (
        _client(flow.near.plain, f"{name}-pub") as publisher,
        _client(flow.near.plain, f"{name}-member") as member,
    ):
        with _client(flow.far.a, name, keeps=True) as of_a:
            of_a.subscribe(name, f"$share/g/{name}/+", qos=1)
        assert publisher.publish(f"tenants/a/{name}", b"1", 1) == 0
        with _back(flow.near.b, name) as of_b:
            of_b.subscribe(f"{name}/b", qos=1)
            of_b.unsubscribe(name)
            member.subscribe(f"$share/g/tenants/a/{name}/+", qos=1)
            for number in range(4):
                assert publisher.publish(f"tenants/a/{name}/{number}", b"", 1) == 0
            assert publisher.publish(f"tenants/a/{name}", b"2", 1) == 0
            assert publisher.publish(f"tenants/b/{name}/b", b"3", 1) == 0
            assert of_b.message().topic == f"{name}/b"
            of_b.assert_silence()
            assert _received(member, 4) == [f"tenants/a/{name}/{number}" for number in range(4)]
        assert publisher.publish(f"tenants/a/{name}", b"4", 1) == 0
        with _back(flow.far.plain, name) as of_all:
            publish = of_all.message()
            assert (publish.topic, publish.payload) == (f"tenants/a/{name}", b"4")
        assert publisher.publish(f"tenants/a/{name}", b"5", 1) == 0
        with _back(flow.far.a, name) as of_a:
            publish = of_a.message()
            assert (publish.topic, publish.payload) == (name, b"5")


def _back(port: int, client_id: str) -> WireClient:
    client = WireClient(port)
    connack = client.connect(client_id, clean_start=False, properties=HOUR)
    assert connack.session_present
    return client
