"""Messages that are posted to an HTTP server, which is well, away, slow, or says no."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.mqtt import Properties, ReasonCode
from cluster.store import keys
from tests.cli import program
from tests.forwarding.conftest import forward, shown, wait_running, wait_until
from tests.forwarding.hook import Hook
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import WireClient, connected

QUICK = {"timeout_seconds": 0.5, "retry_seconds_maximum": 0.5}


@pytest.fixture(scope="module")
def node(hook: Hook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """With two forwards to one server."""
    headers = tmp_path_factory.mktemp("files") / "headers"
    headers.write_text("Authorization: Bearer secret\n")
    environment = {
        **forward("one", kind="webhook", url=hook.url, topics="one/#", refused_tries=2, qos=2, **QUICK),
        **forward("one", headers_file=headers),
        **forward("many", kind="webhook", url=hook.url, topics="many/#", batch=50, refused_tries=1, **QUICK),
        **forward("few", kind="webhook", url=hook.url, topics="few/#", queue_limit=3, **QUICK),
    }
    with running_node(tmp_path_factory.mktemp("node"), environment=environment) as node:
        wait_running(node, "one", "many", "few")
        yield node


@pytest.fixture
def publisher(node: NodeProcess) -> Iterator[WireClient]:
    with connected(node.port, "publisher") as client:
        yield client


def test_a_message_is_posted_with_all_that_it_has(publisher: WireClient, hook: Hook) -> None:
    properties = Properties(
        user_property=(("event_id", "7"), ("a", "b")),
        content_type="text/plain",
        response_topic="back",
        correlation_data=b"\xff\x00",
        message_expiry_interval=60,
    )
    assert publisher.publish("one/x", "gr\u00fc\u00df".encode(), 1, properties=properties) == 0
    (posted,) = hook.wait_for(1)
    assert posted.headers["Authorization"] == "Bearer secret"
    assert posted.key is not None
    assert posted.document.pop("expires_after_seconds") in (59, 60)
    assert posted.document == {
        "id": posted.key,
        "topic": "one/x",
        "payload": "gr\u00fc\u00df",
        "qos": 1,
        "retain": False,
        "repeat": False,
        "user_properties": [["event_id", "7"], ["a", "b"]],
        "content_type": "text/plain",
        "response_topic": "back",
        "correlation_data_base64": "/wA=",
    }


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_qos_is_posted(publisher: WireClient, hook: Hook, qos: int) -> None:
    publisher.publish("one/q", b"\xfe", qos)
    (posted,) = hook.wait_for(1)
    assert (posted.document["qos"], posted.document["payload_base64"]) == (qos, "/g==")
    assert (posted.key is None) == (qos == 0)


def test_nothing_is_lost_and_all_is_in_order_while_the_server_is_away(
    node: NodeProcess, publisher: WireClient, hook: Hook
) -> None:
    hook.go()
    for number in range(30):
        publisher.publish("one/x", b"%d" % number, 1 + number % 2)
    wait_until(node, "one", lambda status: status["state"] == "waiting" and status["waiting"] == 30)
    assert "no connection" in shown(node, "one")["last_error"]
    assert "forward one waits: no connection" in node.get("/api/v1/health").text
    assert node.get("/readyz").status == 200
    hook.come()
    posted = hook.wait_for(30)
    assert [each.document["payload"] for each in posted] == [str(number) for number in range(30)]
    wait_until(node, "one", lambda status: status["state"] == "running" and status["waiting"] == 0)


def test_a_forward_may_have_another_queue_limit_than_clients(
    node: NodeProcess, publisher: WireClient, hook: Hook
) -> None:
    hook.go()
    for number in range(5):
        publisher.publish("few/x", b"%d" % number, 1)
    wait_until(node, "few", lambda status: status["waiting"] == 3)
    hook.come()
    hook.wait_for(3)
    wait_until(node, "few", lambda status: status["waiting"] == 0)
    assert len(hook.taken()) == 3


@pytest.mark.parametrize("status", [500, 503, 429, 401, 301])
def test_what_is_about_the_server_is_tried_again(publisher: WireClient, hook: Hook, status: int) -> None:
    answers = [status, status, 200]
    hook.answer = lambda document: answers.pop(0)
    publisher.publish("one/x", b"m", 1)
    hook.wait_for(1)
    assert [each.status for each in hook.posted] == [status, status, 200]
    assert len({each.key for each in hook.posted}) == 1


def test_a_server_that_is_too_slow_is_asked_again_under_the_same_key(
    publisher: WireClient, hook: Hook
) -> None:
    hook.delay_seconds = 0.8
    publisher.publish("one/x", b"m", 1)
    hook.wait_for(1)
    hook.delay_seconds = 0.0
    publisher.publish("one/x", b"n", 1)
    posted = hook.wait_for(2)
    payloads = {each.key: each.document["payload"] for each in posted}
    assert list(payloads.values()) == ["m", "n"]


def test_what_the_server_refuses_for_good_becomes_a_dead_letter(
    node: NodeProcess, publisher: WireClient, hook: Hook
) -> None:
    before = shown(node, "one")["refused"]
    hook.answer = lambda document: 400 if document["payload"] == "bad" else 200
    for payload in (b"good", b"bad", b"fine"):
        publisher.publish("one/x", payload, 1)
    assert [each.document["payload"] for each in hook.wait_for(2)] == ["good", "fine"]
    assert [each.status for each in hook.posted] == [200, 400, 400, 200]
    assert shown(node, "one")["refused"] == before + 1
    with node.redis() as client:
        (_, letter), *_ = client.xrevrange(keys.letters("mq:", keys.bucket_of("$forward/one")))
    assert letter[b"topic"] == b"one/x"
    assert letter[b"reason"] == b"forward_refused: answered with status 400"


def test_a_batch_is_one_request(publisher: WireClient, hook: Hook) -> None:
    hook.delay_seconds = 0.2
    for number in range(20):
        publisher.publish("many/x", b"%d" % number, 1)
    first, second = hook.wait_for(2)
    batches = [each.document["messages"] for each in (first, second)]
    assert [message["payload"] for batch in batches for message in batch] == [str(n) for n in range(20)]
    ids = [message["id"] for message in batches[1]]
    assert second.key == f"{ids[0]}..{ids[-1]}"


def test_of_a_batch_that_is_refused_only_the_bad_one_is_dropped(publisher: WireClient, hook: Hook) -> None:
    hook.delay_seconds = 0.1

    def answer(document: dict[str, Any]) -> int:
        return 422 if any(each["payload"] == "7" for each in document["messages"]) else 200

    hook.answer = answer
    for number in range(12):
        publisher.publish("many/x", b"%d" % number, 1)
    hook.delay_seconds = 0.0
    publisher.publish("many/x", b"last", 1)
    hook.wait_until(lambda: "last" in _payloads(hook))
    assert _payloads(hook) == [*[str(number) for number in range(12) if number != 7], "last"]


def _payloads(hook: Hook) -> list[str]:
    """Of what was taken in batches."""
    return [message["payload"] for each in hook.taken() for message in each.document["messages"]]


def test_nobody_else_may_use_the_name_of_the_session(node: NodeProcess) -> None:
    for version in (5, 4):
        with WireClient(node.port, version) as client:
            code = client.connect("$forward/one").reason_code
            assert code == (ReasonCode.CLIENT_IDENTIFIER_NOT_VALID if version == 5 else 2)


def test_the_command_shows_it(node: NodeProcess) -> None:
    arguments = ["ctl", "forwards", "--admin", f"http://127.0.0.1:{node.admin_port}"]
    environment = {"COLUMNS": "300"}
    head, *rows = program.run(*arguments, environment=environment).stdout.splitlines()
    assert head.split()[:6] == ["NAME", "KIND", "STATE", "SINCE", "NODE", "WAITING"]
    assert [row.split()[:3] for row in rows] == [[n, "webhook", "running"] for n in ("few", "many", "one")]
    told = json.loads(program.run(*arguments, "--json", environment=environment).stdout)
    assert [forward["name"] for forward in told["forwards"]] == ["few", "many", "one"]


def test_it_is_in_the_metrics(node: NodeProcess) -> None:
    deadline = time.monotonic() + 10.0
    while 'moorline_forward_waiting{forward="one"} 0.0' not in (text := node.get("/metrics").text):
        assert time.monotonic() < deadline, "what was delivered before still waits"
    assert 'moorline_forward_up{forward="one"} 1.0' in text
    assert 'moorline_forward_messages_total{forward="one",result="sent"}' in text


def test_a_node_that_stops_leaves_the_session_and_the_turn(hook: Hook, tmp_path: Path) -> None:
    """So another one, here the same, goes on at once; with the subscriptions that are wanted now."""
    environment = forward("it", kind="webhook", url=hook.url, topics="old/+,both", **QUICK)
    with running_node(tmp_path, environment=environment) as node:
        wait_running(node, "it")
        assert node.stop() == 0
        environment |= forward("it", topics="both,new")
        node.start()
        wait_until(node, "it", lambda status: status["state"] == "running", seconds=3.0)
        with connected(node.port, "publisher") as publisher:
            assert publisher.publish("old/x", b"", 1) == ReasonCode.NO_MATCHING_SUBSCRIBERS
            assert publisher.publish("both", b"", 1) == 0
            assert publisher.publish("new", b"", 1) == 0
        assert [each.document["topic"] for each in hook.wait_for(2)] == ["both", "new"]
