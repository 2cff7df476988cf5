"""Messages that are added to a stream: in the Redis of the broker, and in another one that goes away."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import redis

from broker.mqtt import Properties
from tests.forwarding.conftest import forward, shown, wait_running, wait_until
from tests.node.harness import NodeProcess, refused_start, running_node
from tests.node.redis_server import RedisServer
from tests.node.wire import connected

PASSWORD = "of the other one"
Entries = list[tuple[bytes, dict[bytes, bytes]]]
COMMANDS = ["+xadd", "+client|setname"]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Another Redis than that of the broker."""
    server = RedisServer(tmp_path_factory.mktemp("other"))
    server.start()
    with server.client() as client:
        client.acl_setuser(
            "writer", enabled=True, passwords=[f"+{PASSWORD}"], keys=["out"], commands=COMMANDS
        )
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def node(other: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """With a forward to each."""
    directory = tmp_path_factory.mktemp("node")
    password = directory / "password"
    password.write_text(f"{PASSWORD}\n")
    environment = {
        **forward("own", kind="redis_stream", topics="own/#", stream="events", stream_length=0),
        **forward("other", kind="redis_stream", topics="other/#", stream="out", url=other.url),
        **forward(
            "other", username="writer", password_file=password, retry_seconds_maximum=0.5, stream_length=10
        ),
    }
    with running_node(directory, environment=environment) as node:
        wait_running(node, "own", "other")
        yield node


def _entries(client: redis.Redis, stream: str, count: int) -> list[dict[bytes, bytes]]:
    """Waits until there are so many."""
    deadline = time.monotonic() + 10.0
    while len(entries := cast(Entries, client.xrange(stream))) < count:
        assert time.monotonic() < deadline, entries
        time.sleep(0.01)
    return [fields for _, fields in entries]


def test_an_entry_has_all_of_a_message(node: NodeProcess) -> None:
    properties = Properties(user_property=(("event_id", "7"),), content_type="x/y", correlation_data=b"\xff")
    with connected(node.port, "publisher") as publisher, node.redis() as client:
        publisher.publish("own/x", b"\x00\xfe", 1, properties=properties)
        publisher.publish("own/y", b"plain", 0)
        first, second = _entries(client, "events", 2)
    assert first.pop(b"id").startswith(b"own-")
    assert json.loads(first.pop(b"user_properties")) == [["event_id", "7"]]
    assert first == {
        b"topic": b"own/x",
        b"payload": b"\x00\xfe",
        b"qos": b"1",
        b"retain": b"0",
        b"content_type": b"x/y",
        b"correlation_data": b"\xff",
    }
    assert second == {b"id": b"", b"topic": b"own/y", b"payload": b"plain", b"qos": b"0", b"retain": b"0"}


def test_what_comes_while_that_redis_is_away_is_added_in_order(node: NodeProcess, other: RedisServer) -> None:
    with connected(node.port, "publisher") as publisher:
        publisher.publish("other/x", b"before", 1)
        with other.client() as client:
            _entries(client, "out", 1)
        other.kill()
        for number in range(50):
            publisher.publish("other/x", b"%d" % number, 1)
        wait_until(node, "other", lambda status: status["state"] == "waiting" and status["waiting"] == 50)
        assert "Redis" in shown(node, "other")["last_error"]
        other.start()
        with other.client() as client:
            client.acl_setuser(
                "writer", enabled=True, passwords=[f"+{PASSWORD}"], keys=["out"], commands=COMMANDS
            )
            payloads = [fields[b"payload"] for fields in _entries(client, "out", 51)]
    assert payloads == [b"before", *[b"%d" % number for number in range(50)]]


def test_a_password_that_does_not_hold_loses_nothing(node: NodeProcess, other: RedisServer) -> None:
    with connected(node.port, "publisher") as publisher, other.client() as client:
        client.delete("out")
        client.acl_setuser("writer", enabled=False)
        client.client_kill_filter(user="writer")
        publisher.publish("other/x", b"late", 1)
        wait_until(node, "other", lambda status: status["state"] == "waiting")
        assert PASSWORD not in json.dumps(shown(node, "other"))
        client.acl_setuser("writer", enabled=True)
        assert _entries(client, "out", 1)[0][b"payload"] == b"late"


def test_a_start_without_the_files_is_refused(tmp_path: Path) -> None:
    """At once, and not when the first message comes."""
    environment = forward("it", kind="redis_stream", topics="t", stream="s", password_file=tmp_path / "none")
    code, said = refused_start(tmp_path / "node", environment=environment)
    assert code == 2
    assert "forwards.it.password_file" in said
