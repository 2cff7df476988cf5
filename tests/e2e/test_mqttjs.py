"""MQTT.js, by the two small scripts in `mqttjs/`."""

import json
from collections.abc import Sequence

import pytest

from tests.e2e.program import Program
from tests.node.harness import NodeProcess
from tests.tools import require_node_package, require_tool

VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])
EACH_QOS = pytest.mark.parametrize("qos", [0, 1, 2])

Message = dict[str, object]


class MqttJs:
    """Starts the scripts against one node."""

    def __init__(self, node: NodeProcess) -> None:
        self._node = node
        self._directory = require_node_package("mqtt")
        self._program = require_tool("node")

    def subscribe(
        self,
        topic: str,
        qos: int,
        version: int,
        client_id: str,
        *,
        clean: bool = True,
        options: dict[str, object] | None = None,
    ) -> Program:
        """A client that is about to say `ready`."""
        return self._run(
            "subscribe.js",
            str(version),
            "true" if clean else "false",
            client_id,
            topic,
            str(qos),
            json.dumps(options or {}),
        )

    def publish(
        self,
        topic: str,
        payloads: Sequence[str],
        qos: int,
        version: int,
        options: dict[str, object] | None = None,
    ) -> None:
        """Publishes, and returns when all is acknowledged."""
        text = json.dumps({"payloads": payloads, "options": options or {}})
        with self._run("publish.js", str(version), topic, str(qos), text) as program:
            assert program.wait() == ["done"]

    def _run(self, script: str, *arguments: str) -> Program:
        command = [self._program, f"mqttjs/{script}", str(self._node.port), *arguments]
        return Program(command, self._directory)


@pytest.fixture(scope="module")
def mqttjs(node: NodeProcess) -> MqttJs:
    return MqttJs(node)


def _messages(program: Program, count: int) -> list[Message]:
    return [json.loads(line) for line in program.lines(count)]


def _payloads(program: Program, count: int) -> list[object]:
    return [message["payload"] for message in _messages(program, count)]


@VERSIONS
@EACH_QOS
def test_publish_and_subscribe(mqttjs: MqttJs, name: str, version: int, qos: int) -> None:
    sent = [f"message {number}" for number in range(100)]
    with mqttjs.subscribe(name, qos, version, name) as subscriber:
        assert subscriber.line() == "ready false"
        mqttjs.publish(name, sent, qos, version)
        received = _messages(subscriber, 100)
    assert [message["payload"] for message in received] == sent
    assert {(message["topic"], message["qos"], message["retain"]) for message in received} == {
        (name, qos, False)
    }


@VERSIONS
def test_retained(mqttjs: MqttJs, name: str, version: int) -> None:
    retain: dict[str, object] = {"retain": True}
    mqttjs.publish(f"{name}/a", ["first", "second"], 1, version, retain)
    mqttjs.publish(f"{name}/gone", ["x", ""], 1, version, retain)
    with mqttjs.subscribe(f"{name}/#", 1, version, name) as subscriber:
        lines = sorted(subscriber.lines(2))  # MQTT.js may hand out a message before its SUBACK
        assert lines[0] == "ready false" or lines[1] == "ready false"
        (message,) = [json.loads(line) for line in lines if not line.startswith("ready")]
        assert (message["payload"], message["retain"], message["topic"]) == ("second", True, f"{name}/a")
        mqttjs.publish(f"{name}/end", ["end"], 1, version)
        assert _payloads(subscriber, 1) == ["end"]


@VERSIONS
def test_will_of_a_killed_client(mqttjs: MqttJs, name: str, version: int) -> None:
    will = {"topic": f"{name}/will", "payload": "gone", "qos": 1, "retain": False}
    with (
        mqttjs.subscribe(f"{name}/will", 1, version, f"{name}-watcher") as watcher,
        mqttjs.subscribe(f"{name}/x", 1, version, f"{name}-doomed", options={"will": will}) as doomed,
    ):
        watcher.wait_for("ready")
        doomed.wait_for("ready")
        doomed.kill()
        assert _payloads(watcher, 1) == ["gone"]


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
def test_queued_messages(mqttjs: MqttJs, name: str, version: int, qos: int) -> None:
    with mqttjs.subscribe(name, qos, version, name, clean=False) as subscriber:
        assert subscriber.line() == "ready false"
    sent = [f"{number}" for number in range(50)]
    mqttjs.publish(name, sent, qos, version)
    with mqttjs.subscribe(name, qos, version, name, clean=False) as subscriber:
        lines = subscriber.lines(51)
    received = [json.loads(line)["payload"] for line in lines if not line.startswith("ready")]
    assert received == sent
    assert f"ready {'false' if version == 3 else 'true'}" in lines  # 3.1 has no such flag


def test_queued_messages_outlive_the_node(mqttjs: MqttJs, name: str, node: NodeProcess) -> None:
    """MQTT.js connects again by itself; its subscription is there."""
    with mqttjs.subscribe(name, 1, 4, name, clean=False) as subscriber:
        subscriber.wait_for("ready")
        node.kill_all()
        node.start()
        subscriber.wait_for("ready true")
        mqttjs.publish(name, ["after"], 1, 4)
        assert _payloads(subscriber, 1) == ["after"]


def test_properties(mqttjs: MqttJs, name: str) -> None:
    properties = {
        "contentType": "text/plain",
        "responseTopic": "reply/here",
        "correlationData": "00ff",
        "userProperties": {"zebra": ["1", "3"], "apple": "2"},
    }
    with mqttjs.subscribe(name, 1, 5, name) as subscriber:
        subscriber.wait_for("ready")
        mqttjs.publish(name, ["x"], 1, 5, {"properties": properties})
        (message,) = _messages(subscriber, 1)
    assert {key: message[key] for key in properties} == properties


def test_topic_alias(mqttjs: MqttJs, name: str) -> None:
    with mqttjs.subscribe(name, 1, 5, name) as subscriber:
        subscriber.wait_for("ready")
        mqttjs.publish(name, ["x"], 0, 5, {"properties": {"topicAlias": 3}})
        assert _payloads(subscriber, 1) == ["x"]


def test_topic_alias_of_the_server(mqttjs: MqttJs, name: str) -> None:
    """MQTT.js knows by itself which topic is meant."""
    options: dict[str, object] = {"properties": {"topicAliasMaximum": 2}}
    topics = [f"{name}/{leaf}" for leaf in "abcab"]
    with mqttjs.subscribe(f"{name}/#", 1, 5, name, options=options) as subscriber:
        subscriber.wait_for("ready")
        for topic in topics:
            mqttjs.publish(topic, ["1", "2", "3"], 1, 5)
        assert [message["topic"] for message in _messages(subscriber, 15)] == [
            topic for topic in topics for _ in range(3)
        ]


def test_takeover_is_told(mqttjs: MqttJs, name: str) -> None:
    with mqttjs.subscribe(name, 1, 5, name, options={"reconnectPeriod": 0}) as first:
        first.wait_for("ready")
        with mqttjs.subscribe(name, 1, 5, name) as second:
            second.wait_for("ready")
            assert first.wait_for("disconnect") == "disconnect 142"
