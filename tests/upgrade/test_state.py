"""This release serves what each schema version has left in Redis: see `write_state`."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from broker.auth.user import Allowed, ScramKeys
from broker.mqtt import MQTT_5, Puback, Pubcomp, Publish, Pubrec, Pubrel, ReasonCode
from cluster.store import keys, users
from cluster.store.library import SCHEMA_VERSION
from tests.cluster.conftest import running_nodes
from tests.node.redis_server import running_redis
from tests.node.wire import HOUR, WireClient, connected
from tests.store.caller import Caller
from tests.upgrade.dump import dump, restore
from tests.upgrade.write_state import PREFIX, STATE, shown

VERSIONS = range(1, SCHEMA_VERSION + 1)
REAPED_SECONDS = 15.0
Expected = dict[str, Any]  # JSON

MOMENTARY = {
    *("slot", "tombstone", "ended", "messages_channel", "interest_channel", "turn", "sessions"),
    *("bans_channel", "rights", "answers", "events", "session_index", "session_chunk"),
    *("tap", "trace", "alarms", "primary", "fence", "aside", "migration"),
}
"""Keys that no state needs to hold, for a call that is sent again, or a node that is dead; whose turn it is;
channels; what a node tries at its start; what somebody follows live, or is told of again and again; what is
counted and listed from the next claims on; which server it is; what is confirmed there; an import or a
migration that is under way."""


def _load(name: str) -> Any:
    return json.loads((STATE / name).read_text())


def test_each_schema_version_has_its_state() -> None:
    """A new version needs another: `python -m tests.upgrade.write_state`."""
    wanted = {f"schema-{version}{ending}" for version in VERSIONS for ending in (".json", ".expected.json")}
    assert {path.name for path in STATE.iterdir()} == wanted


def test_the_state_has_keys_of_each_kind() -> None:
    """That of the present version; so a kind of key that is added must be written, too."""
    stand_ins: dict[str, object] = {
        "prefix": PREFIX,
        "bucket": "B",
        "client_id": "N",
        "incarnation": "N",
        "epoch": "1",
        "name": "N",
        "shard": "1",
        "token": b"N",
    }
    written = [entry["key"] for entry in _load(f"schema-{SCHEMA_VERSION}.json")]
    for name, function in vars(keys).items():
        code = getattr(function, "__code__", None)
        if code is None or name in MOMENTARY or "prefix" not in code.co_varnames[: code.co_argcount]:
            continue
        key = function(*(stand_ins[each] for each in code.co_varnames[: code.co_argcount]))
        pattern = re.escape(key.decode() if isinstance(key, bytes) else key)
        pattern = pattern.replace("B", r"\d+").replace("N", r".+").replace("1", r"\d+")
        assert any(re.fullmatch(pattern, each, re.DOTALL) for each in written), f"{name}: {pattern}"


def test_what_is_restored_is_what_was_dumped(tmp_path: Path) -> None:
    entries = [entry for entry in _load("schema-1.json") if "ttl_ms" not in entry]
    with running_redis(tmp_path / "redis") as server, server.client() as client:
        restore(client, entries)
        assert dump(client, PREFIX) == entries


# What this release makes of it


@dataclass(frozen=True)
class Served:
    """A node of this release on the restored state."""

    port: int
    redis: redis.Redis
    expected: Expected


@pytest.fixture(scope="module", params=VERSIONS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Of each version."""
    directory = tmp_path_factory.mktemp("state")
    with running_redis(directory / "redis") as server, server.client() as client:
        restore(client, _load(f"schema-{request.param}.json"))
        with running_nodes(directory, server.url, 1) as (node,):
            yield Served(node.port, client, _load(f"schema-{request.param}.expected.json"))


@pytest.mark.timeout(60)
def test_it_is_served(served: Served) -> None:
    """In this order: what a session publishes again is for others."""
    waiting: dict[str, Expected] = dict(served.expected["sessions"])
    done = {""}
    while waiting:
        name = next(name for name, session in waiting.items() if session["after"] in done)
        _resume(served, name, waiting.pop(name))
        done.add(name)
    _check_retained(served)
    _check_wills(served)
    _check_the_rest(served)
    _check_users(served)


