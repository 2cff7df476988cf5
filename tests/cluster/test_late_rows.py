"""A node stands still between the two writes of a SUBSCRIBE; its client goes on elsewhere."""

import signal
from pathlib import Path
from typing import cast

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker
import pytest
import redis

from broker.mqtt import ReasonCode, Subscribe, SubscriptionRequest
from cluster.store import keys
from tests.cluster.conftest import running_nodes
from tests.cluster.proxy import Trap, running_proxy
from tests.node.crew import wait_until
from tests.node.harness import running_node
from tests.node.redis_server import running_redis
from tests.node.wire import HOUR, WireClient, connected

PREFIX = "mq:"


@pytest.mark.timeout(60)
def test_a_row_that_is_written_late(tmp_path: Path) -> None:
    """No node believes it, and whoever has written it deletes it."""
    with (
        running_redis(tmp_path / "redis") as server,
        running_proxy(server.port) as proxy,
        running_node(tmp_path, "--redis", proxy.url, "--node-name", "late") as late,
        running_nodes(tmp_path, server.url, 1) as (other,),
        connected(late.port, "c", properties=HOUR) as old,
        connected(other.port, "publisher") as publisher,
        server.client() as store,
    ):
        trap = Trap(1, late.freeze, after=True, operations=frozenset({"subscribe"}))
        proxy.trap = trap
        old.send(Subscribe(1, [SubscriptionRequest("left", 1, False, False, 0)], None))
        wait_until(trap.sprung.is_set)
        with WireClient(other.port) as new:
            assert new.connect("c", clean_start=False, properties=HOUR).session_present
            new.unsubscribe("left")
            new.subscribe("kept", qos=1)
            assert logged(store) == ["sub+ left", "sub- left", "sub+ kept"]
            late.send_signal(signal.SIGCONT)
            proxy.mend_soon()
            wait_until(lambda: logged(store)[3:4] == ["sub+ left"])
            assert publisher.publish("left", b"to nobody", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS
            publisher.publish("kept", b"to c", 1)
            assert new.message().payload == b"to c"
            new.assert_silence()
        wait_until(lambda: logged(store)[4:5] == ["sub- left"])


def logged(store: redis.Redis) -> list[str]:
    """Kind and filter of what the log says of subscriptions."""
    said = []
    entries = cast(list[tuple[bytes, dict[bytes, bytes]]], store.xrange(keys.change_log(PREFIX)))
    for _, fields in entries:
        changes = iter(msgpack.unpackb(fields[b"c"], raw=True))
        for kind, _, name, _, _ in zip(changes, changes, changes, changes, changes, strict=True):
            if kind.startswith(b"sub"):
                said.append(f"{kind.decode()} {name.decode()}")
    return said
