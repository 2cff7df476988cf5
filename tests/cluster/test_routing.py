"""A message that is published on one node reaches the subscribers on another: every kind, at every QoS."""

import pytest

from broker.mqtt import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    Disconnect,
    Properties,
    Publish,
    Pubrec,
    ReasonCode,
    Will,
)
from tests.node.harness import NodeProcess
from tests.node.wire import HOUR, WireClient, connected

Nodes = tuple[NodeProcess, NodeProcess]

EFFECTIVE = [(sent, granted) for sent in (0, 1, 2) for granted in (0, 1, 2)]


@pytest.mark.parametrize("kind", ["direct", "persistent"])
@pytest.mark.parametrize(("sent", "granted"), EFFECTIVE)
def test_every_qos_to_every_subscriber(nodes: Nodes, name: str, kind: str, sent: int, granted: int) -> None:
    there, here = nodes
    properties = HOUR if kind == "persistent" else None
    with (
        connected(here.port, f"{name}-s", properties=properties) as subscriber,
        connected(there.port, f"{name}-p", properties=HOUR) as publisher,
    ):
        subscriber.subscribe(f"{name}/+/x", qos=granted)
        publisher.publish("elsewhere", b"", 1)  # at QoS 0 a subscription counts soon after its SUBACK only
        for number in range(5):
            assert publisher.publish(f"{name}/{number}/x", b"%d" % number, sent) == 0
        received = [subscriber.message() for _ in range(5)]
        assert [(each.topic, each.payload) for each in received] == [
            (f"{name}/{number}/x", b"%d" % number) for number in range(5)
        ]
        assert {each.qos for each in received} == {min(sent, granted)}
        assert not any(each.retain or each.dup for each in received)
        subscriber.assert_silence()


@pytest.mark.parametrize("version", [MQTT_3_1, MQTT_3_1_1, MQTT_5])
def test_a_subscription_counts_from_its_suback(nodes: Nodes, name: str, version: int) -> None:
    """For whoever learns of it: the publisher's node has not heard of the filter before."""
    there, here = nodes
    with (
        connected(here.port, f"{name}-s"[:23], version) as subscriber,
        connected(there.port, f"{name}-p") as publisher,
    ):
        for number in range(100):
            subscriber.subscribe(f"{name}/{number}", qos=1 + number % 2)
            assert publisher.publish(f"{name}/{number}", b"%d" % number, 1 + number % 2) == 0
            assert subscriber.message().payload == b"%d" % number


def test_properties_and_options_go_along(nodes: Nodes, name: str) -> None:
    there, here = nodes
    properties = Properties(
        user_property=(("a", "1"), ("a", "2")), content_type="text/plain", message_expiry_interval=100
    )
    with (
        connected(here.port, f"{name}-direct") as direct,
        connected(here.port, f"{name}-queued", properties=HOUR) as queued,
        connected(there.port, f"{name}-p") as publisher,
    ):
        for subscriber in (direct, queued):
            subscriber.subscribe(name, qos=1, identifier=7, retain_as_published=True)
            subscriber.subscribe(f"{name}/#", qos=2, identifier=9)
        for qos in (0, 1, 2):
            publisher.publish(name, b"payload", qos, retain=True, properties=properties)
        for subscriber in (direct, queued):
            received = [subscriber.message() for _ in range(3)]
            assert [each.qos for each in received] == [0, 1, 2]
            for each in received:
                assert each.retain
                found = each.properties
                assert found is not None
                assert sorted(found.subscription_identifier) == [7, 9]
                assert found.user_property == properties.user_property
                assert found.content_type == "text/plain"
                assert found.message_expiry_interval in (99, 100)
            subscriber.assert_silence()
        publisher.publish(name, b"", 1, retain=True)


def test_an_own_message_does_not_come_back_by_another_node(nodes: Nodes, name: str) -> None:
    """No Local goes by the Client Identifier [MQTT-3.8.3-3]; it moves to another node in between."""
    there, here = nodes
    with connected(here.port, name, properties=HOUR) as client:
        client.subscribe(name, qos=1, no_local=True)
        client.publish(name, b"on the first node", 1)
    with WireClient(there.port) as client:
        assert client.connect(name, clean_start=False, properties=HOUR).session_present
        client.publish(name, b"on the second node", 1)
        client.assert_silence()


