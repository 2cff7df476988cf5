"""Operators look at clients, sessions, subscriptions and what waits, of two nodes, by way of either."""

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest

from broker.admin.clients import ConnectedClient, ShownSession
from broker.mqtt import (
    MQTT_3_1_1,
    Connack,
    Connect,
    Disconnect,
    Properties,
    ReasonCode,
    Will,
)
from cluster.store import keys
from tests.node.harness import NodeProcess
from tests.node.redis_server import RedisServer
from tests.node.wire import HOUR, WireClient, connected
from tests.tools import NO_TLS

Nodes = tuple[NodeProcess, NodeProcess]
Json = dict[str, Any]

_SECONDS = 5.0
_http = httpx.Client(timeout=_SECONDS, trust_env=False, verify=NO_TLS)


def ask(asked: NodeProcess, path: str, method: str = "GET", status: int = 200, **query: Any) -> Json:
    headers = {"Content-Type": "application/json"} if method != "GET" else {}
    url = f"http://127.0.0.1:{asked.admin_port}/api/v1{path}"
    answer = _http.request(
        method, url, params={name: str(value) for name, value in query.items()}, headers=headers
    )
    assert answer.status_code == status, answer.text
    return cast(Json, answer.json())


def pages(node: NodeProcess, noun: str, limit: int, **query: Any) -> list[Json]:
    """All of them."""
    found: list[Json] = []
    after: Json = {}
    while True:
        page = ask(node, f"/{noun}", limit=limit, **query, **after)
        assert len(page[noun]) <= limit
        assert page.get("silent", []) == []
        found += page[noun]
        if page["next"] is None:
            return found
        after = {"after": page["next"]}


def ids(items: list[Json]) -> list[str]:
    return [item["client_id"] for item in items]


@pytest.fixture(scope="module")
def clients(nodes: Nodes) -> Iterator[dict[str, WireClient]]:
    """Seven on each node; those with even numbers have persistent sessions."""
    with contextlib.ExitStack() as stack:
        found = {}
        for number in range(14):
            name = f"crowd-{number:02}"
            properties = HOUR if number % 2 == 0 else None
            client = WireClient(nodes[number % 7 % 2].port)
            found[name] = stack.enter_context(client)
            client.connect(name, properties=properties)
            client.subscribe(f"crowd/{number:02}/+")
        yield found


def test_clients_of_all_nodes_are_listed_in_order(nodes: Nodes, clients: dict[str, WireClient]) -> None:
    for node in nodes:
        for limit in (1, 4, 500):
            found = pages(node, "clients", limit, search="crowd-")
            assert ids(found) == sorted(clients)
    assert {item["node"] for item in found} == {"node-1", "node-2"}
    first, second = found[:2]
    assert first | {"connected_at": "", "epoch": 0} == {
        "client_id": "crowd-00",
        "username": None,
        "address": "127.0.0.1",
        "listener": first["listener"],
        "connected_at": "",
        "protocol": "5.0",
        "keep_alive_seconds": 0,
        "persistent": True,
        "epoch": 0,
        "subscriptions": 1,
        "in_flight": 0,
        "window": first["window"],
        "waiting": 0,
        "state": "ok",
        "node": "node-1",
    }
    assert first["connected_at"].endswith("Z")
    assert not second["persistent"]


