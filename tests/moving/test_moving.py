"""A client that was disconnected goes on at another broker as if nothing had been: its subscriptions, what
waits, and both ways of QoS 2 in the middle of each handshake."""

import time
from pathlib import Path

from broker.mqtt import Properties, Puback, Pubcomp, Publish, Pubrec, Pubrel
from cluster.store import keys
from tests.moving.brokers import Broker
from tests.node.wire import HOUR, WireClient, connected


def moved(source: Broker, target: Broker, file: Path, prefix: str) -> None:
    """The sessions that begin so, when their node knows that the connections are closed."""
    deadline = time.monotonic() + 5.0
    while any(each.get("connected") for each in source.export(file, "--sessions", prefix, "--no-retained")):
        assert time.monotonic() < deadline
    told = target.import_(file)
    assert told["problems"] == 0
    assert told["sessions"]["made"] > 0


def returned(target: Broker, client_id: str) -> WireClient:
    """Over its first connection there."""
    client = WireClient(target.port)
    connack = client.connect(client_id, clean_start=False, properties=HOUR)
    assert connack.session_present
    return client


def test_what_waits_comes_in_its_order(source: Broker, target: Broker, tmp_path: Path) -> None:
    with connected(source.port, "wait-a", properties=HOUR) as client:
        client.subscribe("wait/#", qos=1)
        client.disconnect()
    with connected(source.port, "wait-publisher") as publisher:
        for number in range(300):
            publisher.publish(f"wait/{number % 3}", b"%d" % number + bytes(200), qos=1)
    moved(source, target, tmp_path / "file", "wait-a")
    with returned(target, "wait-a") as client:
        messages = [client.message() for _ in range(300)]
        assert [int(each.payload[:-200]) for each in messages] == list(range(300))
        assert not any(each.dup for each in messages)
        # Its subscription counts, too, on every node.
        for node in target.nodes:
            with connected(node.port, "wait-other") as publisher:
                publisher.publish("wait/new", b"new", qos=1)
            assert client.message().payload == b"new"


def test_a_subscription_counts_before_its_client_comes(
    source: Broker, target: Broker, tmp_path: Path
) -> None:
    with connected(source.port, "early-a", properties=HOUR) as client:
        client.subscribe("early/+", "$share/group/early/+", qos=2)
        client.disconnect()
    moved(source, target, tmp_path / "file", "early-a")
    for node in target.nodes:
        with connected(node.port, "early-publisher") as publisher:
            publisher.publish("early/x", b"1", qos=2)
    with returned(target, "early-a") as client:
        assert client.payloads(4) == [b"1"] * 4  # by itself, and of its group


def test_outbound_handshakes_go_on(source: Broker, target: Broker, tmp_path: Path) -> None:
    """Nothing sent, PUBREC not sent, PUBREL not sent, PUBCOMP not sent: four messages, each in one of
    these."""
    with connected(
        source.port, "out-a", properties=Properties(session_expiry_interval=3600, receive_maximum=3)
    ) as client:
        client.subscribe("out/#", qos=2)
        with connected(source.port, "out-publisher") as publisher:
            for payload in (b"0", b"1", b"2", b"3"):
                publisher.publish("out/x", payload, qos=2)
        zero, one, two = (client.expect(Publish) for _ in range(3))
        client.send(Pubrec(zero.packet_id))
        assert client.expect(Pubrel).packet_id == zero.packet_id
        client.send(Pubrec(one.packet_id))
        assert client.expect(Pubrel).packet_id == one.packet_id
        client.close()  # it has PUBREL for two, of which it has answered none; the third it has, unanswered
    moved(source, target, tmp_path / "file", "out-a")
    with returned(target, "out-a") as client:
        assert [client.expect(Pubrel).packet_id for _ in range(2)] == [zero.packet_id, one.packet_id]
        again = client.expect(Publish)
        assert (again.payload, again.packet_id, again.dup) == (b"2", two.packet_id, True)
        last = client.expect(Publish)
        assert (last.payload, last.packet_id) == (b"3", two.packet_id + 1)
        for packet in (zero, one):
            client.send(Pubcomp(packet.packet_id))
        for packet in (again, last):
            client.send(Pubrec(packet.packet_id))
            assert client.expect(Pubrel).packet_id == packet.packet_id
            client.send(Pubcomp(packet.packet_id))
        client.assert_silence()