def test_nobody_matches(nodes: Nodes, name: str) -> None:
    """0x10, but not if the subscriber is on another node."""
    there, here = nodes
    with (
        connected(there.port, f"{name}-p") as publisher,
        connected(here.port, f"{name}-s") as subscriber,
    ):
        assert publisher.publish(name, b"", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS
        subscriber.subscribe(name, qos=1)
        assert publisher.publish(name, b"", 1) == 0
        subscriber.message()


def test_unsubscribed_there_is_unsubscribed(nodes: Nodes, name: str) -> None:
    there, here = nodes
    with (
        connected(here.port, f"{name}-direct") as direct,
        connected(here.port, f"{name}-queued", properties=HOUR) as queued,
        connected(there.port, f"{name}-p") as publisher,
    ):
        for subscriber in (direct, queued):
            subscriber.subscribe(name, qos=2)
        publisher.publish(name, b"before", 2)
        for subscriber in (direct, queued):
            assert subscriber.message().payload == b"before"
            subscriber.unsubscribe(name)
        for qos in (0, 1, 2):
            publisher.publish(name, b"after", qos)
        for subscriber in (direct, queued):
            subscriber.assert_silence(0.2)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_will_goes_to_other_nodes(nodes: Nodes, name: str, qos: int) -> None:
    there, here = nodes
    with (
        connected(here.port, f"{name}-direct") as direct,
        connected(here.port, f"{name}-low") as low,
        connected(here.port, f"{name}-queued", properties=HOUR) as queued,
    ):
        for subscriber, granted in ((direct, 2), (low, 0), (queued, 2)):
            subscriber.subscribe(f"{name}/#", qos=granted)
        connected(there.port, f"{name}-w", will=Will(f"{name}/w", b"gone", qos, False, None)).close()
        for subscriber, granted in ((direct, 2), (low, 0), (queued, 2)):
            will = subscriber.message()
            assert (will.payload, will.qos) == (b"gone", min(qos, granted))
            subscriber.assert_silence()


@pytest.mark.parametrize("expiry", [0, 3600])
def test_the_other_node_loses_the_session(nodes: Nodes, name: str, expiry: int) -> None:
    """Its connection is told; what it still sends counts no more."""
    there, here = nodes
    properties = Properties(session_expiry_interval=expiry)
    with (
        connected(here.port, name, properties=properties) as old,
        connected(here.port, f"{name}-s") as subscriber,
    ):
        subscriber.subscribe(name, qos=1)
        with WireClient(there.port) as new:
            connack = new.connect(name, clean_start=False, properties=properties)
            assert connack.session_present == (expiry > 0)
            assert old.wait_closed() == [Disconnect(ReasonCode.SESSION_TAKEN_OVER, old_reason())]
            new.publish(name, b"from the new one", 1)
            assert subscriber.message().payload == b"from the new one"


def old_reason() -> Properties:
    return Properties(reason_string="another connection uses this Client Identifier")


def test_a_session_moves_with_all_it_has(nodes: Nodes, name: str) -> None:
    """Subscriptions, queue, Packet Identifiers, QoS 2 states of both directions."""
    there, here = nodes
    with connected(there.port, f"{name}-p", properties=HOUR) as publisher:
        with connected(here.port, name, properties=HOUR) as client:
            client.subscribe(f"{name}/#", qos=2)
            publisher.publish(f"{name}/1", b"one", 2)
            first = client.expect(Publish)
            client.send(Publish(f"{name}/own", b"own", 2, False, False, 7, None))
            # Unacknowledged, it would be the client's to send it again.
            while not isinstance(client.next(), Pubrec):
                pass  # it may come back to its sender before
        publisher.publish(f"{name}/2", b"two", 1)
        with WireClient(there.port) as client:
            assert client.connect(name, clean_start=False, properties=HOUR).session_present
            again = client.expect(Publish)
            assert (again.packet_id, again.payload, again.dup) == (first.packet_id, b"one", True)
            client.received.insert(0, again)
            assert client.payloads(1) == [b"one"]
            client.timeout_seconds = 5
            rest = {client.message().payload for _ in range(2)}
            assert rest == {b"own", b"two"}