def test_clients_are_found_by_what_they_are(nodes: Nodes, clients: dict[str, WireClient]) -> None:
    first, second = nodes
    assert ids(pages(first, "clients", 500, search="crowd-1")) == [f"crowd-1{number}" for number in range(4)]
    with WireClient(second.port, MQTT_3_1_1) as client:
        client.send(Connect("by-user", MQTT_3_1_1, True, 0, "ann", b"secret", None, None))
        client.expect(Connack)
        assert ids(pages(first, "clients", 5, by="user", search="ann")) == ["by-user"]
        assert pages(first, "clients", 5, by="user", search="an") == []
        (found,) = pages(first, "clients", 5, search="by-user")
        assert (found["protocol"], found["username"], found["node"]) == ("3.1.1", "ann", "node-2")
        assert "by-user" in ids(pages(first, "clients", 500, by="address", search="127.0.0.1"))
        assert "by-user" in ids(pages(first, "clients", 500, by="address", search="127.0.0.0/8"))
        assert pages(first, "clients", 500, by="address", search="10.0.0.0/8") == []
        own = ask(first, "/clients", node="node-2", search="crowd-")
        assert {item["node"] for item in own["clients"]} == {"node-2"}
        assert len(own["clients"]) == 6
    ask(first, "/clients", status=404, node="nowhere")
    ask(first, "/clients", status=422, by="colour")
    ask(first, "/clients", status=422, limit=501)
    refused = ask(first, "/clients", by="address", search="300.0.0.0/8")
    assert refused["silent"] == ["node-1", "node-2"]
    assert "is no network" in refused["reasons"]["node-1"]


def test_a_client_is_shown_and_disconnected_by_way_of_any_node(nodes: Nodes) -> None:
    name = "odd/name {}% ü?"
    with WireClient(nodes[1].port) as client:
        client.connect(name, properties=HOUR)
        path = f"/clients/{quote(name, safe='')}"
        for node in nodes:
            shown = ask(node, path)
            assert (shown["client_id"], shown["node"]) == (name, "node-2")
            assert set(shown) == set(ConnectedClient.model_fields)
        assert ask(nodes[0], path, "DELETE") == {"client_id": name, "node": "node-2"}
        last = client.wait_closed()[-1]
        assert isinstance(last, Disconnect)
        assert last.reason_code == ReasonCode.ADMINISTRATIVE_ACTION
    assert ask(nodes[0], path, status=404) == {"error": f"no client {name} is connected"}
    ask(nodes[0], path, "DELETE", status=404)
    assert ask(nodes[0], f"/sessions/{quote(name, safe='')}")["state"] == "away"


def test_an_id_with_a_line_break_is_no_part_of_a_path(nodes: Nodes) -> None:
    with connected(nodes[0].port, "two\nlines", properties=HOUR):
        assert ask(nodes[1], "/clients/", client_id="two\nlines")["node"] == "node-1"
        assert ask(nodes[1], "/sessions/", client_id="two\nlines")["state"] == "connected"
        ask(nodes[1], "/sessions/", "DELETE", client_id="two\nlines")
    ask(nodes[1], "/sessions/", status=404, client_id="two\nlines")


def test_sessions_of_the_cluster_in_order(nodes: Nodes, clients: dict[str, WireClient]) -> None:
    with WireClient(nodes[0].port) as client:
        client.connect("crowd-99", properties=HOUR)
        client.disconnect()
    persistent = [*(f"crowd-{number:02}" for number in range(0, 14, 2)), "crowd-99"]
    for node in nodes:
        for limit in (3, 500):
            found = pages(node, "sessions", limit, prefix="crowd-")
            assert ids(found) == persistent
    assert ids(pages(nodes[0], "sessions", 2, prefix="crowd-", state="away")) == ["crowd-99"]
    assert ids(pages(nodes[0], "sessions", 2, prefix="crowd-", state="connected")) == persistent[:-1]
    ask(nodes[0], "/sessions", status=422, state="lost")
    assert {frozenset(session) for session in found} == {frozenset(ShownSession.model_fields)}
    first, last = found[0], found[-1]
    assert (first["node"], first["subscriptions"], first["protocol"]) == ("node-1", 1, "5.0")
    assert (last["node"], last["protocol"], last["expiry_seconds"]) == (None, None, 3600)
    assert last["expires_at"] > first["expires_at"] if first["expires_at"] else last["expires_at"]