def test_inbound_handshakes_go_on(source: Broker, target: Broker, tmp_path: Path) -> None:
    """Who has sent PUBLISH and not PUBREL sends either, to the other broker: it is delivered once."""
    with connected(source.port, "in-subscriber", properties=HOUR) as subscriber:
        subscriber.subscribe("in/#", qos=2)
        subscriber.disconnect()
    with connected(source.port, "in-a", properties=HOUR) as client:
        for packet_id in (1, 2):
            client.send(Publish("in/x", b"%d" % packet_id, 2, False, False, packet_id, None))
            assert client.expect(Pubrec).packet_id == packet_id
        client.close()
    moved(source, target, tmp_path / "file", "in-")
    with returned(target, "in-a") as client:
        client.send(Publish("in/x", b"1", 2, False, True, 1, None))  # PUBREC was lost, it thinks
        assert client.expect(Pubrec) == Pubrec(1)
        for packet_id in (1, 2):
            client.send(Pubrel(packet_id))
            assert client.expect(Pubcomp) == Pubcomp(packet_id)
        client.send(Publish("in/x", b"3", 2, False, False, 1, None))  # another message
        assert client.expect(Pubrec) == Pubrec(1)
    with returned(target, "in-subscriber") as subscriber:
        assert subscriber.payloads(3) == [b"1", b"2", b"3"]
        subscriber.assert_silence()


def test_qos_1_goes_on_with_dup(source: Broker, target: Broker, tmp_path: Path) -> None:
    with connected(
        source.port, "dup-a", properties=Properties(session_expiry_interval=3600, receive_maximum=2)
    ) as client:
        client.subscribe("dup/#", qos=1)
        with connected(source.port, "dup-publisher") as publisher:
            for payload in (b"0", b"1", b"2"):
                publisher.publish("dup/x", payload, qos=1)
        first, second = client.expect(Publish), client.expect(Publish)
        client.send(Puback(first.packet_id))
        assert client.expect(Publish).payload == b"2"
        client.close()
    moved(source, target, tmp_path / "file", "dup-a")
    with returned(target, "dup-a") as client:
        again, last = client.message(), client.message()
        assert (again.payload, again.packet_id, again.dup) == (b"1", second.packet_id, True)
        assert (last.payload, last.dup) == (b"2", True)
        client.assert_silence()


def test_a_message_that_only_some_have_is_for_the_others(
    source: Broker, target: Broker, tmp_path: Path
) -> None:
    """Its node was killed while it was routed: what its publisher sends again goes to who has not had it."""
    for client_id in ("part-has", "part-has-not"):
        with connected(source.port, client_id, properties=HOUR) as client:
            client.subscribe("part/x", qos=2)
            client.disconnect()
    with connected(source.port, "part-publisher", properties=HOUR) as client:
        client.publish("part/x", b"1", qos=2)
        client.disconnect()
    with source.redis() as redis:
        bucket = keys.bucket_of("part-publisher")
        redis.hset(keys.receiving(source.prefix, bucket, "part-publisher"), "9", "01:token")
        bucket = keys.bucket_of("part-has")
        redis.sadd(keys.once(source.prefix, bucket, b"token"), "s:part-has")
    moved(source, target, tmp_path / "file", "part-")
    with returned(target, "part-publisher") as client:
        client.send(Publish("part/x", b"2", 2, False, True, 9, None))
        assert client.expect(Pubrec).packet_id == 9
    for client_id, payloads in (("part-has", [b"1"]), ("part-has-not", [b"1", b"2"])):
        with returned(target, client_id) as client:
            assert client.payloads(len(payloads)) == payloads
            client.assert_silence()
