"""Evening out by itself: when, how many, by whom; on real nodes after a scale-out, not during a roll."""

import contextlib
import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.mqtt import Disconnect, ReasonCode
from cluster.control import NodeState
from cluster.node_info import NodeInfo
from cluster.rebalance import LOOK_SECONDS, Budget, Quiet, is_settled, portions
from tests.node.harness import NodeProcess
from tests.node.redis_server import RedisServer, running_redis
from tests.node.wire import HOUR, WireClient, connected

pytestmark = pytest.mark.timeout(90)
QUIET_SECONDS = 4.0
CLIENTS = 30


def _node(
    name: str, version: str = "1", *, started_ms: int = 5, draining: bool = False, alive: bool = True
) -> NodeState:
    info = NodeInfo(name, version, started_ms=started_ms, draining=draining)
    return NodeState(f"{name}.1", alive, info)


# When


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (_node("b"), True),
        (_node("b", started_ms=0), False),  # it starts
        (_node("b", draining=True), False),
        (_node("b", alive=False), False),
        (_node("b", version="2"), False),  # in the middle of an upgrade
        (NodeState("b.1", True, None), False),
    ],
)
def test_settled_are_members_that_all_serve_and_are_alike(other: NodeState, expected: bool) -> None:
    assert is_settled([_node("a"), other]) is expected


def test_quiet_begins_anew_with_each_change() -> None:
    quiet = Quiet()
    nodes = [_node("a"), _node("b")]
    assert [quiet.seconds(nodes, now) for now in (10.0, 40.0, 70.0)] == [0, 30, 60]
    assert quiet.seconds([*nodes, _node("c")], 71.0) == 0  # a scale-out
    assert quiet.seconds([*nodes, _node("c")], 75.0) == 4
    assert quiet.seconds([_node("a"), _node("b", draining=True), _node("c")], 76.0) == 0
    assert quiet.seconds([_node("a"), _node("c")], 77.0) == 0
    assert quiet.seconds([_node("a"), _node("c")], 78.0) == 1
    assert quiet.seconds([_node("a"), _node("c", started_ms=9)], 80.0) == 0


# How many


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 1000), max_size=6), st.integers(0, 2000))
def test_portions_are_within_surplus_and_allowance(surplus: dict[str, int], allowance: int) -> None:
    found = portions(surplus, allowance)
    assert sum(found.values()) == min(allowance, sum(surplus.values()))
    assert all(0 < count <= surplus[node] for node, count in found.items())


@given(st.floats(0.1, 100_000), st.lists(st.floats(0.0, 60.0), max_size=50))
def test_the_budget_is_kept_and_not_saved_up(per_minute: float, waits: list[float]) -> None:
    budget = Budget(per_minute)
    spent, elapsed = 0, 0.0
    for wait in waits:
        elapsed += wait
        allowance = budget.allow(wait)
        assert allowance <= max(1.0, per_minute / 60 * LOOK_SECONDS)
        budget.spend(allowance)
        spent += allowance
    assert spent <= per_minute / 60 * elapsed + 1e-6 * (1 + spent)


# Real nodes


def _environment(per_minute: float) -> dict[str, str]:
    return {
        "MOORLINE_CLUSTER__REBALANCE_CLIENTS_PER_MINUTE": str(per_minute),
        "MOORLINE_CLUSTER__REBALANCE_QUIET_SECONDS": str(QUIET_SECONDS),
        "MOORLINE_NODE__SHUTDOWN_TIMEOUT_SECONDS": "2",
    }


@contextlib.contextmanager
def _started(
    directory: Path, server: RedisServer, name: str, per_minute: float = 6000
) -> Iterator[NodeProcess]:
    (directory / name).mkdir()
    flags = ("--redis", server.url, "--node-name", name)
    node = NodeProcess(directory / name, *flags, environment=_environment(per_minute))
    try:
        node.start()
        yield node
    finally:
        node.close()


def _sessions(node: NodeProcess) -> dict[str, int]:
    found = json.loads(node.get("/api/v1/nodes").text)["nodes"]
    return {each["name"]: each["sessions"] or 0 for each in found}


def _metric(node: NodeProcess, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", node.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def _told_to_move(clients: list[WireClient]) -> list[WireClient]:
    """Those that have been sent away by now."""
    told = []
    for client in clients:
        with contextlib.suppress(ConnectionError):
            packet = client.poll(0.001)
            if isinstance(packet, Disconnect):
                assert packet.reason_code == ReasonCode.USE_ANOTHER_SERVER
                told.append(client)
    return told


def test_a_new_node_gets_its_share_once_the_roll_is_over(tmp_path: Path) -> None:
    with (
        running_redis(tmp_path / "redis") as server,
        _started(tmp_path, server, "first") as first,
        contextlib.ExitStack() as stack,
    ):
        clients = [
            stack.enter_context(connected(first.port, f"c{number}", properties=HOUR))
            for number in range(CLIENTS)
        ]
        second = stack.enter_context(_started(tmp_path, server, "second"))
        for number in range(3):  # a roll: somebody comes and goes all the time
            with _started(tmp_path, server, f"extra-{number}") as extra:
                time.sleep(1)
                assert extra.stop() == 0
            assert _told_to_move(clients) == []
        quiet_since = time.monotonic()
        moved: list[WireClient] = []
        while len(moved) < CLIENTS // 2:
            for client in _told_to_move(clients):
                moved.append(client)
                client_id = f"c{clients.index(client)}"
                again = stack.enter_context(WireClient(second.port))
                assert again.connect(client_id, clean_start=False, properties=HOUR).session_present
            assert time.monotonic() < quiet_since + 60, (len(moved), first.output())
            if len(moved) == 1:
                assert time.monotonic() >= quiet_since + QUIET_SECONDS - 1.5  # told a look after it was seen
        time.sleep(2 * LOOK_SECONDS)
        assert _told_to_move(clients) == []
        assert _sessions(first) == {"first": CLIENTS // 2, "second": CLIENTS // 2}
        turns = {node: _metric(node, "moorline_rebalance_turn") for node in (first, second)}
        assert sorted(turns.values()) == [0, 1]
        holder = next(node for node, turn in turns.items() if turn)
        ordered = _metric(holder, "moorline_rebalanced_clients_total")
        assert CLIENTS // 2 <= ordered < CLIENTS  # what was late at the next look is counted again, not moved
        assert holder.stop(signal.SIGTERM) == 0  # the next one has the turn at once
        other = second if holder is first else first
        deadline = time.monotonic() + 2 * LOOK_SECONDS
        while not _metric(other, "moorline_rebalance_turn"):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_nobody_is_moved_unless_it_is_asked_for(tmp_path: Path) -> None:
    with (
        running_redis(tmp_path / "redis") as server,
        _started(tmp_path, server, "first", 0) as first,
        connected(first.port, "a"),
        connected(first.port, "b"),
        _started(tmp_path, server, "second", 0),
    ):
        time.sleep(LOOK_SECONDS + 1)
        with server.client() as client:
            assert not client.exists("mq:{m}:turn:rebalance")
        assert _sessions(first) == {"first": 2, "second": 0}
