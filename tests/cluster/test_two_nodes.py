"""What two nodes do when one of them is behind, stuck, or fought over."""

import signal
import time
from pathlib import Path

import pytest

from broker.mqtt import Connack, Disconnect, Properties, Puback, Publish, ReasonCode
from cluster.pulse import GAP_SECONDS
from cluster.store import keys
from tests.cluster.conftest import running_nodes
from tests.node.redis_server import running_redis
from tests.node.wire import HOUR, WireClient, connected

PREFIX = "mq:"
FROZEN_SECONDS = 1.5  # less than it takes to be dead to the others


@pytest.mark.timeout(60)
def test_a_node_that_fell_behind_the_log_loads_everything(tmp_path: Path) -> None:
    """The log was trimmed while it stood still: no subscription is missed all the same."""
    with (
        running_redis(tmp_path / "redis") as server,
        running_nodes(tmp_path, server.url, 2) as (behind, other),
        connected(other.port, "direct") as direct,
        connected(other.port, "queued", properties=HOUR) as queued,
        connected(behind.port, "publisher") as publisher,
        server.client() as client,
    ):
        queued.subscribe("old", qos=1)
        publisher.publish("old", b"before", 1)
        assert queued.message().payload == b"before"
        behind.freeze()
        direct.subscribe("new/+", qos=1)
        queued.subscribe("new/#", qos=2)
        queued.unsubscribe("old")
        client.xtrim(keys.change_log(PREFIX), maxlen=0)
        time.sleep(FROZEN_SECONDS)
        behind.send_signal(signal.SIGCONT)
        assert publisher.publish("new/x", b"after", 1) == 0
        assert publisher.publish("old", b"to nobody", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS
        for subscriber in (direct, queued):
            assert subscriber.message().payload == b"after"
            subscriber.assert_silence()
        behind.wait_for("does not reach back to ours")


@pytest.mark.timeout(60)
def test_a_session_is_taken_from_a_node_that_stands_still(tmp_path: Path) -> None:
    """At once; what the old node has in hand when it goes on counts for nothing, and its connection is
    told."""
    with (
        running_redis(tmp_path / "redis") as server,
        running_nodes(tmp_path, server.url, 2) as (stuck, other),
        connected(other.port, "watcher", properties=HOUR) as watcher,
        connected(other.port, "publisher") as publisher,
        connected(stuck.port, "c", properties=HOUR) as old,
    ):
        watcher.subscribe("t", qos=2)
        old.subscribe("for/c", qos=2)
        stuck.freeze()
        old.send(
            Publish("t", b"old", 1, False, False, 1, None), Publish("t", b"old", 2, False, False, 2, None)
        )
        with WireClient(other.port) as new:
            started = time.monotonic()
            assert new.connect("c", clean_start=False, properties=HOUR).session_present
            assert time.monotonic() - started < FROZEN_SECONDS
            new.publish("t", b"new", 1)
            publisher.publish("for/c", b"for c", 2)
            assert new.message().payload == b"for c"
            time.sleep(2 * GAP_SECONDS)  # of a shorter one nobody takes notice
            stuck.send_signal(signal.SIGCONT)
            packets = old.wait_closed()
            assert [type(packet) for packet in packets] == [Disconnect], packets
            assert packets[0] == Disconnect(
                ReasonCode.SESSION_TAKEN_OVER,
                Properties(reason_string="another connection uses this Client Identifier"),
            )
            assert watcher.message().payload == b"new"
            watcher.assert_silence(0.5)


@pytest.mark.timeout(60)
def test_devices_that_fight_for_one_identifier_are_slowed_down(tmp_path: Path) -> None:
    """Over two nodes. Whoever has the session keeps it while the other one waits."""
    limit = 3
    environment = {"MOORLINE_SESSION__TAKEOVERS_PER_MINUTE": str(limit)}
    with (
        running_redis(tmp_path / "redis") as server,
        running_nodes(tmp_path, server.url, 2, environment) as (first, second),
    ):
        opened = []
        for number in range(2 * limit + 2):  # each node sees half of it
            node = (first, second)[number % 2]
            client = WireClient(node.port)
            opened.append(client)
            client.timeout_seconds = 15
            assert client.connect("c", clean_start=False, properties=HOUR).reason_code == 0
        holder = opened[-1]
        with WireClient(first.port) as late:
            late.timeout_seconds = 15
            started = time.monotonic()
            assert late.connect("other").reason_code == 0  # nobody else waits
            with WireClient(first.port) as fighter:
                fighter.timeout_seconds = 15
                fighter.connect_only("c", clean_start=False, properties=HOUR)
                holder.send(Publish("t", b"", 1, False, False, 1, None))
                assert isinstance(holder.next(), Puback)
                assert isinstance(fighter.next(), Connack)
                assert time.monotonic() - started > 0.9
                first.wait_for("fight for one Client Identifier")
        for client in opened:
            client.close()
