"""What an operator can switch off, and what he can have checked: said in CONNACK [3.2.2.3], and enforced."""

import re
import time
from collections.abc import Iterator

import pytest

from broker.mqtt import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Properties,
    Puback,
    Publish,
    ReasonCode,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Will,
)
from tests.node.conftest import Clients
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import HOUR

UTF_8 = Properties(payload_format_indicator=1)
REFUSED_311 = 0x80
OLDER = pytest.mark.parametrize("version", [MQTT_3_1, MQTT_3_1_1])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    environment = {
        f"MOORLINE_MQTT__{name}": value
        for name, value in {
            "MAXIMUM_QOS": "1",
            "RETAIN_AVAILABLE": "false",
            "WILDCARD_SUBSCRIPTION_AVAILABLE": "false",
            "SHARED_SUBSCRIPTION_AVAILABLE": "false",
            "SUBSCRIPTION_IDENTIFIER_AVAILABLE": "false",
            "PAYLOAD_FORMAT_CHECK": "true",
            "RESPONSE_INFORMATION": "replies/%c",
            "SENT_TOPIC_ALIASES_MAXIMUM": "0",
        }.items()
    }
    with running_node(tmp_path_factory.mktemp("node"), environment=environment) as node:
        yield node


def test_announced(client: Clients) -> None:
    """[MQTT-3.2.2-9]; Response Information only to who asks for it [MQTT-3.1.2-28]."""
    connack = client.raw().connect(client.id_of("c"))
    properties = connack.properties
    assert properties is not None
    assert properties.maximum_qos == 1
    assert properties.retain_available == 0
    assert properties.wildcard_subscription_available == 0
    assert properties.shared_subscription_available == 0
    assert properties.subscription_identifier_available == 0
    assert properties.response_information is None


def test_response_information(client: Clients) -> None:
    asking = Properties(request_response_information=1)
    answers = []
    for client_id in ("c", "a+b"):
        connack = client.raw().connect(client_id, properties=asking)
        assert connack.properties is not None
        answers.append(connack.properties.response_information)
    assert answers == ["replies/c", None]
    connack = client.raw().connect("c", properties=Properties(request_response_information=0))
    assert connack.properties is not None
    assert connack.properties.response_information is None


# Publishing


@pytest.mark.parametrize(
    ("publish", "code"),
    [
        (Publish("t", b"", 2, False, False, 1), ReasonCode.QOS_NOT_SUPPORTED),
        (Publish("t", b"", 0, True, False, 0), ReasonCode.RETAIN_NOT_SUPPORTED),
        (Publish("t", b"", 1, True, False, 1), ReasonCode.RETAIN_NOT_SUPPORTED),
    ],
    ids=["qos 2", "retained", "retained at qos 1"],
)
def test_publish(client: Clients, publish: Publish, code: ReasonCode) -> None:
    """[3.2.2.3.4], [3.2.2.3.5]; a client of MQTT 3 can't be told, its connection is closed all the same."""
    bad = client("bad")
    bad.send(publish)
    assert bad.wait_refused() == code
    for version in (MQTT_3_1, MQTT_3_1_1):
        old = client("old", version)
        old.send(publish)
        assert old.wait_closed() == []


@pytest.mark.parametrize(
    ("will", "code"),
    [
        (Will("t", b"", 2, False), ReasonCode.QOS_NOT_SUPPORTED),  # [MQTT-3.2.2-12]
        (Will("t", b"", 0, True), ReasonCode.RETAIN_NOT_SUPPORTED),  # [MQTT-3.2.2-13]
        (Will("t", b"\xff", 0, False, UTF_8), ReasonCode.PAYLOAD_FORMAT_INVALID),
    ],
    ids=["qos 2", "retained", "payload"],
)
def test_will(client: Clients, will: Will, code: ReasonCode) -> None:
    bad = client.raw()
    bad.send(Connect(client.id_of("bad"), MQTT_5, True, 0, None, None, will))
    (connack,) = bad.wait_closed()
    assert isinstance(connack, Connack)
    assert connack.reason_code == code
    if will.properties is None:
        old = client.raw(MQTT_3_1_1)  # has no return code for it
        old.send(Connect(client.id_of("bad"), MQTT_3_1_1, True, 0, None, None, will))
        assert old.wait_closed() == []


def test_what_may_be_published(client: Clients, name: str) -> None:
    for version in (MQTT_3_1_1, MQTT_5):
        good = client("good", version, will=Will("t", b"\xff", 1, False))
        assert good.subscribe(name, qos=2).reason_codes == [2]  # [MQTT-3.2.2-10]
        publisher = client("publisher", version)
        publisher.publish(name, b"0")
        publisher.publish(name, b"1", 1)
        assert [(packet.payload, packet.qos) for packet in (good.message(), good.message())] == [
            (b"0", 0),
            (b"1", 1),
        ]


# Payload Format Indicator


def test_payload_at_qos_0(client: Clients) -> None:
    bad = client("bad")
    bad.send(Publish("t", b"\xff", 0, False, False, 0, UTF_8))
    assert bad.wait_refused() == ReasonCode.PAYLOAD_FORMAT_INVALID


