"""What the browser looks at: two nodes on one Redis with some traffic, and clients that have something to
show."""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.browser.chromium import SECONDS
from tests.browser.site import running_site
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import HOUR, WireClient
from tests.tools import Certificate

PER_SECOND = 40
STAGE_SECONDS = 60
"""For the test that comes first, which waits for all of this, on a machine that is busy."""
HOSTILE = "<img src=x onerror=alert(1)>\u202e'\"&amp;{{7*7}}"
HOSTILE_SHOWN = "<img src=x onerror=alert(1)>\\u202e'\"&amp;{{7*7}}"
LONG = "long-" + "x" * 65_000
AWAY = ("lamp-7", HOSTILE, LONG)
"""Clients with a session, who are not there."""
QUEUE_LIMIT = 5
QUEUED = 8
"""For each of them: more than fit."""
_SETTINGS = {
    "MOORLINE_SESSION__QUEUE_LIMIT": str(QUEUE_LIMIT),
    "MOORLINE_ALARMS__CERTIFICATE_DAYS": "1",  # that of the tests has two
}
RETAINED = {
    "home/door": b"closed",
    "plant/pump-1/state": b'{"on":true,"limits":[1,2]}',
    "plant/pump-1/picture": bytes(range(256)),
    f"odd/{HOSTILE}/value": HOSTILE.encode(),
    f"odd/{LONG}": LONG.encode(),
}


@dataclass(frozen=True)
class Stage:
    """Two nodes."""

    redis: RedisServer
    nodes: tuple[NodeProcess, NodeProcess]
    site: int
    """Port of a web server."""

    def origin(self, name: str) -> str:
        """Of an application's page. That of `app` may connect to the secure WebSocket listeners."""
        return f"http://{name}.localhost:{self.site}"

    def url(self, place: int = 0) -> str:
        """Of a dashboard."""
        return f"http://127.0.0.1:{self.nodes[place].admin_port}/"

    def listener(self, scheme: str, place: int = 0) -> str:
        """Of a node, by WebSocket."""
        found = re.search(rf"^  {scheme} +(127\.0\.0\.1:\d+/\w+)$", self.nodes[place].output(), re.MULTILINE)
        assert found is not None
        return f"{scheme}://{found[1].replace('127.0.0.1', 'localhost')}"


@contextmanager
def running_stage(directory: Path, certificate: Certificate) -> Iterator[Stage]:
    """Ended afterwards."""
    with ExitStack() as stack:
        site = stack.enter_context(running_site())
        redis = stack.enter_context(running_redis(directory / "redis"))
        environment = _SETTINGS | _listeners(certificate, f"http://app.localhost:{site}")
        nodes = [
            stack.enter_context(member(directory, redis, f"node-{number}", environment)) for number in (1, 2)
        ]
        yield Stage(redis, (nodes[0], nodes[1]), site)


@contextmanager
def member(
    directory: Path, redis: RedisServer, name: str, environment: dict[str, str] | None = None
) -> Iterator[NodeProcess]:
    """One node of the cluster."""
    place = directory / name
    place.mkdir()
    with running_node(place, "--redis", redis.url, "--node-name", name, environment=environment) as node:
        yield node


def _listeners(certificate: Certificate, origin: str) -> dict[str, str]:
    """Settings: WebSocket for the pages of this machine, secure WebSocket for those of one origin."""
    return {
        "MOORLINE_LISTENERS__WEB__ADDRESS": "ws://127.0.0.1:0",
        "MOORLINE_LISTENERS__SAFE__ADDRESS": "wss://127.0.0.1:0",
        "MOORLINE_LISTENERS__SAFE__CERTIFICATE": str(certificate.file),
        "MOORLINE_LISTENERS__SAFE__KEY": str(certificate.key),
        "MOORLINE_LISTENERS__SAFE__ORIGINS": origin,
    }


@contextmanager
def traffic(nodes: Sequence[NodeProcess], per_second: int = PER_SECOND) -> Iterator[None]:
    """A client on each node; one publishes to the other, until the end."""
    ended = threading.Event()
    pump, monitor = (_client(node, name) for node, name in zip(nodes, ("pump-1", "monitor"), strict=True))

    def publish() -> None:
        while not ended.wait(1 / per_second):
            pump.publish("plant/pump-1/speed", b'{"rpm": 1450}', 0)

    work = threading.Thread(target=publish)
    try:
        monitor.subscribe("plant/#", 0)
        work.start()
        yield
    finally:
        ended.set()
        work.join()
        for client in (pump, monitor):
            client.disconnect()
            client.loop_stop()


def _client(node: NodeProcess, client_id: str) -> paho.Client:
    """Connected, and at work in a thread of its own."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
    is_connected = threading.Event()
    client.on_connect = lambda *_: is_connected.set()
    client.connect("127.0.0.1", node.port)
    client.loop_start()
    assert is_connected.wait(SECONDS)
    return client


def furnish(node: NodeProcess, away: Sequence[str] = AWAY) -> None:
    """Whatever the pages may have to show: retained messages, and sessions of these clients."""
    with WireClient(node.port, timeout_seconds=STAGE_SECONDS) as publisher:
        publisher.connect("back-end")
        for topic, payload in RETAINED.items():
            publisher.publish(topic, payload, 1, retain=True)
        for client_id in away:
            _leave_behind(node, client_id)
            for number in range(QUEUED):
                publisher.publish(_commands_of(client_id), f"command {number}".encode(), 1)


def _leave_behind(node: NodeProcess, client_id: str) -> None:
    """A persistent session that is away."""
    with WireClient(node.port, timeout_seconds=STAGE_SECONDS) as client:
        client.connect(client_id, properties=HOUR)
        client.subscribe(_commands_of(client_id), f"$share/workers/{_commands_of(client_id)}", qos=1)


def _commands_of(client_id: str) -> str:
    return f"commands/{client_id}"
