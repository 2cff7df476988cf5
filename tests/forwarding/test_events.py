"""What becomes of clients and messages, told to a back-end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.mqtt import Properties, Puback, Pubcomp, Publish, Pubrec, Pubrel, ReasonCode
from tests.forwarding.conftest import forward, wait_running
from tests.forwarding.hook import Hook
from tests.node.conftest import Clients
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import HOUR, WireClient, connected

DELIVERED = "$events/delivered/"
EVENT = Properties(user_property=(("event_id", "7"),), correlation_data=b"\xff")
TOLD = {"user_properties": [["event_id", "7"]], "correlation_data_base64": "/w=="}


@pytest.fixture(scope="module")
def node(hook: Hook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    environment = {
        **forward("messages", kind="webhook", url=hook.url, retry_seconds_maximum=0.5),
        **forward("messages", topics="$events/delivered/+,$events/dropped/+,$events/expired/+"),
        **forward("clients", kind="webhook", url=hook.url),
        **forward("clients", topics="$events/connected/#,$events/disconnected/#"),
        **forward("subscriptions", kind="webhook", url=hook.url, topics="$events/subscribed/#"),
        "MOORLINE_SESSION__QUEUE_LIMIT": "5",
    }
    with running_node(tmp_path_factory.mktemp("node"), environment=environment) as node:
        wait_running(node, "messages", "clients", "subscriptions")
        yield node


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).translate(str.maketrans("[]+/", "----"))


@pytest.fixture
def client(node: NodeProcess, name: str) -> Iterator[Clients]:
    clients = Clients(node, name)
    yield clients
    clients.close()


def _events(hook: Hook, kind: str, client_id: str, count: int = 1) -> list[dict[str, Any]]:
    """Waits for events of a kind about a client."""

    def found() -> list[dict[str, Any]]:
        documents = [json.loads(posted.document["payload"]) for posted in hook.taken()]
        return [each for each in documents if (each["kind"], each["client_id"]) == (kind, client_id)]

    hook.wait_until(lambda: len(found()) >= count)
    return found()


@pytest.mark.parametrize("properties", [None, HOUR], ids=["direct", "persistent"])
@pytest.mark.parametrize("qos", [1, 2])
def test_what_a_client_acknowledges_is_delivered(
    client: Clients, hook: Hook, name: str, qos: int, properties: Properties | None
) -> None:
    subscriber, publisher = client("s", properties=properties), client("p")
    subscriber.subscribe(name, qos=2)
    publisher.publish(name, b"m", qos, properties=EVENT)
    message = subscriber.expect(Publish)
    publisher.ping()
    assert not [each for each in hook.taken() if each.document["topic"].startswith(DELIVERED)]
    subscriber.send(Puback(message.packet_id) if qos == 1 else Pubrec(message.packet_id))
    (event,) = _events(hook, "delivered", client.id_of("s"))
    assert event.pop("at_ms") > 1_000_000_000_000
    assert event == {"kind": "delivered", "client_id": client.id_of("s"), "topic": name, "qos": qos, **TOLD}


def test_what_was_not_delivered_is_not_told(client: Clients, hook: Hook, name: str) -> None:
    """A PUBREC with an error, and what nobody has acknowledged."""
    subscriber, publisher = client("s", properties=HOUR), client("p")
    subscriber.subscribe(name, qos=2)
    publisher.publish(name, b"refused", 2)
    refused = subscriber.expect(Publish)
    subscriber.send(Pubrec(refused.packet_id, ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR))
    publisher.publish(name, b"good", 1, properties=EVENT)
    subscriber.send(Puback(subscriber.expect(Publish).packet_id))
    assert [event["qos"] for event in _events(hook, "delivered", client.id_of("s"))] == [1]


def test_an_acknowledgement_counts_when_it_is_told(
    node: NodeProcess, client: Clients, hook: Hook, name: str
) -> None:
    """The entry is gone in the end, and does not come again."""
    subscriber, publisher = client("s", properties=HOUR), client("p")
    subscriber.subscribe(name, qos=2)
    for qos in (1, 2, 1):
        publisher.publish(name, b"%d" % qos, qos)
    assert subscriber.payloads(3) == [b"1", b"2", b"1"]
    assert len(_events(hook, "delivered", client.id_of("s"), 3)) == 3
    subscriber.ping()
    subscriber.disconnect()
    with WireClient(node.port) as again:
        assert again.connect(client.id_of("s"), clean_start=False, properties=HOUR).session_present
        again.assert_silence(0.1)


def test_what_a_queue_has_no_room_for_is_dropped(client: Clients, hook: Hook, name: str) -> None:
    subscriber, publisher = client("s", properties=HOUR), client("p")
    subscriber.subscribe(name, qos=1)
    subscriber.disconnect()
    for number in range(8):
        event_id = Properties(user_property=(("event_id", str(number)),), correlation_data=b"row")
        publisher.publish(name, b"", 1, properties=event_id)
    events = _events(hook, "dropped", client.id_of("s"), 3)
    assert [event.pop("user_properties") for event in events] == [[["event_id", str(n)]] for n in range(3)]
    for event in events:
        del event["at_ms"]
        assert event == {
            "kind": "dropped", "client_id": client.id_of("s"), "topic": name, "qos": 1,
            "reason": "queue_full", "count": 1, "correlation_data": "row",
        }  # fmt: skip


def test_what_a_group_has_no_room_for_is_dropped(client: Clients, hook: Hook, name: str) -> None:
    """At its own name, as a dead letter has it."""
    subscriber, publisher = client("s", properties=HOUR), client("p")
    subscriber.subscribe(f"$share/g/{name}", qos=1)
    subscriber.disconnect()
    for _ in range(6):
        publisher.publish(name, b"", 1, properties=EVENT)
    (event,) = _events(hook, "dropped", f"$share/g/{name}")
    assert {"topic": name, "reason": "queue_full", **TOLD}.items() <= event.items()


def test_what_the_queue_of_a_member_has_no_room_for_is_dropped(
    client: Clients, hook: Hook, name: str
) -> None:
    """At QoS 2 a message of a group goes by the queue of its member."""
    subscriber, publisher = client("s", properties=HOUR), client("p")
    subscriber.subscribe(name, qos=1)
    subscriber.subscribe(f"$share/g/{name}/g", qos=2)
    for _ in range(5):
        publisher.publish(name, b"", 1)  # not acknowledged
    publisher.publish(f"{name}/g", b"", 2, properties=EVENT)
    (event,) = _events(hook, "dropped", client.id_of("s"))
    assert {"topic": f"{name}/g", "qos": 2, "reason": "queue_full", **TOLD}.items() <= event.items()


def test_what_a_client_can_not_take_is_dropped(node: NodeProcess, hook: Hook, name: str) -> None:
    """From its queue, and at QoS 0."""
    small = Properties(maximum_packet_size=100, session_expiry_interval=3600)
    with connected(node.port, name, properties=small) as subscriber:
        subscriber.subscribe(name, qos=1)
        with connected(node.port, f"{name}-p") as publisher:
            for qos in (0, 1):
                publisher.publish(name, b"x" * 100, qos, properties=EVENT)
        events = _events(hook, "dropped", name, 2)
    assert sorted(event["qos"] for event in events) == [0, 1]
    for event in events:
        assert {"topic": name, "reason": "packet_too_large", "count": 1, **TOLD}.items() <= event.items()


def test_what_has_expired_in_the_queue_is_told(
    node: NodeProcess, client: Clients, hook: Hook, name: str
) -> None:
    subscriber, publisher = client("s", properties=HOUR), client("p")
    subscriber.subscribe(name, qos=1)
    subscriber.disconnect()
    expiring = Properties(
        message_expiry_interval=0,
        user_property=EVENT.user_property,
        correlation_data=EVENT.correlation_data,
    )
    publisher.publish(name, b"", 1, properties=expiring)
    with WireClient(node.port) as again:
        again.connect(client.id_of("s"), clean_start=False, properties=HOUR)
        (event,) = _events(hook, "expired", client.id_of("s"))
    assert {"topic": name, "qos": 1, "reason": "expired", **TOLD}.items() <= event.items()


def test_clients_that_come_and_go_are_told(node: NodeProcess, hook: Hook) -> None:
    """Under a topic that has their names as one level."""
    with connected(node.port, "a/b+c#%") as client:
        client.subscribe("x/y", qos=1)
        (subscribed,) = _events(hook, "subscribed", "a/b+c#%")
        assert subscribed["filters"] == [{"filter": "x/y", "qos": 1}]
        client.disconnect()
    (came,), (went,) = _events(hook, "connected", "a/b+c#%"), _events(hook, "disconnected", "a/b+c#%")
    assert (came["protocol"], came["persistent"], went["reason"]) == (5, False, "client disconnected")
    topics = {posted.document["topic"] for posted in hook.taken()}
    assert "$events/connected/a%2Fb%2Bc%23%25" in topics
    assert not [topic for topic in topics if "$forward" in topic]


def test_events_are_for_forwards_only(client: Clients, hook: Hook) -> None:
    """Nobody may listen to them, and nobody make one up."""
    listener = client("c")
    for filter in ("$events/#", "$share/g/$events/delivered/+"):
        assert listener.subscribe(filter, qos=1).reason_codes == [ReasonCode.NOT_AUTHORIZED]
    assert listener.publish("$events/delivered/x", b"{}", 1) == ReasonCode.NOT_AUTHORIZED
    assert listener.publish("$events/delivered/x", b"{}", 2) == ReasonCode.NOT_AUTHORIZED
    (_,) = _events(hook, "connected", client.id_of("c"))
    assert "$events/delivered/x" not in {posted.document["topic"] for posted in hook.taken()}


@pytest.mark.timeout(40)
def test_no_delivery_is_untold_after_a_kill(tmp_path: Path, hook: Hook) -> None:
    """What was acknowledged and not told comes again; told it is in the end."""
    environment = forward("it", kind="webhook", url=hook.url, topics="$events/+/#", batch=50)
    with running_node(tmp_path, environment=environment) as node:
        wait_running(node, "it")
        with connected(node.port, "s", properties=HOUR) as subscriber:
            subscriber.subscribe("t", qos=2)
            with connected(node.port, "p") as publisher:
                for number in range(60):
                    event_id = Properties(user_property=(("event_id", str(number)),))
                    publisher.publish("t", b"%d" % number, 1 + number % 2, properties=event_id)
            for _ in range(30):
                message = subscriber.expect(Publish)
                subscriber.send(Puback(message.packet_id) if message.qos == 1 else Pubrec(message.packet_id))
            node.kill()
        node.start()
        with WireClient(node.port) as subscriber:
            assert subscriber.connect("s", clean_start=False, properties=HOUR).session_present
            hook.wait_until(lambda: _acknowledge(subscriber) and _told(hook) == set(range(60)), seconds=20.0)


def _acknowledge(subscriber: WireClient) -> bool:
    """Whatever has come."""
    while (packet := subscriber.poll(0.05)) is not None:
        if isinstance(packet, Publish):
            subscriber.send(Puback(packet.packet_id) if packet.qos == 1 else Pubrec(packet.packet_id))
        elif isinstance(packet, Pubrel):
            subscriber.send(Pubcomp(packet.packet_id))
    return True


def _told(hook: Hook) -> set[int]:
    """Whose delivery was."""
    messages = [message for posted in hook.taken() for message in posted.document.get("messages", [])]
    events = [json.loads(message["payload"]) for message in messages]
    return {int(event["user_properties"][0][1]) for event in events if event["kind"] == "delivered"}
