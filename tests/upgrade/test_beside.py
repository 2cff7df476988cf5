"""A node of the release before this one and one of this release understand each other: all that the one says
to the other, by channel, inbox, bell and change log, in both directions."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.mqtt import Publish, Will
from tests.node.harness import NodeProcess
from tests.node.redis_server import running_redis
from tests.node.wire import HOUR, WireClient, connected
from tests.upgrade.release import previous_release

pytestmark = pytest.mark.timeout(120)  # the packages of the release before this one may have to be installed


@dataclass(frozen=True)
class Pair:
    """Who says it and who is to understand it."""

    name: str
    speaker: NodeProcess
    listener: NodeProcess


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """The older node and the newer one."""
    previous = previous_release()
    directory = Path(tmp_path_factory.mktemp("beside"))
    with running_redis(directory / "redis") as server, ExitStack() as stack:
        nodes = []
        for name in ("older", "newer"):
            (directory / name).mkdir()
            node = NodeProcess(directory / name, "--redis", server.url, "--node-name", name)
            if name == "older":
                node.program = previous.program
            stack.callback(node.close)
            node.start()
            nodes.append(node)
        older, newer = nodes
        yield older, newer


@pytest.fixture(params=["up", "down"])
def pair(request: pytest.FixtureRequest, both: tuple[NodeProcess, NodeProcess]) -> Pair:
    """In both directions."""
    older, newer = both
    return Pair("up", older, newer) if request.param == "up" else Pair("down", newer, older)


def test_messages_at_qos_0(pair: Pair) -> None:
    """They may be lost at any time, but not all of them."""
    with connected(pair.listener.port, "l") as listener, connected(pair.speaker.port, "s") as speaker:
        listener.subscribe(f"{pair.name}/0/+")
        got = _repeat_until_it_comes(speaker, listener, f"{pair.name}/0/a", b"plain", 0)
        assert (got.qos, got.payload) == (0, b"plain")
        for qos in (1, 2):  # a copy for whoever has subscribed at QoS 0
            got = _repeat_until_it_comes(speaker, listener, f"{pair.name}/0/b", b"copy of %d" % qos, qos)
            assert (got.qos, got.payload) == (0, b"copy of %d" % qos)


def _repeat_until_it_comes(
    speaker: WireClient, listener: WireClient, topic: str, payload: bytes, qos: int
) -> Publish:
    deadline = time.monotonic() + 5.0
    while True:
        assert time.monotonic() < deadline, f"{payload!r} never comes"
        speaker.publish(topic, payload, qos)
        packet = listener.poll(0.1)
        while packet is not None:
            assert isinstance(packet, Publish)
            if packet.payload == payload:
                return packet
            packet = listener.poll(0.1)


def test_messages_that_are_acknowledged(pair: Pair) -> None:
    topic = f"{pair.name}/acknowledged"
    with (
        connected(pair.listener.port, "direct") as direct,
        connected(pair.listener.port, "queued", properties=HOUR) as queued,
        connected(pair.speaker.port, "s", properties=HOUR) as speaker,
    ):
        direct.subscribe(topic, qos=2, identifier=3)
        queued.subscribe(topic, qos=2, identifier=3)
        for qos in (1, 2):
            speaker.publish(topic, b"%d" % qos, qos)
            for listener in (direct, queued):
                message = listener.message()
                assert (message.payload, message.qos) == (b"%d" % qos, qos)
                assert message.properties is not None
                assert message.properties.subscription_identifier == (3,)
        queued.unsubscribe(topic)
        speaker.publish(topic, b"not for all", 1)
        assert direct.message().payload == b"not for all"
        queued.assert_silence(0.1)


def test_retained_messages_and_wills(pair: Pair) -> None:
    topic = f"{pair.name}/will"
    will = Will(topic, b"gone", 1, True)
    with connected(pair.listener.port, "l", properties=HOUR) as listener:
        listener.subscribe(topic, qos=1)
        with connected(pair.speaker.port, f"{pair.name}-dies", will=will):
            pass
        assert listener.message().payload == b"gone"
    with connected(pair.listener.port, "late") as late:
        late.subscribe(topic, qos=1)
        message = late.message()
        assert (message.payload, message.retain) == (b"gone", True)


def test_sessions_that_are_taken_over(pair: Pair) -> None:
    name = f"{pair.name}-moves"
    with connected(pair.listener.port, name, properties=HOUR) as here, ExitStack() as stack:
        here.subscribe(f"{name}/+", qos=2)
        there = stack.enter_context(WireClient(pair.speaker.port))
        assert there.connect(name, clean_start=False, properties=HOUR).session_present
        assert here.wait_refused() == 0x8E
        there.disconnect()


def test_what_nodes_say_of_themselves(pair: Pair) -> None:
    pair.speaker.wait_ready(200)
    deadline = time.monotonic() + 5.0
    while not all(
        f'"{name}"' in (text := pair.listener.get("/api/v1/nodes").text) for name in ("older", "newer")
    ):
        assert time.monotonic() < deadline, text
        time.sleep(0.05)
    assert text.count('"alive":true') == 2
