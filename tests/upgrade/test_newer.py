"""What nodes of a newer release may write while this one runs beside them: longer answers of a newer function
library, records with more in them or of unknown kinds. The rules are in docs/architecture.md."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import cast

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker
import pytest
import redis

from broker.mqtt import Will
from cluster.store import keys
from cluster.store.inbox_records import pack_kick
from cluster.store.library import LIBRARY_REVISION, library_source
from tests.cluster.conftest import running_nodes
from tests.node.harness import NodeProcess
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import HOUR, connected

PREFIX = "mq:"
MORE = "only a newer release knows this"
RECORDS = (
    *("claim", "detach", "subscribe", "unsubscribe", "enqueue", "raise_hi", "page", "replay"),
    *("retained_page", "due", "reap", "beat", "log_since"),
)
"""Operations whose answer is a record, which may grow at its end."""
_GROWN = """
for _, name in ipairs({%s}) do
  local known = operations[name]
  operations[name] = function(...)
    local answer = known(...)
    if type(answer) == "table" then
      answer[#answer + 1] = "%s"
    end
    return answer
  end
end
"""


def newer_library() -> str:
    """One that says more than we know. Its loop runs with the first call, as nothing else may."""
    grown = _GROWN % (", ".join(f'"{name}"' for name in RECORDS), MORE)
    source = library_source(LIBRARY_REVISION + 1)
    begin = "local function begin(keys, arguments)\n  call = redis.call\n"
    assert begin in source
    return source.replace(
        begin,
        f"local function grow()\n{grown}\nend\n{begin}  if grow then\n    grow()\n    grow = nil\n  end\n",
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """What all nodes share."""
    with running_redis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def node(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node that ran before any of this was written."""
    with running_nodes(tmp_path_factory.mktemp("nodes"), server.url, 1) as (running,):
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """Writes as a newer node does."""
    with server.client() as connection:
        yield connection


def assert_unharmed(node: NodeProcess) -> None:
    """Nothing has gone wrong there, by its own account."""
    assert node.is_running()
    assert not re.findall(r'^.*(?:Traceback|"level": ?"error").*$', node.output(), re.MULTILINE)


# A newer function library


def test_a_node_that_runs_and_one_that_starts_go_on_with_a_newer_library(
    server: RedisServer, node: NodeProcess, client: redis.Redis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    client.function_load(newer_library(), replace=True)
    try:
        _use_everything(node.port, node.port, "running")
        with running_nodes(tmp_path_factory.mktemp("more"), server.url, 1) as (started,):
            _use_everything(node.port, started.port, "up")
            _use_everything(started.port, node.port, "down")
            assert_unharmed(started)
        assert MORE in str(client.function_list(library="moorline_*", withcode=True))
    finally:
        client.function_load(library_source(), replace=True)
    assert_unharmed(node)


def _use_everything(first: int, second: int, name: str) -> None:
    """A session with all that it can have, which begins on the first node and goes on on the second."""
    will = Will(f"{name}/will", b"gone", 1, False)
    with connected(first, f"{name}-watcher", properties=HOUR) as watcher, ExitStack() as stack:
        watcher.subscribe(f"{name}/will", qos=1)
        watcher.publish(f"{name}/kept", b"retained", 1, retain=True)
        one = stack.enter_context(connected(first, name, properties=HOUR, will=will))
        one.subscribe(f"{name}/#", "other", qos=2)
        assert one.message().payload == b"retained"
        watcher.publish(f"{name}/a", b"1", 1)
        assert one.message().payload == b"1"
        one.close()
        assert watcher.message().payload == b"gone"
        for number in range(20):
            watcher.publish(f"{name}/a", b"%d" % number, 1 + number % 2)
        two = stack.enter_context(connected(second, name, clean_start=False, properties=HOUR))
        queued = [b"gone", *[b"%d" % number for number in range(20)]]
        assert two.payloads(21) == queued
        assert list(two.unsubscribe("other").reason_codes) == [0]
        watcher.publish(f"{name}/b", b"to the new one", 2)
        assert two.message().payload == b"to the new one"
        two.publish("elsewhere", b"", 2)
        two.disconnect()


# Records of newer nodes


def _pack(*fields: object) -> bytes:
    return cast(bytes, msgpack.packb(fields, use_bin_type=False))


def _incarnation(client: redis.Redis) -> str:
    (node,) = cast(list[bytes], client.zrange(keys.nodes(PREFIX), 0, -1))
    return node.decode()


def _skipped(node: NodeProcess, way: str) -> int:
    found = re.search(
        rf'^moorline_unknown_records_total{{way="{way}"}} (\S+)$', node.get("/metrics").text, re.M
    )
    assert found is not None
    return int(float(found.group(1)))


def _poll(condition: Callable[[], bool], node: NodeProcess) -> None:
    """The counters of a node follow once a second."""
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, node.output()
        time.sleep(0.05)


def _message(topic: str, payload: bytes, qos: int) -> list[object]:
    """As in `broker.routing.transit`, with an unknown flag and one field more."""
    return [topic, payload, b"", 0, qos | 0b1000 | 0b1000000, "somebody", b"", MORE]


def test_records_in_the_inbox(node: NodeProcess, client: redis.Redis) -> None:
    inbox = keys.inbox(PREFIX, _incarnation(client))
    before = _skipped(node, "inbox"), _skipped(node, "command")
    with connected(node.port, "direct") as direct, connected(node.port, "kicked", properties=HOUR) as kicked:
        direct.subscribe("newer/#", qos=1)
        for record in (
            _pack(1, 99, MORE),
            _pack(2, 1, [MORE]),
            _pack(1, 4, "dance", b"{}"),
            _pack(1, 4, "shed", json.dumps({"keep": 1000, "gently": True}).encode(), MORE),
            _pack(1, 2, [["newer/a", b"", b"", 0, MORE]], [["nobody", 1, [], MORE]], MORE),
            _pack(1, 3, "kicked", 1 << 40, MORE),
            _pack(1, 1, [_message("newer/a", b"direct", 1)], MORE),
        ):
            client.xadd(inbox, {"p": record})
        assert direct.message().payload == b"direct"
        assert kicked.wait_refused() == 0x8E
    _poll(lambda: _skipped(node, "inbox") == before[0] + 2, node)
    _poll(lambda: _skipped(node, "command") == before[1] + 1, node)
    assert pack_kick("c", 1) == _pack(1, 3, "c", 1)  # so much is what this release writes
    assert_unharmed(node)


def test_records_on_the_channels(node: NodeProcess, client: redis.Redis) -> None:
    channel = keys.messages_channel(PREFIX, _incarnation(client))
    with connected(node.port, "at-most-once") as subscriber:
        subscriber.subscribe("newer/#")
        client.publish(channel, _pack(1, 99, MORE))
        runs = ["somebody", 9, b"packets of another MQTT", "somebody", 0, _message("newer/b", b"channel", 0)]
        client.publish(channel, _pack(1, 5, runs, MORE))
        assert subscriber.message().payload == b"channel"
        assert _skipped(node, "channel") == 1

        # Another node says that it wants this; and something that we do not know.
        client.publish(keys.interest_channel(PREFIX), _pack("other", ["0:wanted", "x:what"], [], MORE))
        listener = client.pubsub()  # type: ignore[no-untyped-call]  # untyped there
        listener.subscribe(keys.messages_channel(PREFIX, "other"))
        assert listener.get_message(timeout=5.0) is not None  # that it listens
        _poll(lambda: _skipped(node, "interest") == 1, node)
        subscriber.publish("wanted", b"for the other one")
        told = listener.get_message(timeout=5.0)
        assert told is not None
        assert b"for the other one" in told["data"]
        listener.close()
    assert_unharmed(node)


def test_changes_of_subscriptions(node: NodeProcess, client: redis.Redis) -> None:
    before = _skipped(node, "change_log")
    term, _, number = cast(bytes, client.get(keys.version(PREFIX)) or b"1.0").decode().partition(".")
    changes = ["share+", "group", "filter", b"options", 1, "int+", "third", "logged", b"", 0]
    following = int(number) + 1
    client.xadd(keys.change_log(PREFIX), {"c": _pack(*changes), "more": MORE}, id=f"{term}-{following}")
    client.set(keys.version(PREFIX), f"{term}.{following}")
    with connected(node.port, "publisher") as publisher:
        assert publisher.publish("x", b"", 1) == 0x10
    _poll(lambda: _skipped(node, "change_log") == before + 1, node)
    assert_unharmed(node)


def test_what_is_kept_of_a_session_and_a_node(node: NodeProcess, client: redis.Redis) -> None:
    name, bucket = "kept", keys.bucket_of("kept")
    incarnation = _incarnation(client)
    with connected(node.port, name, properties=HOUR) as first:
        first.subscribe("kept/#", qos=1)
        client.hset(keys.session(PREFIX, bucket, name), mapping={"mood": "good", "x:a": MORE})
        client.sadd(keys.bell(PREFIX, bucket, incarnation), "x:what", f"s:{name}")
        client.zadd(keys.due(PREFIX, bucket), {"x:what": 1})
        client.hset(keys.info(PREFIX), incarnation, json.dumps({"name": "n", "mood": "good"}))
        with connected(node.port, "publisher") as publisher:
            publisher.publish("kept/a", b"1", 1)
            assert first.message().payload == b"1"
            first.disconnect()
            publisher.publish("kept/a", b"2", 1)
    _poll(lambda: not client.exists(keys.bell(PREFIX, bucket, incarnation)), node)
    with connected(node.port, name, clean_start=False, properties=HOUR) as again:
        assert again.message().payload == b"2"
    assert client.hget(keys.session(PREFIX, bucket, name), "mood") == b"good"
    assert node.get("/api/v1/nodes").status == 200
    assert_unharmed(node)
