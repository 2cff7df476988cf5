"""A node that is emptied: everybody is told, at a pace and in time, and may go on elsewhere at once."""

import contextlib
import json
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.mqtt import (
    MQTT_3_1_1,
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Properties,
    Puback,
    Publish,
    ReasonCode,
    Will,
)
from cluster import drain
from cluster.drain import Departure
from cluster.store import keys
from tests.node.harness import NodeProcess
from tests.node.model import Publisher, Subscriber
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import HOUR, WireClient, connected

pytestmark = pytest.mark.timeout(40)

PREFIX = "mq:"
ELSEWHERE = "10.0.0.7:1883 [2001:db8::7]:1883"
SLOW_PACE = {"MOORLINE_CLUSTER__DRAIN_CLIENTS_PER_SECOND": "20"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# The pace


@given(st.integers(1, 100_000), st.floats(0.1, 10_000), st.floats(0.1, 600))
def test_all_are_told_in_time_and_never_faster_than_that_takes(
    count: int, clients_per_second: float, seconds: float
) -> None:
    rate = drain.rate_within(count, clients_per_second, seconds)
    assert rate >= clients_per_second
    assert rate == clients_per_second or rate * seconds == pytest.approx(count)
    assert drain.told_by(0.0, rate, count) == 1
    assert drain.told_by(seconds, rate, count) == count
    for share in (0.1, 0.5, 0.9):
        elapsed = share * seconds
        assert drain.told_by(elapsed, rate, count) <= min(count, 1 + elapsed * rate)


@pytest.mark.anyio
async def test_the_loop_keeps_the_pace() -> None:
    told: list[tuple[float, int]] = []
    started = time.monotonic()
    await drain.shed(30, 100.0, lambda count: told.append((time.monotonic() - started, count)))
    assert sum(count for _, count in told) == 30
    assert told[0][1] == 1
    assert told[-1][0] >= 0.29
    so_far = 0
    for elapsed, count in told:
        so_far += count
        assert so_far <= 1 + elapsed * 100.0


@pytest.mark.anyio
async def test_few_are_told_far_apart() -> None:
    times: list[float] = []
    started = time.monotonic()
    await drain.shed(3, 5.0, lambda count: times.extend([time.monotonic() - started] * count))
    assert [int(each / 0.2 + 0.01) for each in times] == [0, 1, 2]


@pytest.mark.anyio
async def test_there_is_nobody_to_tell() -> None:
    await drain.shed(0, 1.0, lambda _: pytest.fail("told somebody"))


@pytest.mark.anyio
async def test_a_departure_begins_once() -> None:
    departure = Departure()
    assert not departure.is_set()
    async with anyio.create_task_group() as waiting:
        waiting.start_soon(departure.wait)
        departure.begin("asked", moved=True)
    departure.begin("SIGTERM")
    assert departure.is_set()
    assert departure.moved


@pytest.mark.anyio
async def test_a_pause_can_be_cut_short_once() -> None:
    departure = Departure()
    assert not departure.hurry()  # it has not begun
    assert await departure.pause(0.01)
    assert not departure.hurry()  # it is over
    async with anyio.create_task_group() as waiting:
        cut = departure.pause(60)
        waiting.start_soon(_expect, cut, False)
        await anyio.wait_all_tasks_blocked()
        assert departure.hurry()
        assert not departure.hurry()


async def _expect(pause: Awaitable[bool], lasted: bool) -> None:
    assert await pause == lasted


# Nodes


@dataclass
class Cluster:
    """Two nodes on one Redis."""

    server: RedisServer
    first: NodeProcess
    second: NodeProcess

    def members(self) -> set[str]:
        """Names of the nodes."""
        with self.server.client() as client:
            found = cast(list[bytes], client.zrange(keys.nodes(PREFIX), 0, -1))
        return {name.decode().partition(".")[0] for name in found}

    def owned(self) -> set[str]:
        """Names of the nodes that own sessions."""
        with self.server.client() as client:
            found = cast(list[bytes], client.keys(f"{PREFIX}{{*}}:n:*"))
        return {key.decode().rpartition(":")[2].partition(".")[0] for key in found}


@contextlib.contextmanager
def _cluster(directory: Path, environment: dict[str, str]) -> Iterator[Cluster]:
    with running_redis(directory / "redis") as server, contextlib.ExitStack() as stack:
        nodes = []
        for name, variables in (("first", environment), ("second", {})):
            (directory / name).mkdir()
            flags = ("--redis", server.url, "--node-name", name)
            node = NodeProcess(directory / name, *flags, environment=variables)
            stack.callback(node.close)
            node.launch()
            nodes.append(node)
        for node in nodes:
            node.wait_until_up()
        yield Cluster(server, *nodes)


@dataclass
class Farewell:
    """What a client saw of the end of its connection, and of the next one, on another node."""

    version: int
    at: float
    packets: list[Packet]
    connack: Connack
    payload: bytes


def _wait_and_move(client: WireClient, client_id: str, port: int) -> Farewell:
    packets = client.wait_closed()
    at = time.monotonic()
    with WireClient(port, client.version) as again:
        properties = HOUR if client.version == MQTT_5 else None
        connack = again.connect(client_id, clean_start=False, properties=properties)
        return Farewell(client.version, at, packets, connack, again.message().payload)


def _drained(cluster: Cluster, clients: dict[str, WireClient], number: signal.Signals) -> list[Farewell]:
    """Stops the first node; all clients move to the second one as soon as they are told. In order of time."""
    with ThreadPoolExecutor(len(clients)) as pool:
        futures = [
            pool.submit(_wait_and_move, client, client_id, cluster.second.port)
            for client_id, client in clients.items()
        ]
        cluster.first.send_signal(number)
        farewells = [future.result() for future in futures]
    for client in clients.values():
        client.close()
    return sorted(farewells, key=lambda farewell: farewell.at)


def _clients(node: NodeProcess, count: int) -> dict[str, WireClient]:
    """Half of them speak MQTT 3."""
    clients: dict[str, WireClient] = {}
    for number in range(count):
        version = (MQTT_5, MQTT_3_1_1)[number % 2]
        name = f"c{number}"
        client = clients[name] = connected(
            node.port, name, version, clean_start=False, properties=HOUR if version == MQTT_5 else None
        )
        client.timeout_seconds = 12.0
        client.subscribe(name, qos=1)
    return clients


def _queue_one_each(node: NodeProcess, clients: dict[str, WireClient]) -> None:
    """A message for each of them that it takes and does not acknowledge."""
    with connected(node.port, "publisher") as publisher:
        for name, client in clients.items():
            publisher.publish(name, b"for " + name.encode(), 1)
            client.next()


def test_clients_are_sent_to_another_node_at_a_pace(tmp_path: Path) -> None:
    """MQTT 5 is told why and where, MQTT 3 is closed; each finds its session free, whenever it comes."""
    environment = SLOW_PACE | {"MOORLINE_CLUSTER__SERVER_REFERENCE": ELSEWHERE}
    with _cluster(tmp_path, environment) as cluster:
        clients = _clients(cluster.first, 20)
        _queue_one_each(cluster.first, clients)
        idle = socket.create_connection(("127.0.0.1", cluster.first.port))
        farewells = _drained(cluster, clients, signal.SIGTERM)
        for farewell in farewells:
            if farewell.version == MQTT_5:
                (disconnect,) = farewell.packets
                assert isinstance(disconnect, Disconnect)
                assert disconnect.reason_code == ReasonCode.USE_ANOTHER_SERVER
                assert disconnect.properties is not None
                assert disconnect.properties.server_reference == ELSEWHERE
            else:
                assert farewell.packets == []
            assert farewell.connack.session_present
        assert sorted(farewell.payload for farewell in farewells) == sorted(
            b"for " + name.encode() for name in clients
        )
        assert farewells[-1].at - farewells[0].at > 0.8  # 19 / 20 s, less what a thread may be late
        assert idle.recv(1) == b""
        idle.close()
        assert cluster.first.wait() == 0
        assert cluster.members() == {"second"}
        assert "first" not in cluster.owned()
        assert "was dead" not in cluster.second.output()


def test_the_pace_is_raised_to_be_done_in_time(tmp_path: Path) -> None:
    """And without a Server Reference a node that stops says just that."""
    environment = {
        "MOORLINE_CLUSTER__DRAIN_CLIENTS_PER_SECOND": "1",
        "MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS": "3",
    }
    with _cluster(tmp_path, environment) as cluster:
        clients = _clients(cluster.first, 30)
        _queue_one_each(cluster.first, clients)
        started = time.monotonic()
        farewells = _drained(cluster, clients, signal.SIGINT)
        assert cluster.first.wait() == 0
        assert time.monotonic() - started < 3.0
        assert farewells[-1].at - farewells[0].at > 1.2  # of 1.8 s
        assert all(farewell.connack.session_present for farewell in farewells)
        codes = {
            packet.reason_code
            for each in farewells
            for packet in each.packets
            if isinstance(packet, Disconnect)
        }
        assert codes == {ReasonCode.SERVER_SHUTTING_DOWN}
        assert '"stopped"' in cluster.first.output()
        assert cluster.members() == {"second"}


def test_messages_flow_until_the_client_is_told(tmp_path: Path) -> None:
    """Nobody new gets in meanwhile."""
    environment = {
        "MOORLINE_CLUSTER__DRAIN_CLIENTS_PER_SECOND": "0.1",
        "MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS": "200",
    }
    with _cluster(tmp_path, environment) as cluster:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connected(cluster.first.port, f"c{i}")) for i in range(6)]
            for client in clients:
                client.subscribe("t", qos=1)
            cluster.first.send_signal(signal.SIGTERM)
            cluster.first.wait_for('"draining"')
            assert cluster.first.get("/readyz").status == 503
            with pytest.raises(ConnectionRefusedError):
                WireClient(cluster.first.port)
            client = _one_that_is_still_there(clients)
            client.send(Publish("t", b"late", 1, False, False, 1))
            assert {type(client.next()) for _ in range(2)} == {Publish, Puback}
        cluster.first.send_signal(signal.SIGTERM)  # which is the second
        assert cluster.first.wait() == 1


