"""Durability levels with real servers: what waits for replicas or for the disk, what does not, what is said
while a level can't be had, and what becomes of it when another primary comes."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from broker.mqtt import (
    MQTT_5,
    Connack,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from cluster.store.server_binary import bundled_binary, find_server_binary
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import HOUR, WireClient, connected
from tests.ports import free_port

TOPICS = '[{"filter":"safe/#","level":"replicated"},{"filter":"+/two","level":"replicated(2)"}]'
HELD_SECONDS = 0.4


def _binaries() -> list[Path]:
    """Redis 7.0 and Valkey 9, as far as they are here."""
    found = [anyio.run(find_server_binary), bundled_binary()]
    return list(dict.fromkeys(path for path in found if path is not None))


BINARIES = _binaries()
ON_ONE = pytest.mark.parametrize("servers", BINARIES[:1], indirect=True, ids=["one"])
"""What does not depend on the server."""


@pytest.fixture(scope="module", params=BINARIES, ids=lambda path: path.name)
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Servers"]:
    directory = tmp_path_factory.mktemp("servers")
    binary: Path = request.param
    with (
        running_redis(directory / "primary", "--repl-diskless-sync-delay", "0", binary=binary) as primary,
        running_redis(directory / "replica", binary=binary) as replica,
    ):
        replica.follow(primary)
        yield Servers(binary, primary, replica)


@dataclass(frozen=True)
class Servers:
    """A primary and its replica."""

    binary: Path
    primary: RedisServer
    replica: RedisServer


@pytest.fixture(scope="module")
def node(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    environment = {
        "MOORLINE_TOPICS__DURABILITY": TOPICS,
        "MOORLINE_LISTENERS": f'{{"safe":{{"address":"mqtt://127.0.0.1:{free_port()}","durability":"replicated"}}}}',
    }
    directory = tmp_path_factory.mktemp("node")
    with running_node(directory, "--redis", servers.primary.url, environment=environment) as node:
        yield node


@pytest.fixture
def paused(servers: Servers) -> Iterator[RedisServer]:
    """The replica, which answers nothing until it is thawed."""
    servers.replica.freeze()
    yield servers.replica
    servers.replica.thaw()


def _safe_port(node: NodeProcess) -> int:
    lines = [line for line in node.output().splitlines() if line.startswith("  mqtt")]
    return int(lines[-1].rpartition(":")[2])


def _assert_held(client: WireClient) -> None:
    """Nothing comes, but the answer to a PINGREQ."""
    assert client.poll(HELD_SECONDS) is None
    assert client.ping() == []


def test_a_publisher_is_acknowledged_when_the_replica_has_it(node: NodeProcess, name: str) -> None:
    with (
        connected(node.port, name, properties=HOUR) as client,
        connected(node.port, f"{name}-2", properties=HOUR) as subscriber,
    ):
        subscriber.subscribe(f"safe/{name}", qos=2)
        assert client.publish(f"safe/{name}", b"one", 1) == 0
        assert client.publish(f"safe/{name}", b"two", 2) == 0
        assert subscriber.payloads(2) == [b"one", b"two"]


def test_weaker_levels_go_on_while_a_replica_is_away(
    node: NodeProcess, paused: RedisServer, name: str
) -> None:
    with connected(node.port, name, properties=HOUR) as client, connected(node.port, f"{name}-2") as other:
        client.send(Publish(f"safe/{name}", b"", 1, False, False, 1, None))
        client.send(Publish(f"t/{name}", b"", 1, False, False, 2, None))
        _assert_held(client)
        assert other.publish(f"t/{name}", b"", 1) == 0x10
        assert other.publish(f"t/{name}", b"", 2) == 0x10
        paused.thaw()
        client.expect_all(Puback(1, 0x10), Puback(2, 0x10))


def test_both_halves_of_qos_2_wait(node: NodeProcess, servers: Servers, name: str) -> None:
    with connected(node.port, name, properties=HOUR) as client:
        client.send(Publish(f"safe/{name}", b"", 2, False, False, 7, None))
        client.expect(Pubrec)
        servers.replica.freeze()
        client.send(Pubrel(7))
        client.send(Publish(f"safe/{name}", b"", 2, False, False, 8, None))
        _assert_held(client)
        servers.replica.thaw()
        client.expect_all(Pubcomp(7), Pubrec(8, 0x10))


def test_pubrel_to_a_subscriber_waits_until_its_pubrec_is_safe(
    node: NodeProcess, servers: Servers, name: str
) -> None:
    with (
        connected(node.port, name, properties=HOUR) as client,
        connected(node.port, f"{name}-2", properties=HOUR) as publisher,
    ):
        client.subscribe(f"safe/{name}", f"t/{name}", qos=2)
        for topic in ("safe", "t"):
            assert publisher.publish(f"{topic}/{name}", b"", 2) == 0
        first, second = client.expect(Publish), client.expect(Publish)
        servers.replica.freeze()
        client.send(Pubrec(first.packet_id), Pubrec(second.packet_id))
        _assert_held(client)
        servers.replica.thaw()
        client.expect_all(Pubrel(first.packet_id), Pubrel(second.packet_id))
        client.send(Pubcomp(first.packet_id), Pubcomp(second.packet_id))


@ON_ONE
def test_a_subscriber_at_qos_2_gets_what_is_confirmed(node: NodeProcess, servers: Servers, name: str) -> None:
    with (
        connected(node.port, name, properties=HOUR) as publisher,
        connected(node.port, f"{name}-1", properties=HOUR) as once_or_more,
        connected(node.port, f"{name}-2", properties=HOUR) as once,
    ):
        once_or_more.subscribe(f"safe/{name}", qos=1)
        once.subscribe(f"safe/{name}", f"t/{name}", qos=2)
        servers.replica.freeze()
        publisher.send(Publish(f"safe/{name}", b"", 2, False, False, 1, None))
        assert once_or_more.message().qos == 1
        publisher.send(Publish(f"t/{name}", b"stored", 1, False, False, 2, None))  # in its turn
        _assert_held(once)
        servers.replica.thaw()
        assert [once.message().qos, once.message().qos] == [2, 1]
        publisher.expect_all(Pubrec(1), Puback(2))


@ON_ONE
def test_sessions_and_subscriptions_wait_by_their_listener(
    node: NodeProcess, paused: RedisServer, name: str
) -> None:
    with (
        connected(_safe_port(node), f"{name}-d") as direct,
        WireClient(_safe_port(node), MQTT_5) as queued,
    ):
        queued.connect_only(name, clean_start=True, properties=HOUR)
        direct.send(Subscribe(3, [SubscriptionRequest("t", 1, False, False, 0)], None))
        _assert_held(direct)
        assert queued.poll(0.0) is None
        paused.thaw()
        assert queued.expect(Connack).reason_code == 0
        assert direct.expect(Suback).packet_id == 3
        queued.subscribe("t", qos=1)
        queued.unsubscribe("t")


@ON_ONE
def test_a_client_that_gives_up_leaves_its_session(node: NodeProcess, paused: RedisServer, name: str) -> None:
    with WireClient(_safe_port(node), MQTT_5) as waits:
        waits.connect_only(name, clean_start=True, properties=HOUR)
        _silence(waits)
    with connected(node.port, name, clean_start=False, properties=HOUR) as client:  # by another listener
        client.send(Publish("safe/t", b"", 1, False, False, 1, None))
        _assert_held(client)
    paused.thaw()
    with connected(node.port, name, clean_start=False, properties=HOUR) as client:
        assert client.publish("safe/t", b"", 1) == 0x10


def _silence(client: WireClient) -> None:
    assert client.poll(HELD_SECONDS) is None


@ON_ONE
def test_a_level_that_needs_more_replicas_is_an_alarm_until_they_are_there(
    node: NodeProcess, servers: Servers, tmp_path: Path, name: str
) -> None:
    with connected(node.port, name, properties=HOUR) as client:
        client.send(Publish(f"{name}/two", b"", 1, False, False, 1, None))
        text = node.wait_for("alarm durability is raised", 10)
        assert "1 replica is connected, 2 needed" in text
        waiting = 'moorline_durability_waiting{level="replicated(2)"} 1.0'
        assert waiting in node.get("/metrics").text
        assert '"durability"' in node.get("/api/v1/overview").text
        _assert_held(client)
        with running_redis(tmp_path / "second", binary=servers.binary) as second:
            second.follow(servers.primary)
            assert client.expect(Puback) == Puback(1, 0x10)
            node.wait_for("alarm durability is cleared", 10)


@ON_ONE
def test_a_node_that_stops_does_not_wait_for_a_level_that_nobody_has(
    servers: Servers, tmp_path: Path
) -> None:
    environment = {"MOORLINE_NODE__DURABILITY": "replicated(3)", "MOORLINE_REDIS__PREFIX": "stops:"}
    with running_node(tmp_path, "--redis", servers.primary.url, environment=environment) as node:
        with connected(node.port, "client") as client:
            client.send(Publish("t", b"", 1, False, False, 1, None))
            _assert_held(client)
            began = time.monotonic()
            assert node.stop() == 0
        assert time.monotonic() - began < 5


def test_the_disk_is_waited_for(servers: Servers, tmp_path: Path) -> None:
    """Neither Redis 7.0 nor Valkey 9 can tell what is there: they have to have `appendfsync always`."""
    environment = {"MOORLINE_NODE__DURABILITY": "fsynced", "MOORLINE_REDIS__PREFIX": "disk:"}
    with (
        running_node(tmp_path, "--redis", servers.primary.url, environment=environment) as node,
        connected(node.port, "client") as client,
        servers.primary.client() as redis,
    ):
        client.send(Publish("t", b"", 1, False, False, 1, None))
        _assert_held(client)  # appendfsync no
        node.wait_for("this server has no WAITAOF .* set appendfsync always")
        redis.config_set("appendfsync", "everysec")
        _assert_held(client)
        redis.config_set("appendfsync", "always")
        try:
            assert client.expect(Puback) == Puback(1, 0x10)
        finally:
            redis.config_set("appendfsync", "no")


def test_nothing_acknowledged_is_lost_with_the_primary(tmp_path: Path) -> None:
    """What was not confirmed by then is routed again, before what is newer."""
    environment = {"MOORLINE_TOPICS__DURABILITY": TOPICS}
    with (
        running_redis(tmp_path / "a", "--repl-diskless-sync-delay", "0") as old,
        running_redis(tmp_path / "b", "--repl-diskless-sync-delay", "0") as new,
        running_redis(tmp_path / "c") as third,
    ):
        new.follow(old)
        with (
            running_node(tmp_path, "--redis", old.url, environment=environment) as node,
            connected(node.port, "publisher", properties=HOUR) as publisher,
        ):
            with connected(node.port, "subscriber", properties=HOUR) as subscriber:
                subscriber.subscribe("safe/#", qos=2)
            for number in range(10):
                assert publisher.publish("safe/t", b"%d" % number, 1 + number % 2) == 0
            new.freeze()
            for number in range(10, 20):
                qos = 1 + number % 2
                publisher.send(Publish("safe/t", b"%d" % number, qos, False, False, 100 + number, None))
            _assert_held(publisher)
            old.kill()
            new.thaw()
            _take_over(new, old)
            node.wait_for("another primary: what is not confirmed is routed again")
            third.follow(new)
            acknowledged = [publisher.next() for _ in range(10)]
            for kind, first in ((Puback, 10), (Pubrec, 11)):  # each of the two in order
                found = [packet for packet in acknowledged if isinstance(packet, kind)]
                assert found == [kind(100 + number) for number in range(first, 20, 2)]
            with connected(node.port, "subscriber", clean_start=False, properties=HOUR) as subscriber:
                payloads = [int(payload) for payload in subscriber.payloads(20)]
                payloads += [int(each.payload) for each in _rest(subscriber)]
            assert [each for each in payloads if each % 2] == list(range(1, 20, 2))  # QoS 2: once
            assert list(dict.fromkeys(each for each in payloads if each % 2 == 0)) == list(range(0, 20, 2))


def _rest(subscriber: WireClient) -> list[Publish]:
    """What at QoS 1 came again."""
    found = [packet for packet in subscriber.ping() if isinstance(packet, Publish)]
    assert all(packet.qos == 1 for packet in found)
    return found


def _take_over(new: RedisServer, old: RedisServer) -> None:
    """The replica is the primary now, where clients look for that."""
    with new.client() as client:
        client.replicaof("NO", "ONE")
    new.kill()
    new.port = old.port
    new.start()
