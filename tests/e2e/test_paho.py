"""Eclipse Paho for Python, in the way its users write: callbacks, a network thread, automatic handshakes."""

import queue
import threading
import time
from collections.abc import Iterator

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.node.harness import START_SECONDS, NodeProcess

SECONDS = 10.0
SILENCE_SECONDS = 0.3
VERSIONS = pytest.mark.parametrize(
    "version", [MQTTProtocolVersion.MQTTv31, MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5]
)
PERSISTENCE = pytest.mark.parametrize("persistent", [False, True], ids=["clean", "persistent"])
V5 = MQTTProtocolVersion.MQTTv5


def _properties(kind: int, **values: object) -> Properties:
    """paho's properties are attributes that only its code knows of."""
    properties = Properties(kind)  # type: ignore[no-untyped-call]  # paho leaves this class without types
    for property_name, value in values.items():
        setattr(properties, property_name, value)
    return properties


class Client:
    """A paho client with its network thread; what it receives waits in `messages`."""

    def __init__(
        self, node: NodeProcess, client_id: str, version: MQTTProtocolVersion, persistent: bool = False
    ) -> None:
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.session_present = False
        self.end: queue.Queue[ReasonCode] = queue.Queue()
        self._node = node
        self._is_new = not persistent
        self._persistent = persistent
        self._connected: queue.Queue[ReasonCode] = queue.Queue()
        self._subscribed: queue.Queue[list[ReasonCode]] = queue.Queue()
        clean_session = None if version == V5 else not persistent
        self.paho = paho.Client(CallbackAPIVersion.VERSION2, client_id, clean_session, protocol=version)
        self.paho.on_connect = self._on_connect
        self.paho.on_disconnect = lambda _c, _u, _f, reason, _p: self.end.put(reason)
        self.paho.on_subscribe = lambda _c, _u, _mid, reasons, _p: self._subscribed.put(reasons)
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)

    def connect(self) -> "Client":
        """Connects and waits for CONNACK."""
        properties = None
        clean_start: paho.CleanStartOption = paho.MQTT_CLEAN_START_FIRST_ONLY  # before MQTT 5 it must stay so
        if self.paho.protocol == V5:
            expiry = 600 if self._persistent else 0
            properties = _properties(PacketTypes.CONNECT, SessionExpiryInterval=expiry)
            clean_start = self._is_new
        self.paho.connect("127.0.0.1", self._node.port, clean_start=clean_start, properties=properties)
        self.paho.loop_start()
        reason = self._connected.get(timeout=SECONDS)
        assert not reason.is_failure, reason
        return self

    def subscribe(self, topic: str, qos: int) -> None:
        """Subscribes and waits for SUBACK."""
        self.paho.subscribe(topic, qos)
        (reason,) = self._subscribed.get(timeout=SECONDS)
        assert reason.value == qos

    def publish(
        self,
        topic: str,
        payload: str | None,
        qos: int,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        """Publishes and waits until the handshake is over."""
        self.paho.publish(topic, payload, qos, retain, properties).wait_for_publish(SECONDS)

    def payloads(self, count: int) -> list[str]:
        """The next messages."""
        return [self.messages.get(timeout=SECONDS).payload.decode() for _ in range(count)]

    def assert_silence(self) -> None:
        """Nothing comes."""
        with pytest.raises(queue.Empty):
            self.messages.get(timeout=SILENCE_SECONDS)

    def disconnect(self) -> None:
        """DISCONNECT, and the end of the network thread."""
        self.paho.disconnect()
        self.paho.loop_stop()

    def break_off(self) -> None:
        """The connection ends without DISCONNECT; nothing is tried again."""
        self.paho.loop_stop()
        sock = self.paho.socket()
        assert sock is not None
        sock.close()

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.session_present = flags.session_present
        self._connected.put(reason)


class Factory:
    """Makes clients of one node, and ends them."""

    def __init__(self, node: NodeProcess, name: str) -> None:
        self._node = node
        self._name = name
        self._made: list[Client] = []

    def __call__(self, suffix: str, version: MQTTProtocolVersion, persistent: bool = False) -> Client:
        client = Client(self._node, f"{self._name}-{suffix}", version, persistent)
        self._made.append(client)
        return client

    def close(self) -> None:
        """Ends all."""
        for client in self._made:
            client.disconnect()


@pytest.fixture
def make(node: NodeProcess, name: str) -> Iterator[Factory]:
    factory = Factory(node, name)
    yield factory
    factory.close()


@VERSIONS
@PERSISTENCE
def test_publish_and_subscribe(
    make: Factory, name: str, version: MQTTProtocolVersion, persistent: bool
) -> None:
    publisher = make("publisher", version).connect()
    subscriber = make("subscriber", version, persistent).connect()
    for subscribed in (0, 1, 2):
        topic = f"{name}/{subscribed}"
        subscriber.subscribe(topic, subscribed)
        for qos in (0, 1, 2):
            publisher.publish(topic, f"at {qos}", qos)
            message = subscriber.messages.get(timeout=SECONDS)
            assert (message.payload, message.qos) == (f"at {qos}".encode(), min(qos, subscribed))
            assert (message.topic, message.retain, message.dup) == (topic, False, False)


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_burst_keeps_its_order(make: Factory, name: str, version: MQTTProtocolVersion, qos: int) -> None:
    publisher = make("publisher", version).connect()
    subscriber = make("subscriber", version, True).connect()
    subscriber.subscribe(name, qos)
    sent = [publisher.paho.publish(name, f"{number}", qos) for number in range(300)]
    for info in sent:
        info.wait_for_publish(SECONDS)
    assert subscriber.payloads(300) == [f"{number}" for number in range(300)]
    subscriber.assert_silence()


@VERSIONS
def test_retained(make: Factory, name: str, version: MQTTProtocolVersion) -> None:
    publisher = make("publisher", version).connect()
    publisher.publish(f"{name}/a", "first", 1, retain=True)
    publisher.publish(f"{name}/a", "second", 2, retain=True)
    publisher.publish(f"{name}/b/c", "other", 1, retain=True)
    subscriber = make("subscriber", version).connect()
    subscriber.subscribe(f"{name}/#", 2)
    received = [subscriber.messages.get(timeout=SECONDS) for _ in range(2)]
    assert sorted((m.topic, m.payload, m.qos, m.retain) for m in received) == [
        (f"{name}/a", b"second", 2, True),
        (f"{name}/b/c", b"other", 1, True),
    ]
    publisher.publish(f"{name}/a", None, 1, retain=True)
    late = make("late", version).connect()
    late.subscribe(f"{name}/+", 1)
    late.assert_silence()


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_will(make: Factory, name: str, version: MQTTProtocolVersion, qos: int) -> None:
    watcher = make("watcher", version).connect()
    watcher.subscribe(name, 2)
    polite = make("polite", version)
    polite.paho.will_set(name, "never", qos)
    polite.connect().disconnect()
    doomed = make("doomed", version)
    doomed.paho.will_set(name, "gone", qos)
    doomed.connect().break_off()
    message = watcher.messages.get(timeout=SECONDS)
    assert (message.payload, message.qos) == (b"gone", qos)
    watcher.assert_silence()


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
def test_queued_messages(make: Factory, name: str, version: MQTTProtocolVersion, qos: int) -> None:
    """A persistent session is there again with what came meanwhile; a clean one is not."""
    first = make("persistent", version, True).connect()
    assert not first.session_present
    first.subscribe(name, qos)
    first.disconnect()
    clean = make("clean", version).connect()
    clean.subscribe(name, qos)
    clean.disconnect()
    publisher = make("publisher", version).connect()
    for number in range(50):
        publisher.publish(name, f"{number}", qos)
    second = make("persistent", version, True).connect()
    assert second.session_present == (version != MQTTProtocolVersion.MQTTv31)  # 3.1 has no such flag
    assert second.payloads(50) == [f"{number}" for number in range(50)]
    second.assert_silence()
    again = make("clean", version).connect()
    assert not again.session_present
    again.assert_silence()


def test_queued_messages_outlive_the_node(make: Factory, name: str, node: NodeProcess) -> None:
    """paho connects again by itself, and goes on."""
    subscriber = make("subscriber", V5, True).connect()
    subscriber.paho.reconnect_delay_set(1, 1)
    subscriber.subscribe(name, 2)
    publisher = make("publisher", V5, True).connect()
    publisher.paho.reconnect_delay_set(1, 1)
    # Two attempts in a row, and paho forgets which PUBRELs it has sent: it sends PUBLISH again, DUP 0, which
    # is another message if the node has handled that PUBREL [MQTT-4.3.3-6]. So its first attempt has to
    # succeed.
    is_up = threading.Event()

    def wait_for_node(_client: paho.Client, _userdata: object) -> None:
        is_up.wait(START_SECONDS)

    publisher.paho.on_pre_connect = wait_for_node
    sent = [publisher.paho.publish(name, f"{number}", 2) for number in range(100)]
    node.kill_all()
    sent += [publisher.paho.publish(name, f"{number}", 2) for number in range(100, 200)]
    node.start()
    is_up.set()
    for info in sent:
        info.rc = paho.MQTT_ERR_SUCCESS  # what was published without a connection is sent with the next one
        info.wait_for_publish(SECONDS)
    assert subscriber.payloads(200) == [f"{number}" for number in range(200)]
    subscriber.assert_silence()


def test_properties(make: Factory, name: str) -> None:
    subscriber = make("subscriber", V5).connect()
    subscriber.subscribe(name, 1)
    sent: dict[str, object] = {
        "ContentType": "text/plain",
        "ResponseTopic": "reply/here",
        "CorrelationData": b"\x00\x01",
        "PayloadFormatIndicator": 1,
        "UserProperty": [("zebra", "1"), ("apple", "2"), ("zebra", "3")],
    }
    properties = _properties(PacketTypes.PUBLISH, MessageExpiryInterval=100, **sent)
    make("publisher", V5).connect().publish(name, "text", 1, properties=properties)
    received = vars(subscriber.messages.get(timeout=SECONDS).properties)
    assert {key: received[key] for key in sent} == sent
    assert received["MessageExpiryInterval"] in (99, 100)


def test_request_and_response(make: Factory, name: str) -> None:
    """Two clients that answer each other, as the Response Topic is meant."""
    server = make("server", V5).connect()
    server.subscribe(f"{name}/requests", 1)
    asking = make("asking", V5).connect()
    asking.subscribe(f"{name}/answers", 1)
    request = _properties(PacketTypes.PUBLISH, ResponseTopic=f"{name}/answers", CorrelationData=b"17")
    asking.publish(f"{name}/requests", "what is it", 1, properties=request)
    asked = vars(server.messages.get(timeout=SECONDS).properties)
    answer = _properties(PacketTypes.PUBLISH, CorrelationData=asked["CorrelationData"])
    server.publish(asked["ResponseTopic"], "that", 1, properties=answer)
    answered = asking.messages.get(timeout=SECONDS)
    assert (answered.payload, vars(answered.properties)["CorrelationData"]) == (b"that", b"17")


def test_takeover_is_told(make: Factory) -> None:
    first = make("same", V5).connect()
    make("same", V5).connect()
    assert first.end.get(timeout=SECONDS).value == 0x8E
    first.paho.loop_stop()


def test_keep_alive_keeps_alive(make: Factory, node: NodeProcess, name: str) -> None:
    """paho's own PINGREQs are enough for a silent client."""
    client = make("client", MQTTProtocolVersion.MQTTv311)
    client.paho.keepalive = 1
    client.paho.connect("127.0.0.1", node.port, keepalive=1)
    client.paho.loop_start()
    time.sleep(3.5)
    client.subscribe(name, 1)
    assert client.end.empty()
