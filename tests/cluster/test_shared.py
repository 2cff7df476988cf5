"""Shared subscriptions over two nodes: one copy for one member, whoever goes and wherever."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import redis

from broker.mqtt import MQTT_3_1_1, MQTT_5, Packet, Properties, Puback, Publish, Pubrec, Pubrel, ReasonCode
from cluster.store import keys
from tests.node.harness import NodeProcess
from tests.node.redis_server import RedisServer
from tests.node.wire import HOUR, WireClient, connected

Nodes = tuple[NodeProcess, NodeProcess]
JOIN_SECONDS = 5.0


@contextlib.contextmanager
def members(
    nodes: Nodes,
    name: str,
    count: int,
    *,
    qos: int = 1,
    persistent: bool = True,
    version: int = MQTT_5,
) -> Iterator[list[WireClient]]:
    """Clients in the group of the test, in turn on each node."""
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(count):
            client = stack.enter_context(
                connected(
                    nodes[number % 2].port,
                    f"{name}-{number}",
                    version=version,
                    clean_start=version == MQTT_5 or not persistent,
                    properties=HOUR if persistent and version == MQTT_5 else None,
                )
            )
            client.subscribe(f"$share/g/{name}/#", qos=qos)
            clients.append(client)
        yield clients


def wait_for_members(client: redis.Redis, group: str, count: int) -> None:
    """A member takes part a moment after its SUBACK; until then the others have its turns."""
    key = keys.share_members("mq:", keys.bucket_of(group), group)
    deadline = time.monotonic() + JOIN_SECONDS
    while client.hlen(key) < count + len(("seq", "given")):
        assert time.monotonic() < deadline, client.hgetall(key)
        time.sleep(0.01)


def collect(clients: list[WireClient], total: int) -> list[list[bytes]]:
    """What each gets, until there are so many. Only then anything is acknowledged: sooner, that would make
    room for what has not been given to anybody yet."""
    arrived: list[list[Packet]] = [[] for _ in clients]
    for _ in range(2000):
        if sum(len(each) for each in arrived) >= total:
            break
        for client, each in zip(clients, arrived, strict=True):
            packet = client.poll(0.01)
            if packet is not None:
                each.append(packet)
    got = []
    for client, packets in zip(clients, arrived, strict=True):
        client.received[:0] = packets
        got.append(client.payloads(len(packets)))
    for client in clients:
        client.assert_silence()
    return got


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_message_is_for_one_member(
    nodes: Nodes, name: str, redis_of_cluster: RedisServer, qos: int, persistent: bool
) -> None:
    with (
        members(nodes, name, 4, qos=qos, persistent=persistent) as group,
        connected(nodes[0].port, f"{name}-publisher") as publisher,
        redis_of_cluster.client() as client,
    ):
        wait_for_members(client, f"g/{name}/#", 4)
        for number in range(20):
            assert publisher.publish(f"{name}/{number}", str(number).encode(), qos) == 0
        got = collect(group, 20)
        assert sorted(int(payload) for each in got for payload in each) == list(range(20))
        if qos:  # at QoS 0 each node only knows of its own turns
            assert [len(each) for each in got] == [5, 5, 5, 5]


@pytest.mark.parametrize("granted", [0, 1])
def test_a_member_gets_what_it_was_granted(
    nodes: Nodes, name: str, redis_of_cluster: RedisServer, granted: int
) -> None:
    with (
        members(nodes, name, 2, qos=granted) as group,
        connected(nodes[0].port, f"{name}-publisher") as publisher,
        redis_of_cluster.client() as client,
    ):
        wait_for_members(client, f"g/{name}/#", 2)
        for number in range(4):
            publisher.publish(f"{name}/x", str(number).encode(), 2)
        for client in group:
            assert [client.message().qos for _ in range(2)] == [granted, granted]
            client.assert_silence()


def test_members_of_both_versions(nodes: Nodes, name: str) -> None:
    with (
        members(nodes, f"{name}/x", 2, version=MQTT_3_1_1) as old,
        connected(nodes[1].port, f"{name}-publisher") as publisher,
        connected(nodes[1].port, f"{name}-new", properties=HOUR) as new,
    ):
        new.subscribe(f"$share/g/{name}/x/#", qos=1, identifier=7)
        for number in range(9):
            publisher.publish(f"{name}/x/t", str(number).encode(), 1)
        assert len(new.payloads(2)) == 2
        last = new.message()
        assert last.properties is not None
        assert last.properties.subscription_identifier == (7,)
        for client in old:
            client.payloads(3)


def test_two_groups_and_a_plain_subscription_get_a_copy_each(nodes: Nodes, name: str) -> None:
    with (
        connected(nodes[0].port, f"{name}-a", properties=HOUR) as a,
        connected(nodes[1].port, f"{name}-b") as b,
        connected(nodes[1].port, f"{name}-publisher") as publisher,
    ):
        a.subscribe(f"$share/one/{name}", name, qos=1)
        b.subscribe(f"$share/two/{name}", qos=1)
        publisher.publish(name, b"x", 1)
        assert a.payloads(2) == [b"x", b"x"]
        assert b.payloads(1) == [b"x"]
        a.assert_silence()


def test_no_retained_messages_for_a_group(nodes: Nodes, name: str) -> None:
    with (
        connected(nodes[0].port, f"{name}-a", properties=HOUR) as a,
        connected(nodes[0].port, f"{name}-b") as b,
        connected(nodes[1].port, f"{name}-publisher") as publisher,
    ):
        publisher.publish(name, b"retained", 1, retain=True)
        for client in (a, b):
            client.subscribe(f"$share/g/{name}", qos=1)
            client.assert_silence(0.1)
        publisher.publish(name, b"", 1, retain=True)


def test_what_nobody_is_there_for_waits(nodes: Nodes, name: str) -> None:
    with connected(nodes[0].port, f"{name}-publisher") as publisher:
        with members(nodes, name, 2) as group:
            for client in group:
                client.disconnect()
        for number in range(10):
            assert publisher.publish(f"{name}/x", str(number).encode(), 1) == 0
        with connected(nodes[1].port, f"{name}-0", clean_start=False, properties=HOUR) as back:
            assert back.payloads(10) == [str(number).encode() for number in range(10)]
            back.assert_silence()


@pytest.mark.parametrize("persistent", [True, False])
def test_a_lost_member_leaves_qos_1_to_others(nodes: Nodes, name: str, persistent: bool) -> None:
    with (
        members(nodes, name, 2, persistent=persistent) as (lost, other),
        connected(nodes[0].port, f"{name}-publisher") as publisher,
    ):
        for number in range(6):
            publisher.publish(f"{name}/x", str(number).encode(), 1)
        assert len([lost.expect(Publish) for _ in range(3)]) == 3  # and no PUBACK
        lost.close()
        assert sorted(int(payload) for payload in other.payloads(6)) == list(range(6))
        other.assert_silence()


def test_qos_2_that_was_begun_is_ended_by_its_member(nodes: Nodes, name: str) -> None:
    with (
        members(nodes, name, 2, qos=2) as (lost, other),
        connected(nodes[0].port, f"{name}-publisher") as publisher,
    ):
        for number in range(4):
            publisher.publish(f"{name}/x", str(number).encode(), 2)
        first, second = lost.expect(Publish), lost.expect(Publish)
        lost.send(Pubrec(first.packet_id))
        assert lost.expect(Pubrel).packet_id == first.packet_id
        lost.close()
        other.payloads(2)
        other.assert_silence(0.2)
        with connected(nodes[1].port, f"{name}-0", clean_start=False, properties=HOUR) as back:
            assert back.expect(Pubrel).packet_id == first.packet_id
            again = back.message()
            assert (again.packet_id, again.payload, again.dup) == (second.packet_id, second.payload, True)
            back.assert_silence()
        other.assert_silence()


def test_qos_2_of_a_session_that_has_ended_is_given_to_nobody(nodes: Nodes, name: str) -> None:
    with (
        members(nodes, name, 2, qos=2, persistent=False) as (lost, other),
        connected(nodes[0].port, f"{name}-publisher") as publisher,
    ):
        for number in range(2):
            publisher.publish(f"{name}/x", str(number).encode(), 2)
        lost.expect(Publish)
        lost.close()
        other.payloads(1)
        publisher.publish(f"{name}/x", b"next", 2)
        assert other.payloads(1) == [b"next"]
        other.assert_silence(0.2)


def test_qos_2_for_a_session_without_the_subscription_goes_to_others(
    nodes: Nodes, name: str, redis_of_cluster: RedisServer
) -> None:
    """As in the moment of an UNSUBSCRIBE: the session has it no more, and the group does not know yet."""
    with (
        members(nodes, name, 2, qos=2) as (_, other),
        connected(nodes[0].port, f"{name}-publisher") as publisher,
        redis_of_cluster.client() as client,
    ):
        key = keys.session("mq:", keys.bucket_of(f"{name}-0"), f"{name}-0")
        assert client.hdel(key, f"f:$share/g/{name}/#") == 1
        for number in range(4):
            publisher.publish(f"{name}/x", str(number).encode(), 2)
        assert sorted(other.payloads(4)) == [b"0", b"1", b"2", b"3"]


def test_who_unsubscribes_is_no_member_any_more(nodes: Nodes, name: str) -> None:
    with (
        members(nodes, name, 2) as (leaving, staying),
        connected(nodes[0].port, f"{name}-publisher") as publisher,
    ):
        assert leaving.unsubscribe(f"$share/g/{name}/#", "$share/g/none").reason_codes == [0, 0x11]
        for number in range(4):
            publisher.publish(f"{name}/x", str(number).encode(), 1)
        assert len(staying.payloads(4)) == 4
        leaving.assert_silence()


def test_the_last_member_gone_nobody_matches(nodes: Nodes, name: str) -> None:
    with (
        members(nodes, name, 1) as (only,),
        connected(nodes[1].port, f"{name}-publisher") as publisher,
    ):
        only.unsubscribe(f"$share/g/{name}/#")
        assert publisher.publish(f"{name}/x", b"x", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS


def test_a_refused_message_goes_to_nobody_else(nodes: Nodes, name: str) -> None:
    """[MQTT-4.8.2-6]"""
    with (
        members(nodes, name, 2) as group,
        connected(nodes[0].port, f"{name}-publisher") as publisher,
    ):
        publisher.publish(f"{name}/x", b"x", 1)
        got = [client for client in group if isinstance(client.poll(0.3), Publish)]
        assert len(got) == 1
        got[0].send(Puback(1 if got[0].received else 65_534, 0x80))
        for client in group:
            client.assert_silence(0.2)


def test_who_has_room_gets_the_work(nodes: Nodes, name: str) -> None:
    narrow = Properties(session_expiry_interval=3600, receive_maximum=2)
    with (
        connected(nodes[0].port, f"{name}-slow", properties=narrow) as slow,
        connected(nodes[1].port, f"{name}-fast", properties=HOUR) as fast,
        connected(nodes[0].port, f"{name}-publisher") as publisher,
    ):
        for client in (slow, fast):
            client.subscribe(f"$share/g/{name}", qos=1)
        for number in range(20):
            publisher.publish(name, str(number).encode(), 1)
        held = [slow.expect(Publish) for _ in range(2)]
        assert len(fast.payloads(18)) == 18
        slow.send(*(Puback(each.packet_id) for each in held))
        slow.assert_silence()


def test_it_survives_a_takeover(nodes: Nodes, name: str) -> None:
    with (
        members(nodes, name, 1) as (first,),
        connected(nodes[0].port, f"{name}-publisher") as publisher,
    ):
        publisher.publish(f"{name}/x", b"one", 1)
        first.expect(Publish)
        with connected(nodes[1].port, f"{name}-0", clean_start=False, properties=HOUR) as second:
            assert second.payloads(1) == [b"one"]
            publisher.publish(f"{name}/x", b"two", 1)
            assert second.payloads(1) == [b"two"]
            second.assert_silence()


def test_subscribing_again_changes_the_options(nodes: Nodes, name: str) -> None:
    with (
        members(nodes, name, 1) as (member,),
        connected(nodes[0].port, f"{name}-publisher") as publisher,
    ):
        publisher.publish(f"{name}/x", b"one", 1)
        held = member.expect(Publish)
        assert member.subscribe(f"$share/g/{name}/#", qos=0).reason_codes == [0]
        member.assert_silence(0.1)
        member.send(Puback(held.packet_id))
        publisher.publish(f"{name}/x", b"two", 1)
        assert member.message().qos == 0


def test_qos_0_is_shared_too(nodes: Nodes, name: str) -> None:
    with (
        members(nodes, name, 4, qos=1) as group,
        connected(nodes[1].port, f"{name}-publisher") as publisher,
    ):
        for number in range(40):
            publisher.publish(f"{name}/x", str(number).encode())
        counts = Counter(len(each) for each in collect(group, 40))
        assert 0 not in counts
