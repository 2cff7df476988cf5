"""Nodes on a Redis Cluster of three shards with a replica each: what they do on one server they do here,
while its primaries are killed, its slots are moved, and they are killed themselves."""

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from broker.doctor.durability import check_durability
from broker.doctor.finding import Level
from broker.mqtt import Puback, Publish, Pubrec
from broker.settings import Settings
from broker.settings.model import NodeSettings
from cluster.store import keys
from cluster.store.endpoint import parse_url
from tests.cluster.conftest import running_nodes
from tests.cluster.test_routing import *  # noqa: F403 - those tests, on these nodes
from tests.cluster.test_routing import Nodes
from tests.node.model import Publisher, Subscriber, receive_no_more
from tests.node.wire import HOUR, connected
from tests.redis.slots import SlotMove
from tests.redis.topology import Topology, cluster

PREFIX = "mq:"
MESSAGES = 400
STEP = 100
HELD_SECONDS = 0.4


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    with cluster(Path(tmp_path_factory.mktemp("cluster")), 3, 1) as running:
        yield running


@pytest.fixture(scope="module")
def nodes(topology: Topology, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two of one broker; a test that kills one starts it again."""
    environment = {
        "MOORLINE_REDIS__EXCHANGE_TIMEOUT_SECONDS": "2",
        "MOORLINE_TOPICS__DURABILITY": '[{"filter":"safe/#","level":"replicated"}]',
    }
    with running_nodes(tmp_path_factory.mktemp("nodes"), topology.url, 2, environment) as (first, second):
        yield first, second


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """For client ids and topics that no other test has."""
    return f"{request.node.name.partition('[')[0][5:]}-{secrets.token_hex(2)}"


class Traffic:
    """A publisher and subscribers on both nodes, at one QoS, their sessions all persistent. `spread`: how
    many subscribers; so many that each shard has some."""

    def __init__(self, nodes: Nodes, name: str, qos: int, spread: int = 6) -> None:
        self._qos = qos
        self._topic = f"{name}/topic"
        self.payloads = [b"%04d" % number for number in range(MESSAGES)]
        self.publisher = Publisher(nodes[0], f"{name}-p")
        self.subscribers = [Subscriber(nodes[number % 2], f"{name}-{number}") for number in range(spread)]
        for subscriber in self.subscribers:
            subscriber.sender_repeats = True
            subscriber.subscribe(self._topic, qos)

    def run(self, during: Callable[[int], None]) -> None:
        """Publishes all, with something that happens after each step, and sees what has come."""
        threads = [
            threading.Thread(target=subscriber.receive, args=(MESSAGES,)) for subscriber in self.subscribers
        ]
        for thread in threads:
            thread.start()
        for first in range(0, MESSAGES, STEP):
            during(first // STEP)
            messages = [(self._topic, payload) for payload in self.payloads[first : first + STEP]]
            self.publisher.publish(messages, self._qos, window=20)
        for thread in threads:
            thread.join()
        receive_no_more(*self.subscribers)
        for subscriber in self.subscribers:
            assert subscriber.received == self.payloads


@contextmanager
def traffic(nodes: Nodes, name: str, qos: int) -> Iterator[Traffic]:
    running = Traffic(nodes, name, qos)
    try:
        yield running
    finally:
        for client in (running.publisher, *running.subscribers):
            client.lose()


def test_a_level_has_to_be_confirmed_by_each_primary(nodes: Nodes, topology: Topology, name: str) -> None:
    """Wherever the message is: all that was answered before is confirmed together."""
    primary, (replica,) = topology.primary(1), topology.replicas(1)
    with connected(nodes[0].port, name, properties=HOUR) as client:
        client.subscribe(f"safe/{name}", qos=1)
        assert client.publish("safe/nobody", b"", 1) == 0x10
        replica.freeze()
        client.send(Publish("safe/nobody", b"", 1, False, False, 1, None))
        client.send(Publish("safe/nobody", b"", 2, False, False, 2, None))
        assert client.poll(HELD_SECONDS) is None
        nodes[0].wait_for(f"can't be had.*127.0.0.1:{primary.port}: 0 of 1 replicas had it")
        assert client.ping() == []
        replica.thaw()
        client.expect_all(Puback(1, 0x10), Pubrec(2, 0x10))


def test_the_doctor_looks_at_each_primary(topology: Topology) -> None:
    node = NodeSettings.model_validate({"durability": "replicated"})
    findings = anyio.run(check_durability, Settings(node=node), parse_url(topology.url))
    assert {each.level for each in findings} == {Level.OK}
    ports = [topology.primary(shard).port for shard in range(3)]
    assert sorted(each.found for each in findings) == sorted(
        f"replicated(1): Redis at 127.0.0.1:{port} can confirm it" for port in ports
    )


@pytest.mark.parametrize("level", ["", "safe/"])
@pytest.mark.parametrize("qos", [1, 2])
def test_nobody_notices_that_slots_are_moved(
    nodes: Nodes, topology: Topology, name: str, qos: int, level: str
) -> None:
    """Those of the buckets of all clients, while messages are under way, and that of the cluster itself."""
    name = level + name
    with traffic(nodes, name, qos) as running:
        buckets: list[int | str] = [keys.bucket_of(f"{name}-{number}") for number in range(6)]
        buckets += [keys.bucket_of(f"{name}-p"), keys.META_SLOT]
        moving = threading.Thread(target=_move, args=(topology, [buckets[part::2] for part in range(2)]))

        def during(step: int) -> None:
            if step == 1:
                moving.start()

        running.run(during)
        moving.join()


def _move(topology: Topology, parts: list[list[int | str]]) -> None:
    for slots in parts:
        for slot in dict.fromkeys(slots):
            SlotMove(topology, keys.slot(PREFIX, slot)).all_at_once()


def test_a_killed_node_loses_nothing(nodes: Nodes, name: str) -> None:
    with traffic(nodes, name, 2) as running:

        def during(step: int) -> None:
            if step in (1, 3):
                nodes[step % 2].restart()

        running.run(during)


def test_a_retained_message_is_found_from_everywhere(nodes: Nodes, name: str) -> None:
    """In as many buckets as there are first levels."""
    with connected(nodes[0].port, f"{name}-p", properties=HOUR) as publisher:
        for number in range(30):
            publisher.publish(f"{name}-{number}/r", b"%d" % number, 1, retain=True)
    with connected(nodes[1].port, f"{name}-s") as subscriber:
        subscriber.subscribe("+/r", qos=1)
        assert sorted(map(int, subscriber.payloads(30))) == list(range(30))


@pytest.mark.parametrize("slot", [keys.META_SLOT, "another"])
def test_traffic_goes_on_when_a_primary_is_killed(
    nodes: Nodes, topology: Topology, name: str, slot: str
) -> None:
    """Its replica has everything, as nobody was writing in that moment."""
    with traffic(nodes, name, 1) as running:
        home = SlotMove(topology, keys.slot(PREFIX, keys.META_SLOT))
        killed = home.source if slot == keys.META_SLOT else home.target

        def during(step: int) -> None:
            if step == 2:
                topology.wait_for_replicas(killed.shard)
                killed.kill()

        running.run(during)
    killed.start()
    topology.settle()
    for node in nodes:
        node.wait_ready(200)
