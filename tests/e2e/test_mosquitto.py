"""mosquitto_pub and mosquitto_sub, in all the ways that people use them first."""

import subprocess

import pytest

from tests.e2e.program import SECONDS, Program
from tests.node.harness import NodeProcess
from tests.tools import require_tool

VERSIONS = pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
EACH_QOS = pytest.mark.parametrize("qos", [0, 1, 2])


class Mosquitto:
    """The two programs, connected to one node. `name` is the beginning of topics."""

    def __init__(self, port: int) -> None:
        self._port = str(port)
        self._publish = require_tool("mosquitto_pub")
        self._subscribe = require_tool("mosquitto_sub")
        self._line_buffered = [require_tool("stdbuf"), "-oL"]

    def publish(self, topic: str, message: str | None, *options: str) -> None:
        """Publishes one message (None: an empty one) and waits for the end of mosquitto_pub."""
        payload = ["-n"] if message is None else ["-m", message]
        self._run([self._publish, "-p", self._port, "-t", topic, *payload, *options])

    def subscriber(self, topic: str, *options: str) -> Program:
        """A mosquitto_sub that is subscribed, and prints `-d` lines too."""
        program = Program(
            [*self._line_buffered, self._subscribe, "-d", "-p", self._port, "-t", topic, *options]
        )
        program.wait_for("Subscribed (mid: 1)")
        return program

    def fetch(self, topic: str, *options: str) -> list[str]:
        """What mosquitto_sub prints until it ends by itself (`-C`, `-W`, `-E`)."""
        return self._run([self._subscribe, "-p", self._port, "-t", topic, *options]).splitlines()

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode in (0, 27), done.stderr  # 27: nothing within -W seconds
        return done.stdout


@pytest.fixture(scope="module")
def mosquitto(node: NodeProcess) -> Mosquitto:
    return Mosquitto(node.port)


def _messages(program: Program, count: int) -> list[str]:
    """The next messages among the `-d` lines; they were printed with a `>` before them."""
    found: list[str] = []
    while len(found) < count:
        line = program.line()
        if line.startswith(">"):
            found.append(line[1:])
    return found


@VERSIONS
@EACH_QOS
def test_publish_and_subscribe(mosquitto: Mosquitto, name: str, version: str, qos: int) -> None:
    """Each QoS of a publisher to each QoS of a subscriber."""
    for subscribed in (0, 1, 2):
        topic = f"{name}/{subscribed}"
        options = ["-V", version, "-q", str(subscribed), "-F", ">%t %q %r %p"]
        with mosquitto.subscriber(topic, *options) as subscriber:
            for number in range(3):
                mosquitto.publish(topic, f"hello {number}", "-V", version, "-q", str(qos))
            expected = min(qos, subscribed)
            assert _messages(subscriber, 3) == [f"{topic} {expected} 0 hello {n}" for n in range(3)]


def test_many_lines_of_one_publisher(mosquitto: Mosquitto, node: NodeProcess, name: str) -> None:
    """`-l` reads lines: many messages of one connection, in order."""
    lines = [f"line {number}" for number in range(500)]
    with mosquitto.subscriber(name, "-q", "2", "-F", ">%p") as subscriber:
        command = [require_tool("mosquitto_pub"), "-p", str(node.port), "-t", name, "-q", "2", "-l"]
        subprocess.run(command, input="\n".join(lines), text=True, timeout=SECONDS, check=True)
        assert _messages(subscriber, 500) == lines


@VERSIONS
def test_retained(mosquitto: Mosquitto, name: str, version: str) -> None:
    """Set, replaced, found by a wildcard, cleared."""
    common = ["-V", version, "-q", "1"]
    mosquitto.publish(f"{name}/a", "first", *common, "-r")
    mosquitto.publish(f"{name}/a", "second", *common, "-r")
    mosquitto.publish(f"{name}/b/c", "other", *common, "-r")
    mosquitto.publish(f"{name}/a", "passing", *common)
    assert mosquitto.fetch(f"{name}/a", *common, "-C", "1", "-F", "%r %p") == ["1 second"]
    found = mosquitto.fetch(f"{name}/#", *common, "-C", "2", "-F", "%t %r %p")
    assert sorted(found) == [f"{name}/a 1 second", f"{name}/b/c 1 other"]
    mosquitto.publish(f"{name}/a", None, *common, "-r")
    assert mosquitto.fetch(f"{name}/+", *common, "-W", "1") == []


@VERSIONS
@EACH_QOS
def test_will_of_a_killed_client(mosquitto: Mosquitto, name: str, version: str, qos: int) -> None:
    with mosquitto.subscriber(f"{name}/will", "-q", "2", "-F", ">%q %r %p") as watcher:
        will = ["--will-topic", f"{name}/will", "--will-payload", "gone", "--will-qos", str(qos)]
        with mosquitto.subscriber(f"{name}/other", "-V", version, *will) as doomed:
            doomed.kill()
        assert _messages(watcher, 1) == [f"{qos} 0 gone"]