def _one_that_is_still_there(clients: list[WireClient]) -> WireClient:
    """Whose turn is not now."""
    for client in clients:
        with contextlib.suppress(ConnectionError):
            if client.poll(0.05) is None:
                return client
    raise AssertionError("all have been told")


def test_wills_of_clients_that_are_sent_away(tmp_path: Path) -> None:
    """The server has ended the connection: the will is sent, unless it waits and the client is back before
    that [MQTT-3.1.2-8], [MQTT-3.1.3-9]."""
    delay = Properties(will_delay_interval=2)
    with _cluster(tmp_path, {}) as cluster, Subscriber(cluster.first, "watcher") as watcher:
        watcher.subscribe("will/#", 1)
        watcher.lose()
        watcher.move(cluster.second)
        with (
            connected(cluster.first.port, "now", will=Will("will/now", b"now", 1, False, None)),
            connected(cluster.first.port, "back", will=Will("will/b", b"", 1, False, delay), properties=HOUR),
            connected(
                cluster.first.port, "gone", will=Will("will/g", b"gone", 1, False, delay), properties=HOUR
            ),
        ):
            assert cluster.first.stop() == 0
        with connected(cluster.second.port, "back", clean_start=False, properties=HOUR):
            watcher.receive(2)
            assert watcher.received == [b"now", b"gone"]
            watcher.receive_no_more()


