"""What is said of clients whose messages do not come: on two real nodes, asked at the one that does not have
them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from broker.mqtt import Connack, Properties, Pubcomp, Publish, Pubrec, Pubrel
from tests.cli import program
from tests.cluster.conftest import running_nodes
from tests.node.harness import NodeProcess
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import HOUR, WireClient, connected
from tests.tools import NO_TLS

pytestmark = pytest.mark.timeout(60)  # the first test starts the nodes, too

SETTINGS: Final = {
    "MOORLINE_SESSION__QUEUE_LIMIT": "20",
    "MOORLINE_LIMITS__MESSAGES_PER_SECOND": "20",
    "MOORLINE_LIMITS__THROTTLED_SECONDS": "0",
    "MOORLINE_LIMITS__BURST_SECONDS": "5",
}
WINDOW: Final = 5
_WAIT_SECONDS: Final = 10.0

Answer = dict[str, Any]  # JSON


@pytest.fixture(scope="module")
def nodes(
    redis_of_cluster: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """With small limits."""
    directory = tmp_path_factory.mktemp("nodes")
    with running_nodes(directory, redis_of_cluster.url, 2, SETTINGS) as (first, second):
        yield first, second


def explain(node: NodeProcess, **asked: str | int) -> Answer:
    """What the node says."""
    url = f"http://127.0.0.1:{node.admin_port}/api/v1/explain"
    response = httpx.get(url, params=asked, timeout=5.0, trust_env=False, verify=NO_TLS)
    assert response.status_code == 200, response.text
    answer: Answer = response.json()
    return answer


def wait_until(node: NodeProcess, client_id: str, is_so: Callable[[Answer], bool]) -> Answer:
    """What it says when something holds."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        answer = explain(node, client_id=client_id)
        if is_so(answer):
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)


def ctl(node: NodeProcess, *arguments: str) -> str:
    """What the command writes."""
    url = f"http://127.0.0.1:{node.admin_port}"
    result = program.run("ctl", *arguments, "--admin", url)
    assert result.exit_code == 0, result.output
    return result.output


def kinds(answer: Answer) -> list[str]:
    return [event["kind"] for event in answer["events"]]


def test_a_client_that_does_not_acknowledge(nodes: tuple[NodeProcess, NodeProcess], name: str) -> None:
    here, there = nodes
    properties = Properties(session_expiry_interval=3600, receive_maximum=WINDOW)
    with (
        connected(there.port, name, properties=properties) as deaf,
        connected(here.port, f"{name}-publisher") as publisher,
    ):
        deaf.subscribe(name, qos=1)
        for _ in range(WINDOW + 3):
            publisher.publish(name, b"x", 1)
        for _ in range(WINDOW):
            deaf.expect(Publish)
        answer = wait_until(
            here,
            name,
            lambda answer: bool(
                answer["connection"] and (answer["connection"]["flow"]["oldest_seconds"] or 0) >= 1
            ),
        )
        assert answer["blocked_by"] == ["window_full"]
        assert answer["verdict"][0].startswith("The window is full: 5 messages are sent and not acknowledged")
        assert "the client does not answer PUBACK" in answer["verdict"][0]
        session, connection, queue = answer["session"], answer["connection"], answer["queue"]
        assert session["node"] == "node-2"
        assert session["subscriptions"][0]["filter"] == name
        assert connection["flow"]["in_flight"] == WINDOW
        assert connection["is_persistent"]
        assert (queue["length"], queue["head"][0]["topic"]) == (WINDOW + 3, name)
        assert kinds(wait_until(here, name, lambda answer: len(answer["events"]) == 2)) == [
            "subscribed", "connected",
        ]  # fmt: skip
        shown = ctl(here, "session", "explain", name)
        assert "1. The window is full" in shown
        assert "5 of 5 taken" in shown