def _resume(served: Served, name: str, expected: Expected) -> None:
    """A session goes on with just what is expected."""
    version: int = expected["version"]
    properties = HOUR if version == MQTT_5 else None
    with WireClient(served.port, version) as client, connected(served.port, "now") as publisher:
        assert client.connect(name, clean_start=False, properties=properties).session_present, name
        for packet_id in expected["released"]:
            assert client.expect(Pubrel).packet_id == packet_id, name
            client.send(Pubcomp(packet_id))
        for wanted in expected["messages"]:
            got = shown(client.message())
            assert wanted in (got, f"* {got.partition(' ')[2]}"), name
        client.assert_silence(0.1)
        for packet_id, (topic, payload) in expected["publishes"].items():
            client.send(Publish(topic, payload.encode(), 2, False, True, int(packet_id), None))
            assert client.expect(Pubrec) == Pubrec(int(packet_id)), name
            client.send(Pubrel(int(packet_id)))
            assert client.expect(Pubcomp) == Pubcomp(int(packet_id)), name
        for topic, qos in expected["subscribed"].items():
            publisher.publish(topic, b"new", 2)
            message = client.message()
            assert (message.topic, message.payload, message.qos, message.dup) == (topic, b"new", qos, False)
        client.assert_silence(0.1)
        client.disconnect()


def _check_retained(served: Served) -> None:
    with connected(served.port, "looks") as client:
        client.subscribe("state/retained/#", qos=0)
        wanted: dict[str, str] = served.expected["retained"]
        messages = [client.expect(Publish) for _ in wanted]
        assert {message.topic: message.payload.decode() for message in messages} == wanted
        assert all(message.retain for message in messages)
        client.assert_silence(0.1)


def _check_wills(served: Served) -> None:
    """Each once, also that of who was connected to a node which is dead now."""
    wanted: dict[str, str] = served.expected["wills"]
    with connected(served.port, "watcher", clean_start=False, properties=HOUR) as watcher:
        got = [_message_within(watcher, REAPED_SECONDS) for _ in wanted]
        assert {message.topic: message.payload.decode() for message in got} == wanted
        watcher.assert_silence(0.3)


def _message_within(client: WireClient, seconds: float) -> Publish:
    publish = client.poll(seconds)
    assert isinstance(publish, Publish)
    client.send(Puback(publish.packet_id))
    return publish


def _check_the_rest(served: Served) -> None:
    """What was of dead nodes is gone; what has expired is no session; dead letters are kept."""
    client = served.redis
    _until(lambda: client.zcard(keys.nodes(PREFIX)) == 1)
    (node,) = cast(list[bytes], client.zrange(keys.nodes(PREFIX), 0, -1))
    for pattern in ("*:inbox", "*:interest:*", "*}:n:*", "*}:bell:*"):
        left = [key.decode() for key in client.scan_iter(PREFIX + pattern)]
        assert all(node.decode() in key for key in left), left
    for name in served.expected["expired"]:
        with WireClient(served.port) as again:
            assert not again.connect(name, clean_start=False).session_present
    for client_id, topic, reason in served.expected["letters"]:
        stream = client.xrange(keys.letters(PREFIX, keys.bucket_of(client_id)))
        fields = {b"client": client_id.encode(), b"topic": topic.encode(), b"reason": reason.encode()}
        assert fields in [found for _, found in cast(list[tuple[bytes, dict[bytes, bytes]]], stream)]
    assert not client.exists(keys.session(PREFIX, keys.bucket_of("direct"), "direct"))
    for name in served.expected["banned"]:
        with WireClient(served.port) as refused:
            assert refused.connect(name).reason_code == ReasonCode.BANNED, name


def _check_users(served: Served) -> None:
    """With all that they have, as they were; and who has changed since one of them."""
    caller = Caller(served.redis, PREFIX)
    page, _ = users.parse_page(caller.ask(users.users_page(None, 10)))
    assert [user.name for user in page] == served.expected["users"]
    ann, bob = page
    assert ann.user.groups == {"g", "h"}
    assert ann.user.allowed == Allowed(("a/%u",), ("b/#",))
    assert ann.user.scram == ScramKeys(4096, b"salt\xff", b"stored\xff", b"server\xff")
    assert (bob.user.is_enabled, bob.version, bob.credentials_version) == (False, 3, 2)
    changes = users.parse_changes(caller.ask(users.follow_users(bob.version, 10)))
    assert changes == users.Changes(5, ["gone", "gone"], True)
    assert caller.ask(users.users_secret(b"another")) == b"secret\xff"
    assert users.parse_rules(caller.ask(users.read_rules(-1))) == (1, served.expected["rules"])


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + REAPED_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the dead nodes are not reaped"
        time.sleep(0.05)
