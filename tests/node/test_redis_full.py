"""Redis reaches its `maxmemory` by the traffic: what is acknowledged was stored, what is refused was not,
every PINGREQ is answered, and all goes on by itself when there is room."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import pytest
from typer.testing import Result

from broker.mqtt import (
    MQTT_3_1_1,
    MQTT_5,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    ReasonCode,
)
from tests.cli import program
from tests.node.harness import NodeProcess, running_node
from tests.node.pinger import Pinger
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import HOUR, WireClient, connected
from tests.tools import NO_TLS

ROOM_BYTES = 2 << 20
PAYLOAD_BYTES = 8 << 10
WINDOW = 20
QUIET_SECONDS = 0.5
REFUSALS = 30
PING_SECONDS = 1.0
LAST = b"the last one"
QUOTA_EXCEEDED = ReasonCode.QUOTA_EXCEEDED
FAILURE_311 = 0x80


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, server: RedisServer) -> Iterator[NodeProcess]:
    with running_node(tmp_path_factory.mktemp("node"), "--redis", server.url) as node:
        yield node
        server.make_room()


def leave_room(server: RedisServer, room_bytes: int) -> None:
    with server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + room_bytes)


def ctl(node: NodeProcess, *arguments: str) -> Result:
    return program.run("ctl", *arguments, "--admin", f"127.0.0.1:{node.admin_port}")


def delete(node: NodeProcess, path: str) -> dict[str, object]:
    url = f"http://127.0.0.1:{node.admin_port}/api/v1/{path}"
    answer = httpx.request("DELETE", url, json={}, timeout=5.0, trust_env=False, verify=NO_TLS)
    assert answer.status_code == 200, answer.text
    told: dict[str, object] = answer.json()
    return told


@dataclass
class Flood:
    """A publisher that goes on at QoS 1 or 2 until it is held or refused."""

    client: WireClient
    topic: str
    qos: int
    retain: bool = False
    last: int = 0
    pending: dict[int, bytes] = field(default_factory=dict)
    releasing: set[int] = field(default_factory=set)
    stored: list[bytes] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)

    def until_full(self) -> None:
        deadline = time.monotonic() + 30.0
        while len(self.refused) < REFUSALS:
            assert time.monotonic() < deadline, "it does not get full"
            batch = []
            while len(self.pending) + len(self.releasing) < WINDOW:
                batch.append(self._next())
            if batch:
                self.client.send(*batch)
            packet = self.client.poll(QUIET_SECONDS)
            if packet is None:
                return
            self._take(packet)

    def finish(self) -> None:
        """Sends nothing new: all that is pending is answered."""
        while self.pending or self.releasing:
            self._take(self.client.next())

    def _next(self) -> Publish:
        self.last += 1
        payload = b"%s %06d " % (self.topic.encode(), self.last) + b"." * PAYLOAD_BYTES
        self.pending[self.last] = payload
        topic = f"{self.topic}/{self.last}" if self.retain else self.topic
        return Publish(topic, payload, self.qos, self.retain, False, self.last)

    def _take(self, packet: Packet) -> None:
        if isinstance(packet, Pubcomp):
            assert packet.reason_code == 0
            self.releasing.remove(packet.packet_id)
            return
        assert isinstance(packet, Pubrec if self.qos == 2 else Puback), packet
        assert packet.reason_code in (0, ReasonCode.NO_MATCHING_SUBSCRIBERS, QUOTA_EXCEEDED), packet
        payload = self.pending.pop(packet.packet_id)
        is_stored = packet.reason_code != QUOTA_EXCEEDED
        (self.stored if is_stored else self.refused).append(payload)
        if self.qos == 2 and is_stored:
            self.releasing.add(packet.packet_id)
            self.client.send(Pubrel(packet.packet_id))


def resume(node: NodeProcess, client_id: str, version: int) -> WireClient:
    client = WireClient(node.port, version, timeout_seconds=15.0)
    connack = client.connect(client_id, clean_start=False, properties=HOUR if version == MQTT_5 else None)
    assert (connack.reason_code, connack.session_present) == (0, True), connack
    return client


def receive_all(client: WireClient, until: bytes) -> list[bytes]:
    """Each payload that comes, acknowledged as it is due, up to this one."""
    found: list[bytes] = []
    while not found or found[-1] != until:
        packet = client.next()
        if isinstance(packet, Pubrel):
            client.send(Pubcomp(packet.packet_id))
            continue
        assert isinstance(packet, Publish)
        found.append(packet.payload)
        if packet.qos == 1:
            client.send(Puback(packet.packet_id))
        elif packet.qos == 2:
            client.send(Pubrec(packet.packet_id))
    return found


def publish_until_stored(client: WireClient, topic: str, qos: int) -> None:
    """Refused while there is no room yet."""
    deadline = time.monotonic() + 10.0
    while (reason_code := client.publish(topic, LAST, qos)) != 0:
        assert reason_code == QUOTA_EXCEEDED
        assert time.monotonic() < deadline, "it does not recover"
        time.sleep(0.05)


VERSIONS = pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5], ids=["3.1.1", "5"])


@VERSIONS
@pytest.mark.parametrize("qos", [1, 2])
def test_queues_fill_it(server: RedisServer, node: NodeProcess, version: int, qos: int) -> None:
    """A subscriber is away until it is full, then comes and makes room. What was acknowledged comes, in
    order and once; what was refused does not."""
    name = f"{qos}-{version}"
    properties = HOUR if version == MQTT_5 else None
    away = f"away-{name}"
    with WireClient(node.port, version) as subscriber:
        subscriber.connect(away, clean_start=False, properties=properties)
        subscriber.subscribe(name, qos=qos)
    leave_room(server, ROOM_BYTES)
    with Pinger(node) as pinger, WireClient(node.port, version, timeout_seconds=15.0) as client:
        client.connect(f"flood-{name}", clean_start=False, properties=properties)
        flood = Flood(client, name, qos)
        flood.until_full()
        assert len(flood.stored) > ROOM_BYTES // PAYLOAD_BYTES // 3
        assert version == MQTT_5 or not flood.refused
        assert flood.pending or flood.refused
        with resume(node, away, version) as subscriber, ThreadPoolExecutor() as threads:
            received = threads.submit(receive_all, subscriber, LAST)
            flood.finish()  # it has what room the subscriber makes
            publish_until_stored(client, name, qos)
            assert received.result() == [*flood.stored, LAST]
        assert not set(flood.stored) & set(flood.refused)
    assert pinger.count > 3
    assert pinger.slowest < PING_SECONDS
    with resume(node, f"flood-{name}", version):
        pass


@VERSIONS
def test_retained_messages_fill_it(server: RedisServer, node: NodeProcess, version: int) -> None:
    """Each that was acknowledged is there, none that was refused; with more room the rest is stored."""
    name = f"retained-{version}"
    properties = HOUR if version == MQTT_5 else None
    leave_room(server, ROOM_BYTES)
    with Pinger(node) as pinger, WireClient(node.port, version, timeout_seconds=15.0) as client:
        client.connect(f"flood-{name}", clean_start=False, properties=properties)
        flood = Flood(client, name, 1, retain=True)
        flood.until_full()
        assert len(flood.stored) > ROOM_BYTES // PAYLOAD_BYTES // 3
        server.make_room()
        flood.finish()
    assert pinger.slowest < PING_SECONDS
    with connected(node.port, "reader") as reader:
        reader.subscribe(f"{name}/+", qos=1)
        assert set(reader.payloads(len(flood.stored))) == set(flood.stored)
        reader.assert_silence()


def test_an_operator_deletes_retained_messages(server: RedisServer, node: NodeProcess) -> None:
    """While it is full of them: publishers go on by themselves, and subscribers are told in time."""
    with connected(node.port, "told") as told:
        told.subscribe("cleared/1", qos=1)
        leave_room(server, ROOM_BYTES)
        with WireClient(node.port, MQTT_3_1_1, timeout_seconds=15.0) as client:
            client.connect("flood-cleared")
            flood = Flood(client, "cleared", 1, retain=True)
            flood.until_full()
            assert told.message().payload == flood.stored[0]
            assert len(flood.stored) > WINDOW
            result = ctl(node, "retained", "delete", "cleared/1")
            assert (result.exit_code, result.stdout) == (0, "cleared/1 is cleared\n"), result.output
            assert "its subscribers are not told yet" in result.stderr
            for number in range(2, WINDOW + 1):
                answer = delete(node, f"retained/cleared%2F{number}")
                assert (answer["retained"], answer["topic"]) == ("cleared", f"cleared/{number}")
            flood.finish()
        assert told.message().payload == b""
    server.make_room()  # so that the reader's SUBSCRIBE is not refused
    with connected(node.port, "reader") as reader:
        assert reader.subscribe("cleared/+", qos=1).reason_codes == [1]
        left = set(flood.stored[WINDOW:])
        assert set(reader.payloads(len(left))) == left
        reader.assert_silence()


def test_an_operator_ends_a_session(server: RedisServer, node: NodeProcess) -> None:
    """While it is full of what waits for that: publishers go on by themselves."""
    with WireClient(node.port) as subscriber:
        subscriber.connect("never-comes-back", clean_start=False, properties=HOUR)
        subscriber.subscribe("heap", qos=1)
    leave_room(server, ROOM_BYTES)
    with WireClient(node.port, MQTT_3_1_1, timeout_seconds=15.0) as client:
        client.connect("flood-heap")
        flood = Flood(client, "heap", 1)
        flood.until_full()
        result = ctl(node, "session", "delete", "never-comes-back")
        assert result.exit_code == 0, result.output
        flood.finish()


@VERSIONS
def test_who_connects_and_subscribes(server: RedisServer, node: NodeProcess, version: int) -> None:
    """A session that is there is resumed and may be left; a subscription is refused, and so is not there
    afterwards. What takes memory goes again once there is room."""
    client_id, properties = f"comes-{version}", HOUR if version == MQTT_5 else None
    with WireClient(node.port, version) as client:
        client.connect(client_id, clean_start=False, properties=properties)
        client.subscribe("before", qos=1)
    with server.client() as redis:
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] // 2)
    refused = FAILURE_311 if version == MQTT_3_1_1 else QUOTA_EXCEEDED
    with Pinger(node) as pinger, resume(node, client_id, version) as client:
        assert client.subscribe("while/full", qos=1).reason_codes == [refused]
        client.unsubscribe("before")
        with connected(node.port, "transient", version) as transient:
            transient.publish("zero", b"flows")
        server.make_room()
        with connected(node.port, "publisher") as publisher:
            assert publisher.publish("while/full", b"nobody's", 1) in (0, ReasonCode.NO_MATCHING_SUBSCRIBERS)
        client.assert_silence()
        assert client.subscribe("while/full", qos=1).reason_codes == [1]
    assert pinger.slowest < PING_SECONDS