@pytest.mark.parametrize("expiry", [0, 3600], ids=["direct", "stored"])
def test_payload_at_qos_1(client: Clients, name: str, expiry: int) -> None:
    """It reaches nobody, and the connection goes on."""
    watcher = client("watcher")
    watcher.subscribe(name, qos=1)
    properties = Properties(session_expiry_interval=expiry)
    publisher = client("publisher", properties=properties)
    publisher.send(
        Publish(name, b"good", 1, False, False, 1, UTF_8),
        Publish(name, b"\xff", 1, False, False, 2, UTF_8),
        Publish(name, b"\xff", 1, False, False, 3),
    )
    answers = [publisher.expect(Puback) for _ in range(3)]
    assert [(answer.packet_id, answer.reason_code) for answer in answers] == [(1, 0), (2, 0x99), (3, 0)]
    assert answers[1].properties is not None
    assert answers[1].properties.reason_string
    assert watcher.payloads(2) == [b"good", b"\xff"]


def test_refused_payloads_are_counted(client: Clients, node: NodeProcess) -> None:
    publisher = client("publisher")
    publisher.send(Publish("t", b"\xff", 1, False, False, 1, UTF_8))
    publisher.expect(Puback)
    deadline = time.monotonic() + 5.0
    while not re.search(r'moorline_refused_total\{limit="payload_format_check"\}', node.get("/metrics").text):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_wants_no_problem_information_gets_none(client: Clients) -> None:
    """[MQTT-3.1.2-29]: CONNACK and DISCONNECT may have it."""
    quiet = client("quiet", properties=Properties(request_problem_information=0))
    quiet.send(Publish("t", b"\xff", 1, False, False, 1, UTF_8))
    assert quiet.expect(Puback) == Puback(1, ReasonCode.PAYLOAD_FORMAT_INVALID)
    deep = "/".join("x" * 200)
    assert quiet.subscribe(deep).properties is None
    suback = client("curious").subscribe("fine", deep)
    assert suback.reason_codes == [0, ReasonCode.TOPIC_FILTER_INVALID]
    assert suback.properties == Properties(reason_string="more than 128 levels")


# Subscribing


@pytest.mark.parametrize(
    ("filter", "identifier", "code"),
    [
        ("a/+", 0, ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
        ("$share/g/a", 0, ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
        ("a", 7, ReasonCode.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED),
    ],
)
@pytest.mark.parametrize("properties", [None, HOUR], ids=["direct", "stored"])
def test_subscribe(
    client: Clients, properties: Properties | None, filter: str, identifier: int, code: ReasonCode
) -> None:
    """[3.2.2.3.11], [3.2.2.3.12], [3.2.2.3.13]: a Protocol Error of who was told."""
    bad = client("bad", properties=properties)
    requests = [SubscriptionRequest("fine", 0), SubscriptionRequest(filter, 0)]
    bad.send(
        Subscribe(1, requests, Properties(subscription_identifier=(identifier,)) if identifier else None)
    )
    assert bad.wait_refused() == code


@OLDER
def test_subscribe_before_mqtt_5(client: Clients, version: int) -> None:
    """Who could not be told is refused that filter and keeps its connection."""
    old = client("old", version)
    suback = old.subscribe("fine", "a/+", "$share/g/a", qos=1)
    assert suback == Suback(suback.packet_id, [1, REFUSED_311, REFUSED_311])
    assert old.ping() == []


def test_no_topic_alias_where_there_is_none(client: Clients, name: str) -> None:
    watcher = client("watcher", properties=Properties(topic_alias_maximum=10))
    watcher.subscribe(name)
    publisher = client("publisher")
    for _ in range(3):
        publisher.publish(name, b"")
    assert [watcher.message().topic for _ in range(3)] == [name] * 3


# Maximum Packet Size


def test_a_connack_that_the_client_would_not_accept(client: Clients) -> None:
    """[MQTT-3.1.2-24], [MQTT-3.2.2-19]"""
    raw = client.raw()
    raw.send(Connect("", MQTT_5, True, 0, properties=Properties(maximum_packet_size=20)))
    assert raw.wait_closed() == [Connack(False, ReasonCode.PACKET_TOO_LARGE)]
    raw = client.raw()
    raw.send(Connect("", MQTT_5, True, 0, properties=Properties(maximum_packet_size=3)))
    assert raw.wait_closed() == []


@pytest.mark.parametrize("expiry", [0, 3600], ids=["direct", "stored"])
def test_a_suback_that_the_client_would_not_accept(client: Clients, expiry: int) -> None:
    properties = Properties(maximum_packet_size=50, session_expiry_interval=expiry)
    small = client("small", properties=properties)
    fine = [f"fine{number}" for number in range(25)]
    suback = small.subscribe("/".join("x" * 200), *fine)
    assert suback.reason_codes == [ReasonCode.TOPIC_FILTER_INVALID] + [0] * 25
    assert suback.properties is None, "[MQTT-3.9.2-1]"
    small.send(Subscribe(9, [SubscriptionRequest(f"a{number}", 0) for number in range(60)]))
    assert small.wait_refused() == ReasonCode.PACKET_TOO_LARGE


def test_a_refused_publish_of_a_small_client(client: Clients) -> None:
    """[MQTT-3.4.2-2], [MQTT-3.5.2-2]"""
    small = client("small", properties=Properties(maximum_packet_size=50))
    small.send(Publish("t", b"\xff", 1, False, False, 1, UTF_8))
    assert small.expect(Puback) == Puback(1, ReasonCode.PAYLOAD_FORMAT_INVALID)