def test_one_that_is_away_with_a_full_queue(nodes: tuple[NodeProcess, NodeProcess], name: str) -> None:
    here, there = nodes
    with connected(there.port, name, properties=HOUR) as client:
        client.subscribe(name, qos=1)
        wait_until(here, name, lambda answer: "replaying" not in answer["codes"])  # else that goes on later
    with connected(there.port, f"{name}-publisher") as publisher:
        for _ in range(25):
            publisher.publish(name, b"x", 1)
    answer = wait_until(here, name, lambda answer: "disconnected" in kinds(answer))
    assert answer["codes"] == ["away", "queue_full", "drops"]
    away, full, drops = answer["verdict"]
    assert "connection lost; 20 messages wait for it, the oldest for up to" in away
    assert "Its queue is 100 % full: 20 of 20 (session.queue_limit)" in full
    assert "at least 5 drop_oldest" in drops
    assert answer["drops"][0]["count"] == 5
    assert answer["queue"]["head"][0]["n"] == 6
    assert "5 drop_oldest" in ctl(here, "explain", "--client", name)


def test_one_that_sends_more_than_it_may(nodes: tuple[NodeProcess, NodeProcess], name: str) -> None:
    here, there = nodes
    with connected(there.port, name) as flood:
        for _ in range(150):
            flood.send(Publish(name, b"x", 0, False, False, 0, None))
        answer = wait_until(here, name, lambda answer: "reading_paused" in answer["blocked_by"])
        assert "it sends more than limits.messages_per_second allows" in answer["verdict"][0]
        assert answer["session"]["kind"] == "direct"


def test_one_that_is_banned(nodes: tuple[NodeProcess, NodeProcess], name: str) -> None:
    here, there = nodes
    assert here.post("/api/v1/bans", {"kind": "client", "value": name, "reason": "too loud"}).status == 201
    wait_until(there, name, lambda answer: "banned" in answer["blocked_by"])
    with WireClient(there.port) as client:
        client.connect_only(name, clean_start=True)
        assert client.expect(Connack).reason_code == 0x8A
    answer = wait_until(here, name, lambda answer: kinds(answer) == ["refused"])
    assert answer["codes"] == ["banned", "unknown", "refused"]
    assert answer["verdict"][0].startswith(f"It is banned for ever (client {name}; too loud; by ")


def test_nobody_knows_it(nodes: tuple[NodeProcess, NodeProcess], name: str) -> None:
    answer = explain(nodes[0], client_id=f"{name} {{ü}}/%")
    assert answer["client_id"] == f"{name} {{ü}}/%"
    assert answer["codes"] == ["unknown"]
    assert answer["session"] is None


def test_who_gets_a_topic(nodes: tuple[NodeProcess, NodeProcess], name: str) -> None:
    here, there = nodes
    topic = f"{name}/a"
    nobody = explain(here, topic=topic)
    assert nobody["verdict"][0].startswith("Nobody subscribes to it")
    assert nobody["sessions"] == nobody["filters"] == []
    with (
        connected(there.port, f"{name}-near", properties=HOUR) as near,
        connected(there.port, f"{name}-direct") as direct,
        connected(here.port, f"{name}-member", properties=HOUR) as member,
        connected(here.port, f"{name}-away", properties=HOUR) as away,
        connected(here.port, f"{name}-publisher") as publisher,
    ):
        near.subscribe(topic, qos=0)
        near.subscribe(f"{name}/+", qos=2)
        direct.subscribe(f"{name}/#", qos=1)
        member.subscribe(f"$share/g/{topic}", qos=1)
        away.subscribe(topic, qos=1)
        away.close()
        wait_until(here, f"{name}-away", lambda answer: answer["session"]["state"] == "away")
        publisher.publish(topic, b"x", 1, retain=True)
        answer = explain(here, topic=topic)
        first, *others = answer["verdict"]
        assert first == (
            "It goes to 3 subscriptions of persistent sessions, to 1 client without one, to one member of"
            f" each of 1 group (g/{topic})."
        )
        assert any("1 of 2 sessions looked at is away" in each for each in others), others
        assert any(f"longest queue of these has {name}-" in each for each in others), others
        assert "There is a retained message: whoever subscribes gets it." in others
        sessions = {each["client_id"]: each for each in answer["sessions"]}
        assert (sessions[f"{name}-near"]["filter"], sessions[f"{name}-near"]["qos"]) == (f"{name}/+", 2)
        assert sessions[f"{name}-away"]["state"] == "away"
        (client,) = answer["direct"]
        assert (client["client_id"], client["node"].partition(".")[0]) == (f"{name}-direct", "node-2")
        assert [group["name"] for group in answer["groups"]] == [f"g/{topic}"]
        shown = ctl(there, "explain", "--topic", topic)
        assert "1. It goes to 3 subscriptions" in shown
        assert f"{name}-direct" in shown


