"""What a killed node leaves behind: the cluster notices after about five seconds and gives its sessions back;
their wills and expiry take their course."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import redis

from broker.mqtt import Properties, Publish, Will
from cluster.store import keys
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import running_redis
from tests.node.wire import HOUR, NEVER, WireClient, connected

PREFIX = "mq:"
REAPED = "sessions have been given back"
REAPED_SECONDS = 12.0
SOON_SECONDS = 1.0


def _will(topic: str, payload: bytes, delay: int = 0) -> Will:
    return Will(topic, payload, 1, False, Properties(will_delay_interval=delay) if delay else None)


def _session(expiry: int) -> Properties:
    return Properties(session_expiry_interval=expiry)


def _members(client: redis.Redis) -> list[str]:
    """Incarnations."""
    return [name.decode() for name in cast(list[bytes], client.zrange(keys.nodes(PREFIX), 0, -1))]


def _keys_of(client: redis.Redis, name: str) -> set[str]:
    """Kinds of keys that a client or an incarnation has."""
    found = cast(list[bytes], client.keys(f"*:{name}*"))
    kinds = {key.decode().partition("}:")[2].partition(":")[0] for key in found}
    return kinds - {"events"}  # what is told of a client has an end of its own


def _has_row(client: redis.Redis, client_id: str, filter: str) -> bool:
    """Whether nodes that start learn of this subscription."""
    rows = keys.subscriptions(PREFIX, keys.shard_of(client_id, filter))
    return bool(client.hexists(rows, f"{filter}\0{client_id}"))


def _wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


@contextlib.contextmanager
def _two_nodes(directory: Path, url: str) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """Of one cluster."""
    for name in ("first", "second"):
        (directory / name).mkdir()
    with (
        running_node(directory / "first", "--redis", url, "--node-name", "first") as first,
        running_node(directory / "second", "--redis", url, "--node-name", "second") as second,
    ):
        yield first, second


@pytest.mark.timeout(60)
def test_kill_and_restart(tmp_path: Path) -> None:
    """Wills at once and after their delay, sessions that end with their connection and others that expire."""
    endless = Properties(session_expiry_interval=NEVER)
    with running_node(tmp_path) as node:
        with (
            connected(node.port, "endless", will=_will("will/endless", b"endless"), properties=endless),
            connected(node.port, "delayed", will=_will("will/delayed", b"delayed", 2), properties=HOUR),
            connected(node.port, "direct", will=_will("will/direct", b"direct", 3000)) as direct,
            connected(node.port, "brief", properties=_session(3)) as brief,
        ):
            direct.subscribe("t/direct", qos=1)
            brief.subscribe("t/brief", qos=1)
            with node.redis() as client:
                (dead,) = _members(client)
            node.kill()
        node.start()
        with connected(node.port, "watcher") as watcher, node.redis() as client:
            watcher.subscribe("will/#", qos=1)
            watcher.timeout_seconds = REAPED_SECONDS
            assert sorted(watcher.payloads(2)) == [b"direct", b"endless"]
            reaped = time.monotonic()
            node.wait_for(REAPED)
            assert dead not in _members(client)
            assert _keys_of(client, dead) == {"gone"}
            assert _keys_of(client, "direct") <= {"will", "wills"}  # until it is known that the will was sent
            assert "s" in _keys_of(client, "brief")
            assert _has_row(client, "brief", "t/brief")
            assert watcher.message().payload == b"delayed"
            assert time.monotonic() - reaped > 1.5  # of 2, as the message may be late that tells us the start
            _wait_until(lambda: "s" not in _keys_of(client, "brief"))
            assert time.monotonic() - reaped > 2.5
            _wait_until(lambda: not _has_row(client, "brief", "t/brief"))
            watcher.assert_silence(SOON_SECONDS)
            assert _keys_of(client, "direct") == set()
            assert _keys_of(client, "endless") == _keys_of(client, "delayed") == {"s"}
        with WireClient(node.port) as again:
            assert again.connect("endless", clean_start=False, properties=HOUR).session_present
        with WireClient(node.port) as again:
            assert not again.connect("brief", clean_start=False, properties=HOUR).session_present


@pytest.mark.timeout(40)
@pytest.mark.parametrize("watching", [0, 3600], ids=["direct", "stored"])
def test_who_comes_back_before_the_reaping(tmp_path: Path, watching: int) -> None:
    """The claim decides the will: "offline" once, then "online"; and the session lives on."""
    with running_node(tmp_path) as node:
        with (
            connected(node.port, "phoenix", will=_will("status", b"offline"), properties=HOUR) as phoenix,
            connected(node.port, "patient", will=_will("status", b"too early", 30), properties=HOUR),
        ):
            phoenix.subscribe("t", qos=1)
            node.kill()
        node.start()
        with (
            connected(node.port, "watcher", properties=_session(watching)) as watcher,
            WireClient(node.port) as phoenix,
            WireClient(node.port) as patient,
        ):
            watcher.subscribe("status", qos=1)
            assert phoenix.connect("phoenix", clean_start=False, properties=HOUR).session_present
            assert patient.connect("patient", clean_start=False, properties=HOUR).session_present
            phoenix.publish("status", b"online", 1)
            assert watcher.payloads(2) == [b"offline", b"online"]
            node.wait_for(REAPED, REAPED_SECONDS)
            watcher.publish("t", b"still here", 1)
            assert phoenix.message().payload == b"still here"
            patient.ping()
            watcher.assert_silence(SOON_SECONDS)


@pytest.mark.timeout(40)
def test_a_node_that_stood_still_is_dead(tmp_path: Path) -> None:
    """Another node gives back its sessions. When it goes on it is refused, closes everything, and starts
    again as another incarnation at the same address."""
    with (
        running_redis(tmp_path / "redis") as server,
        _two_nodes(tmp_path, server.url) as (first, second),
        connected(second.port, "watcher") as watcher,
        connected(first.port, "c", will=_will("status", b"offline"), properties=HOUR) as lost,
        connected(first.port, "direct") as direct,
    ):
        watcher.subscribe("status", qos=1)
        lost.subscribe("t", qos=1)
        direct.subscribe("u", qos=1)
        with server.client() as client:
            old = next(name for name in _members(client) if name.startswith("first."))
        first.send_signal(signal.SIGSTOP)
        try:
            watcher.timeout_seconds = REAPED_SECONDS
            assert watcher.message().payload == b"offline"
            second.wait_for(REAPED)
            with server.client() as client:
                assert [name.partition(".")[0] for name in _members(client)] == ["second"]
            lost.send(Publish("u", b"too late", 0, False, False, 0, None))
        finally:
            first.send_signal(signal.SIGCONT)
        assert (
            lost.wait_closed() == direct.wait_closed() == []
        )  # nothing was delivered to a session that is lost
        first.wait_for("declared this node dead")
        first.wait_ready(200)
        with server.client() as client:
            assert sorted(name.partition(".")[0] for name in _members(client)) == ["first", "second"]
            assert old not in _members(client)
        with WireClient(first.port) as again:
            assert again.connect("c", clean_start=False, properties=HOUR).session_present
            watcher.publish("t", b"for c", 1)
            assert again.message().payload == b"for c"
        watcher.assert_silence(SOON_SECONDS)


@pytest.mark.timeout(40)
def test_an_outage_of_redis_kills_nobody(tmp_path: Path) -> None:
    """While Redis is away nothing ticks, however long."""
    with (
        running_redis(tmp_path / "redis") as server,
        _two_nodes(tmp_path, server.url) as (first, second),
    ):
        server.kill()
        time.sleep(7)  # more than five ticks take
        server.start()
        for node in (first, second):
            node.wait_ready(200)
        with server.client() as client:
            started = int(client.get(keys.tick(PREFIX)) or 0)
            _wait_until(lambda: int(client.get(keys.tick(PREFIX)) or 0) >= started + 2)
            assert len(_members(client)) == 2
        assert first.is_running()
        assert second.is_running()
        assert REAPED not in first.output() + second.output()
