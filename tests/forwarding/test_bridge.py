"""Messages to another broker and from there: another node of ours, and mosquitto; killed in between."""

from collections.abc import Iterator

import pytest

from broker.mqtt import Properties
from tests.forwarding.conftest import forward, shown, wait_running, wait_until
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import HOUR, connected

QUICK = {"retry_seconds_maximum": 0.5, "timeout_seconds": 5}
BOTH_WAYS = {"kind": "mqtt", "topics": "out/#,both/#", "in_topics": "in/#,both/#", "qos": 2, "in_qos": 2}


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """The other broker, which is one of ours; a module is enough for it."""
    with running_node(tmp_path_factory.mktemp("remote")) as node:
        yield node


@pytest.fixture(scope="module")
def node(remote: NodeProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """With a bridge to it."""
    url = f"mqtt://127.0.0.1:{remote.port}"
    environment = forward("it", url=url, **BOTH_WAYS, **QUICK) | forward(
        "renamed",
        kind="mqtt",
        url=url,
        version="3.1.1",
        topics="here/#",
        in_topics="there/x/#",
        strip_prefix="here/",
        add_prefix="site/1/",
        in_strip_prefix="there/",
        in_add_prefix="y/",
    )
    with running_node(tmp_path_factory.mktemp("node"), environment=environment) as node:
        wait_running(node, "it", "renamed")
        yield node


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_goes_there_as_it_is(node: NodeProcess, remote: NodeProcess, qos: int) -> None:
    with connected(remote.port, "s") as there, connected(node.port, "p") as here:
        there.subscribe("out/#", qos=2)
        properties = Properties(user_property=(("a", "b"),), content_type="t", correlation_data=b"c")
        here.publish("out/x", b"payload", qos, properties=properties)
        message = there.message()
        assert (message.topic, message.payload, message.qos) == ("out/x", b"payload", qos)
        assert message.properties is not None
        assert message.properties.content_type == "t"
        assert message.properties.correlation_data == b"c"
        assert message.properties.user_property[0] == ("a", "b")


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_comes_from_there(node: NodeProcess, remote: NodeProcess, qos: int) -> None:
    with connected(remote.port, "p") as there, connected(node.port, "s") as here:
        here.subscribe("in/#", qos=2)
        there.publish("in/x", b"payload", qos)
        message = here.message()
        assert (message.topic, message.payload, message.qos) == ("in/x", b"payload", qos)


def test_topics_change_on_the_way(node: NodeProcess, remote: NodeProcess) -> None:
    with connected(remote.port, "c") as there, connected(node.port, "c") as here:
        there.subscribe("site/#", qos=1)
        here.subscribe("y/#", qos=1)
        here.publish("here/a", b"1", 1)
        assert there.message().topic == "site/1/a"
        there.publish("there/x/b", b"2", 1)
        assert here.message().topic == "y/x/b"


def test_what_goes_both_ways_passes_once(node: NodeProcess, remote: NodeProcess) -> None:
    with (
        connected(remote.port, "s") as there,
        connected(node.port, "s") as here,
        connected(remote.port, "p") as publisher_there,
        connected(node.port, "p") as publisher_here,
    ):
        there.subscribe("both/#", qos=1)
        here.subscribe("both/#", qos=1)
        before = shown(node, "it")["skipped"]
        publisher_here.publish("both/x", b"from here", 1)
        assert there.message().payload == here.message().payload == b"from here"
        publisher_there.publish("both/x", b"from there", 1)
        assert there.message().payload == here.message().payload == b"from there"
        wait_until(node, "it", lambda status: status["skipped"] == before + 2)
        here.assert_silence(0.2)
        there.assert_silence(0.2)


def test_nothing_is_lost_or_comes_twice_while_the_other_is_killed(
    node: NodeProcess, remote: NodeProcess
) -> None:
    """At QoS 2, both ways, in order. What is published there while it is up is acknowledged by it."""
    with (
        connected(remote.port, "s", properties=HOUR) as there,
        connected(node.port, "s", properties=HOUR) as here,
    ):
        there.subscribe("out/#", qos=2)
        here.subscribe("in/#", qos=2)
        with connected(node.port, "p") as publisher:
            for number in range(60):
                publisher.publish("out/x", b"%d" % number, 2)
                if number == 20:
                    remote.kill()
        wait_until(node, "it", lambda status: status["state"] == "waiting" and status["waiting"] > 0)
        remote.start()
        with connected(remote.port, "p") as publisher:
            for number in range(30):
                publisher.publish("in/x", b"%d" % number, 2)
        with connected(remote.port, "s", clean_start=False, properties=HOUR) as again:
            assert again.payloads(60) == [b"%d" % number for number in range(60)]
            again.assert_silence(0.2)
        assert here.payloads(30) == [b"%d" % number for number in range(30)]
        here.assert_silence(0.2)


def test_nothing_is_lost_while_we_are_killed(node: NodeProcess, remote: NodeProcess) -> None:
    """What comes there meanwhile waits in its session."""
    with connected(node.port, "k", properties=HOUR) as here, connected(remote.port, "p") as publisher:
        here.subscribe("in/#", qos=2)
        for number in range(40):
            publisher.publish("in/x", b"%d" % number, 2)
            if number == 10:
                node.kill()
        node.start()
        with connected(node.port, "k", clean_start=False, properties=HOUR) as again:
            assert again.payloads(40) == [b"%d" % number for number in range(40)]
            again.assert_silence(0.2)
        wait_running(node, "it", "renamed")