def test_what_waits_in_a_queue_is_shown(nodes: Nodes) -> None:
    with WireClient(nodes[0].port) as client:
        client.connect("sleeper", properties=HOUR)
        client.subscribe("sleeper/#", qos=2)
        client.disconnect()
    with connected(nodes[1].port, "sender") as sender:
        for number in range(5):
            properties = Properties(message_expiry_interval=60) if number == 4 else None
            sender.publish(f"sleeper/{number}", b"x" * number, number % 2 + 1, properties=properties)
    session = ask(nodes[1], "/sessions/sleeper")
    assert (session["queued"], session["last_number"], session["state"]) == (5, 5, "away")
    assert session["queued_bytes"] > 0
    head = ask(nodes[0], "/queue", client_id="sleeper", limit=3)
    assert [(entry["n"], entry["topic"], entry["qos"], entry["bytes"]) for entry in head["queue"]] == [
        (1, "sleeper/0", 1, 0),
        (2, "sleeper/1", 2, 1),
        (3, "sleeper/2", 1, 2),
    ]
    rest = ask(nodes[0], "/queue", client_id="sleeper", limit=3, after=head["next"])
    assert [entry["n"] for entry in rest["queue"]] == [4, 5]
    assert rest["next"] is None
    assert rest["queue"][1]["expires_at"]
    from_tail: Json = {"client_id": "sleeper", "from": "tail", "limit": 2}
    tail = ask(nodes[0], "/queue", **from_tail)
    assert [entry["n"] for entry in tail["queue"]] == [5, 4]
    ask(nodes[0], "/queue", status=404, client_id="nobody")
    ask(nodes[0], "/queue", status=422)
    ask(nodes[0], "/queue", status=422, client_id="sleeper", after="x")


def test_a_session_that_is_away_is_deleted(nodes: Nodes, redis_of_cluster: RedisServer) -> None:
    with connected(nodes[0].port, "gone", clean_start=True, properties=HOUR) as client:
        client.subscribe("gone/+")
    _until(lambda: ask(nodes[1], "/sessions/gone")["state"] == "away")
    with connected(nodes[1].port, "to-gone") as sender:
        sender.publish("gone/1", b"", 1)
    assert ask(nodes[1], "/sessions/gone", "DELETE") == {"client_id": "gone"}
    ask(nodes[0], "/sessions/gone", status=404)
    ask(nodes[0], "/sessions/gone", "DELETE", status=404)
    assert ids(pages(nodes[0], "sessions", 500, prefix="gone")) == []
    with redis_of_cluster.client() as client:
        _until(lambda: not any(b"gone/" in row for row in _rows(client)))
        assert not client.exists(keys.queue("mq:", keys.bucket_of("gone"), "gone"))
    with WireClient(nodes[0].port) as again:
        assert not again.connect("gone", clean_start=False, properties=HOUR).session_present


def _rows(client: Any) -> list[bytes]:
    return [row for shard in range(256) for row in client.hkeys(keys.subscriptions("mq:", shard))]


@pytest.mark.parametrize("place", [0, 1])
def test_a_session_that_is_connected_is_deleted_with_its_connection(nodes: Nodes, place: int) -> None:
    will = Will("ended/will", b"bye", 1, False)
    with connected(nodes[0].port, "watcher") as watcher, WireClient(nodes[1].port) as client:
        watcher.subscribe("ended/#")
        client.connect("ended", properties=HOUR, will=will)
        client.subscribe("ended/+")
        assert ask(nodes[place], "/sessions/ended", "DELETE") == {"client_id": "ended"}
        last = client.wait_closed()[-1]
        assert isinstance(last, Disconnect)
        assert last.reason_code == ReasonCode.ADMINISTRATIVE_ACTION
        assert watcher.message().payload == b"bye"
        watcher.assert_silence(0.1)
    ask(nodes[0], "/sessions/ended", status=404)