@pytest.mark.parametrize("version", [MQTT_5, MQTT_3_1_1])
def test_who_has_not_been_accepted_yet_is_refused(tmp_path: Path, version: int) -> None:
    """Its claim is under way: it gets a CONNACK at once, and the session is given back when it is ours."""
    with _cluster(tmp_path, {}) as cluster:
        with connected(cluster.first.port, "c", properties=HOUR):
            pass
        cluster.server.freeze()
        with WireClient(cluster.first.port, version) as client:
            client.send(
                Connect("c", version, False, 0, None, None, None, HOUR if version == MQTT_5 else None)
            )
            connects = 'moorline_packets_received_total{type="connect"} 2.0'
            _wait_until(lambda: connects in cluster.first.get("/metrics").text)
            cluster.first.send_signal(signal.SIGTERM)
            connack = client.expect(Connack)
            assert connack.reason_code == (ReasonCode.SERVER_UNAVAILABLE if version == MQTT_5 else 3)
            assert client.wait_closed() == []
        cluster.server.thaw()
        assert cluster.first.wait() == 0
        assert cluster.owned() == set()
        with WireClient(cluster.second.port) as client:
            assert client.connect("c", clean_start=False, properties=HOUR).session_present


def test_a_client_that_does_not_read_delays_nothing_for_ever(tmp_path: Path) -> None:
    environment = {"MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS": "3"}
    with (
        _cluster(tmp_path, environment) as cluster,
        connected(cluster.first.port, "deaf", properties=HOUR) as deaf,
    ):
        deaf.shrink_buffer()
        deaf.subscribe("t")
        with connected(cluster.first.port, "publisher") as publisher:
            for _ in range(100):
                publisher.publish("t", b"x" * 100_000)
        cluster.first.send_signal(signal.SIGTERM)
        assert cluster.first.wait() == 0
        assert '"stopped"' in cluster.first.output()
        assert cluster.members() == {"second"}
        assert cluster.owned() == set()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("qos", [1, 2])