def test_where_a_message_is(nodes: tuple[NodeProcess, NodeProcess], name: str) -> None:
    here, there = nodes
    with (
        connected(there.port, name, properties=HOUR) as receiver,
        connected(here.port, f"{name}-publisher", properties=HOUR) as publisher,
    ):
        receiver.subscribe(name, qos=2)
        publisher.send(Publish(name, b"x", 2, False, False, 1, None))
        assert publisher.expect(Pubrec).packet_id == 1
        receiving = wait_until(here, f"{name}-publisher", lambda answer: bool(answer["session"]["receiving"]))
        (exchange,) = receiving["session"]["receiving"]
        answer = explain(here, token=exchange["token"])
        assert answer["verdict"][0] == "The message has reached the queues of 1 session."
        assert [each["client_id"] for each in answer["sessions"]] == [name]
        assert "may still be in the queue" in answer["verdict"][1]
        publish = receiver.expect(Publish)
        assert "was perhaps sent, but is not acknowledged" in explain(here, client_id=name, n=1)["verdict"][0]
        receiver.send(Pubrec(publish.packet_id))
        receiver.expect(Pubrel)
        assert "The client has it (PUBREC)" in explain(here, client_id=name, n=1)["verdict"][0]
        receiver.send(Pubcomp(publish.packet_id))
        receiver.ping()
        shown = wait_until(here, name, lambda answer: answer["session"]["releasing"] == [])
        assert shown["queue"]["length"] == 0
        assert "It has left the queue: acknowledged" in explain(here, client_id=name, n=1)["verdict"][0]
        assert "which is empty" in explain(there, token=exchange["token"])["verdict"][1]
        assert "No message has that number" in ctl(here, "explain", "--client", name, "--number", "2")
        assert "There is no such session" in explain(here, client_id=f"{name}?", n=1)["verdict"][0]
        assert "Nobody has a message" in ctl(here, "explain", "--token", "00" * 16)


@pytest.mark.parametrize(
    "asked",
    [{"topic": "a/#"}, {"token": "no hex"}, {"client_id": "c", "n": "-1"}],
)
def test_values_that_there_can_not_be(nodes: tuple[NodeProcess, NodeProcess], asked: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{nodes[0].admin_port}/api/v1/explain"
    response = httpx.get(url, params=asked, timeout=5.0, trust_env=False, verify=NO_TLS)
    assert response.status_code == 422
    assert response.json()["error"].startswith(f"{list(asked)[-1]}: ")


@pytest.mark.parametrize(
    "asked", [{}, {"client_id": ""}, {"client_id": "c", "topic": "t"}, {"what": "c"}, {"n": "1"}]
)
def test_what_makes_no_sense(nodes: tuple[NodeProcess, NodeProcess], asked: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{nodes[0].admin_port}/api/v1/explain"
    response = httpx.get(url, params=asked, timeout=5.0, trust_env=False, verify=NO_TLS)
    assert response.status_code == 422
    assert response.json()["error"].startswith("say what: client_id")


def test_while_nodes_and_redis_fail(tmp_path: Path) -> None:
    """One after the other: Redis stands still, then the node with the client is killed."""
    with (
        running_redis(tmp_path / "redis") as server,
        running_nodes(tmp_path, server.url, 2) as (here, there),
        connected(here.port, "near", properties=HOUR) as near,
        connected(there.port, "far", properties=HOUR) as far,
    ):
        near.subscribe("t", qos=1)
        far.subscribe("t", qos=1)
        server.freeze()
        try:
            answer = explain(here, client_id="near")
            assert answer["codes"][0] == "redis_away"
            assert "Redis does not answer" in answer["verdict"][0]
            assert answer["connection"]["is_accepted"], "what is in memory is told all the same"
            assert explain(here, client_id="far")["blocked_by"] == ["redis_away"]
        finally:
            server.thaw()
        assert wait_until(here, "far", lambda answer: answer["codes"] == ["well"])
        there.kill()
        silent = wait_until(here, "far", lambda answer: "gives no life sign for" in answer["verdict"][0])
        assert silent["blocked_by"] == ["owner_silent"]
        assert silent["session"]["node_alive"]
        wait_until(here, "far", lambda answer: answer["codes"][0] == "away")