def test_subscriptions_by_client_filter_and_topic(nodes: Nodes, clients: dict[str, WireClient]) -> None:
    first, second = nodes
    with (
        connected(first.port, "sub-direct") as direct,
        connected(second.port, "sub-kept", clean_start=True, properties=HOUR) as kept,
    ):
        direct.subscribe("sub/a/+", qos=1)
        direct.subscribe("sub/b")
        kept.subscribe("sub/#", qos=2)
        kept.subscribe("sub/a/b", qos=0)
        kept.subscribe("$share/team/sub/a/b", qos=1)
        for node in nodes:
            of_client = pages(node, "subscriptions", 1, client_id="sub-kept")
            assert [(each["filter"], each["qos"]) for each in of_client] == [
                ("$share/team/sub/a/b", 1), ("sub/#", 2), ("sub/a/b", 0),
            ]  # fmt: skip
            of_client = pages(node, "subscriptions", 500, client_id="sub-direct")
            assert [each["filter"] for each in of_client] == ["sub/a/+", "sub/b"]
            for limit in (1, 2, 500):
                found = pages(node, "subscriptions", limit, filter="sub/")
                assert [(each["filter"], each["client_id"]) for each in found] == [
                    ("sub/#", "sub-kept"), ("sub/a/+", "sub-direct"), ("sub/a/b", "sub-kept"),
                    ("sub/b", "sub-direct"),
                ]  # fmt: skip
                found = pages(node, "subscriptions", limit, topic="sub/a/b")
                assert [(each["filter"], each["client_id"]) for each in found] == [
                    ("$share/team/sub/a/b", "sub-kept"), ("sub/#", "sub-kept"), ("sub/a/+", "sub-direct"),
                    ("sub/a/b", "sub-kept"),
                ]  # fmt: skip
            assert len(pages(node, "subscriptions", 5, filter="crowd/")) == 14
            assert ids(pages(node, "subscriptions", 5, topic="crowd/03/x")) == ["crowd-03"]
    ask(first, "/subscriptions", status=404, client_id="nobody")
    ask(first, "/subscriptions", status=422, client_id="a", topic="b")


def test_shared_groups_tell_their_lag(nodes: Nodes) -> None:
    with WireClient(nodes[0].port) as member:
        member.connect("worker", properties=Properties(receive_maximum=2, session_expiry_interval=3600))
        member.subscribe("$share/workers/jobs/+", qos=1)
        with connected(nodes[1].port, "boss") as boss:
            for number in range(5):
                boss.publish(f"jobs/{number}", b"", 1)
        for node in nodes:
            (group,) = pages(node, "shared", 1, prefix="workers")
            assert group == {
                "group": "workers", "filter": "jobs/+", "waiting": 3, "given": 2, "members": 1,
            }  # fmt: skip


def test_dead_letters_newest_first(nodes: Nodes) -> None:
    with connected(nodes[0].port, "late", clean_start=True, properties=HOUR) as client:
        client.subscribe("late/+", qos=1)
    with connected(nodes[1].port, "hasty") as sender:
        for number in range(3):
            sender.publish(f"late/{number}", b"", 1, properties=Properties(message_expiry_interval=1))
    time.sleep(1.1)
    with connected(nodes[0].port, "late", clean_start=False, properties=HOUR) as client:
        client.assert_silence(0.1)
        _until(lambda: len(pages(nodes[1], "letters", 2, client_id="late")) == 3)
    found = pages(nodes[1], "letters", 2, client_id="late")
    assert {letter["topic"] for letter in found} == {"late/0", "late/1", "late/2"}
    assert {letter["reason"] for letter in found} == {"expired"}
    everything = pages(nodes[0], "letters", 2)
    assert [letter["at"] for letter in everything] == sorted(
        (letter["at"] for letter in everything), reverse=True
    )
    ask(nodes[0], "/letters", status=422, after="x")


@contextlib.contextmanager
def frozen(node: NodeProcess) -> Iterator[None]:
    """Not for so long that the others take it for dead."""
    node.freeze()
    try:
        yield
    finally:
        node.send_signal(signal.SIGCONT)


def test_a_node_that_hangs_is_named_and_its_sessions_can_be_deleted(nodes: Nodes) -> None:
    with connected(nodes[1].port, "hangs", properties=HOUR) as client:
        with frozen(nodes[1]):
            assert ask(nodes[0], "/clients", search="hangs")["silent"] == ["node-2"]
        client.ping()
        with frozen(nodes[1]):
            ask(nodes[0], "/sessions/hangs", "DELETE")
        assert isinstance(client.wait_closed()[-1], Disconnect)
        ask(nodes[0], "/sessions/hangs", status=404)


def _until(condition: Any) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