def test_a_kill_in_the_middle_of_a_drain_loses_nothing(tmp_path: Path, qos: int) -> None:
    """Some have been told and have moved, the others find their connection cut; all go on elsewhere."""
    environment = {"MOORLINE_CLUSTER__DRAIN_CLIENTS_PER_SECOND": "4"}
    with _cluster(tmp_path, environment) as cluster, contextlib.ExitStack() as stack:
        subscribers = [stack.enter_context(Subscriber(cluster.first, f"s{i}")) for i in range(12)]
        for subscriber in subscribers:
            subscriber.subscribe("t", qos)
        publisher = stack.enter_context(Publisher(cluster.first, "publisher"))
        publisher.publish([("t", b"%d" % i) for i in range(50)], qos)
        for subscriber in subscribers:
            subscriber.receive(10)
            subscriber.move(cluster.second)
        publisher.move(cluster.second)
        cluster.first.send_signal(signal.SIGTERM)
        cluster.first.wait_for(r'("disconnected"[^\n]*\n[^\n]*){4}')
        publisher.lose()
        publisher.publish([("t", b"%d" % i) for i in range(50, 100)], qos)
        cluster.first.kill()
        publisher.publish([("t", b"%d" % i) for i in range(100, 150)], qos)
        for subscriber in subscribers:
            subscriber.lose()  # what it has not taken comes again
            subscriber.receive(150)
            subscriber.receive_no_more()
            assert subscriber.received == [b"%d" % i for i in range(150)]


# By command


@pytest.mark.parametrize("asked", ["first", "second"])
def test_a_node_that_is_asked_to_drain(tmp_path: Path, asked: str) -> None:
    """At its own admin address, or at another node's. SIGTERM while it drains is the first signal, not the
    second."""
    with _cluster(tmp_path, SLOW_PACE) as cluster:
        clients = _clients(cluster.first, 20)
        node = cluster.first if asked == "first" else cluster.second
        answer = node.post("/api/v1/nodes/first/drain", {"moved": True})
        assert answer.status == 202, answer
        cluster.first.wait_for('"draining"')
        cluster.first.send_signal(signal.SIGTERM)
        for client in clients.values():
            packets = client.wait_closed()
            assert client.version == MQTT_3_1_1 or [
                packet.reason_code for packet in packets if isinstance(packet, Disconnect)
            ] == [ReasonCode.SERVER_MOVED]
            client.close()
        assert cluster.first.wait() == 0
        assert cluster.members() == {"second"}


def test_a_rebalance_sends_away_the_surplus_only(tmp_path: Path) -> None:
    environment = {"MOORLINE_CLUSTER__SERVER_REFERENCE": ELSEWHERE}
    with _cluster(tmp_path, environment) as cluster, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(connected(cluster.first.port, f"c{i}", properties=HOUR)) for i in range(12)
        ]
        _wait_until(lambda: _sessions(cluster.second) == {"first": 12, "second": 0})
        answer = cluster.second.post("/api/v1/rebalance", {"per_second": 20})
        assert answer.status == 202, answer
        told = _told(clients, 6)
        for packet in told.values():
            assert packet.reason_code == ReasonCode.USE_ANOTHER_SERVER
            assert packet.properties is not None
            assert packet.properties.server_reference == ELSEWHERE
        _wait_until(lambda: _sessions(cluster.second) == {"first": 6, "second": 0})
        assert cluster.first.post("/api/v1/rebalance", {"tolerance": 1.0}).status == 202  # 6 is within
        for number, client in enumerate(clients):
            assert number in told or client.ping() == []
        assert cluster.first.get("/readyz").status == 200
        with WireClient(cluster.second.port) as moved:
            client_id = f"c{next(iter(told))}"
            assert moved.connect(client_id, clean_start=False, properties=HOUR).session_present


def _told(clients: list[WireClient], count: int) -> dict[int, Disconnect]:
    """What those clients got that were sent away, by their numbers."""
    told: dict[int, Disconnect] = {}

    def look() -> bool:
        for number, client in enumerate(clients):
            with contextlib.suppress(ConnectionError):
                packet = client.poll(0.01)
                if isinstance(packet, Disconnect):
                    told[number] = packet
        return len(told) >= count

    _wait_until(look)
    time.sleep(0.3)  # at this pace it would be six more
    look()
    assert len(told) == count
    return told


def _sessions(node: NodeProcess) -> dict[str, int | None]:
    """Connected clients by node, as the cluster has it."""
    found = json.loads(node.get("/api/v1/nodes").text)["nodes"]
    return {each["name"]: each["sessions"] for each in found}


def _wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