def test_retained_will(mosquitto: Mosquitto, name: str) -> None:
    with mosquitto.subscriber(f"{name}/will", "-q", "1", "-F", ">%p") as watcher:
        will = [
            "--will-topic",
            f"{name}/will",
            "--will-payload",
            "offline",
            "--will-qos",
            "1",
            "--will-retain",
        ]
        with mosquitto.subscriber(f"{name}/other", *will) as doomed:
            doomed.kill()
        assert _messages(watcher, 1) == ["offline"]
    assert mosquitto.fetch(f"{name}/will", "-C", "1", "-F", "%r %p") == ["1 offline"]


def test_no_will_after_a_good_end(mosquitto: Mosquitto, name: str) -> None:
    with mosquitto.subscriber(f"{name}/#", "-q", "1", "-F", ">%p") as watcher:
        will = ["--will-topic", f"{name}/will", "--will-payload", "gone"]
        mosquitto.fetch(f"{name}/other", "-E", *will)  # subscribes, disconnects
        mosquitto.publish(f"{name}/end", "end", "-q", "1")
        assert _messages(watcher, 1) == ["end"]


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
def test_persistent_session(mosquitto: Mosquitto, name: str, version: str, qos: int) -> None:
    """`-c -i`: what came while it was away is there, in order, once."""
    options = ["-V", version, "-i", f"{name}-subscriber", "-c", "-q", str(qos)]
    mosquitto.fetch(name, *options, "-E")
    for number in range(10):
        mosquitto.publish(name, f"{number}", "-V", version, "-q", str(qos))
    queued = mosquitto.fetch(
        name, *options, "-W", "1", "-F", "%q %p"
    )  # after -C it would not read to the end
    assert queued == [f"{qos} {number}" for number in range(10)]
    assert mosquitto.fetch(name, *options, "-W", "1") == []


def test_persistent_session_outlives_the_node(mosquitto: Mosquitto, name: str, node: NodeProcess) -> None:
    options = ["-i", f"{name}-subscriber", "-c", "-q", "1"]
    mosquitto.fetch(name, *options, "-E")
    mosquitto.publish(name, "before", "-q", "1")
    node.restart()
    mosquitto.publish(name, "after", "-q", "1")
    assert mosquitto.fetch(name, *options, "-C", "2") == ["before", "after"]


def test_properties_of_a_publish(mosquitto: Mosquitto, name: str) -> None:
    """MQTT 5: `-D publish ...`; User Properties keep their order, also those with one name."""
    form = ">%C|%R|%D|%F|%P|%p"
    with mosquitto.subscriber(name, "-V", "5", "-q", "1", "-F", form) as subscriber:
        mosquitto.publish(
            name,
            "payload",
            *["-V", "5", "-q", "1"],
            *["-D", "publish", "user-property", "zebra", "1"],
            *["-D", "publish", "user-property", "apple", "2"],
            *["-D", "publish", "user-property", "zebra", "3"],
            *["-D", "publish", "content-type", "text/plain"],
            *["-D", "publish", "response-topic", "reply/here"],
            *["-D", "publish", "correlation-data", "id-1"],
            *["-D", "publish", "payload-format-indicator", "1"],
        )
        expected = "text/plain|reply/here|id-1|1|zebra:1 apple:2 zebra:3|payload"
        assert _messages(subscriber, 1) == [expected]


def test_message_expiry(mosquitto: Mosquitto, name: str) -> None:
    options = ["-V", "5", "-i", f"{name}-subscriber", "-c", "-q", "1"]
    mosquitto.fetch(name, *options, "-E")
    expiry = ["-V", "5", "-q", "1", "-D", "publish", "message-expiry-interval"]
    mosquitto.publish(name, "short", *expiry, "1")
    mosquitto.publish(name, "long", *expiry, "100")
    subprocess.run(["sleep", "1.5"], check=True)
    (line,) = mosquitto.fetch(name, *options, "-C", "1", "-F", "%E %p")
    seconds, payload = line.split()
    assert payload == "long"
    assert 90 <= int(seconds) < 100


def test_subscription_identifier(mosquitto: Mosquitto, name: str) -> None:
    identifier = ["-D", "subscribe", "subscription-identifier", "42"]
    with mosquitto.subscriber(name, "-V", "5", "-q", "1", *identifier, "-F", ">%S %p") as subscriber:
        mosquitto.publish(name, "hello", "-V", "5", "-q", "1")
        assert _messages(subscriber, 1) == ["42 hello"]


def test_topic_alias_of_a_publisher(mosquitto: Mosquitto, name: str) -> None:
    with mosquitto.subscriber(name, "-V", "5", "-F", ">%t %p") as subscriber:
        alias = ["-V", "5", "-D", "publish", "topic-alias", "3"]
        mosquitto.publish(name, "x", *alias, "--repeat", "3")
        assert _messages(subscriber, 3) == [f"{name} x"] * 3


def test_receive_maximum_and_session_expiry_of_a_client(mosquitto: Mosquitto, name: str) -> None:
    options = ["-V", "5", "-i", f"{name}-subscriber", "-q", "2", "-D", "connect", "receive-maximum", "1"]
    mosquitto.fetch(name, *options, "-x", "60", "-E")
    for number in range(5):
        mosquitto.publish(name, f"{number}", "-V", "5", "-q", "2")
    fetched = mosquitto.fetch(name, *options, "-x", "0", "-c", "-C", "5")
    assert fetched == [f"{number}" for number in range(5)]
