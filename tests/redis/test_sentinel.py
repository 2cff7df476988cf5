"""Fail-over by real sentinels while a node serves: clients notice nothing but a pause.

The node's users are those that `moorline redis acl` makes, with passwords at servers and sentinels. Replicas
are in step when something happens to their primary: what is lost when they are not is the matter of others.
"""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Final

import anyio
import pytest

from cluster.store import sentinel as finding
from cluster.store.rights import access_list
from cluster.store.store import open_store
from tests.node.harness import NodeProcess, running_node
from tests.node.model import Publisher, Subscriber, receive_no_more
from tests.redis.server import HOST, Server
from tests.redis.topology import MASTER_NAME, Topology, sentinel

MESSAGES: Final = 1000
PAUSE_SECONDS: Final = 20.0
"""With down-after of 1 s a kill takes 2.2 s, on a machine with nothing else to do."""
IN_STEP_SECONDS: Final = 15
UNDER_WAY_SECONDS: Final = 0.1

Start = Callable[[], AbstractContextManager[NodeProcess]]


@pytest.fixture(scope="module", params=["redis", "valkey"])
def topology(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    """Two replicas: the second takes over while the first primary is still being made a replica."""
    with sentinel(tmp_path_factory.mktemp("sentinel"), 2, software=request.param) as running:
        for server in running.servers:
            _let_in(server, "node", "secret", access_list("mq:"))
        for watcher in running.sentinels:
            _let_in(watcher, "finder", "word", finding.access_list())
        yield running


def _let_in(server: Server, user: str, password: str, rights: str) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", user, "on", f">{password}", *rights.split())


@pytest.fixture(scope="module")
def start(topology: Topology, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts a node."""
    password = tmp_path_factory.mktemp("password") / "word"
    password.write_text("word\n")
    environment = {
        "MOORLINE_REDIS__SENTINEL_USERNAME": "finder",
        "MOORLINE_REDIS__SENTINEL_PASSWORD_FILE": str(password),
    }
    url = topology.url.replace("://", "://node:secret@")
    return lambda: running_node(tmp_path_factory.mktemp("node"), "--redis", url, environment=environment)


@pytest.mark.timeout(60)
def test_clients_notice_nothing_but_a_pause(topology: Topology, start: Start) -> None:
    """The fail-over is planned, then the new primary dies or hangs. Who starts afterwards finds the third,
    though a sentinel is gone."""
    with start() as node:
        for number, fault in enumerate((_fail_over, _kill if topology.software == "valkey" else _freeze)):
            old = _in_step(topology)
            _publish_meanwhile(node, f"topic-{number}", lambda: fault(topology))  # noqa: B023 - used at once
            topology.wait_for_another_primary(old)
            _wait_for_metrics(node, topology, number + 1)
        old.thaw() if old.is_running() else old.start()
        topology.sentinels[0].kill()
        deadline = time.monotonic() + 10.0
        while (found := anyio.run(_address_for_a_newcomer, topology)) != _address(topology):
            assert time.monotonic() < deadline, found  # there was another fail-over between the two questions
        _publish_meanwhile(node, "afterwards", lambda: None)
        _wait_for_metrics(node, topology, 2)  # the old one has come back, and nobody has turned to it


async def _address_for_a_newcomer(topology: Topology) -> str:
    async with await open_store(topology.url, "mq:", "newcomer") as store:
        await store.ping()
        return store.primary


def _in_step(topology: Topology) -> Server:
    """The primary, when a replica has all that it has."""
    primary = topology.primary()
    with primary.client(IN_STEP_SECONDS + 1) as client:
        client.set("probe", "x")
        assert client.wait(1, IN_STEP_SECONDS * 1000)
    return primary


def _publish_meanwhile(node: NodeProcess, topic: str, fault: Callable[[], None]) -> None:
    """At QoS 1 and 2 at once; nothing may be lost, nor come twice at QoS 2."""
    with (
        Subscriber(node, f"{topic}-s1") as first,
        Subscriber(node, f"{topic}-s2") as second,
        Publisher(node, f"{topic}-p1") as one,
        Publisher(node, f"{topic}-p2") as two,
        ThreadPoolExecutor(4) as pool,
    ):
        first.sender_repeats = True  # the node sends a batch again whose answer did not come
        first.subscribe(f"{topic}/1", 1)
        second.subscribe(f"{topic}/2", 2)
        work: list[Future[None]] = []
        for qos, subscriber, publisher in ((1, first, one), (2, second, two)):
            messages = [(f"{topic}/{qos}", b"%d" % number) for number in range(MESSAGES)]
            work.append(pool.submit(publisher.publish, messages, qos))
            work.append(pool.submit(subscriber.receive, MESSAGES))
        time.sleep(UNDER_WAY_SECONDS)
        began = time.monotonic()
        fault()
        for each in work:
            each.result(PAUSE_SECONDS - (time.monotonic() - began))
        receive_no_more(first, second)
        for subscriber in (first, second):
            assert subscriber.received == [b"%d" % number for number in range(MESSAGES)]


def _wait_for_metrics(node: NodeProcess, topology: Topology, switches: int) -> None:
    """At least so many: on a busy machine a primary may be late for the sentinels, too."""
    deadline = time.monotonic() + 5.0
    while True:
        told = dict(
            re.findall(r"^moorline_(redis_(?:primary|switches)\S*) (\S+)$", node.get("/metrics").text, re.M)
        )
        is_known = f'redis_primary_info{{address="{_address(topology)}"}}' in told
        if is_known and float(told["redis_switches_total"]) >= switches:
            return
        assert time.monotonic() < deadline, (told, node.log.read_text()[-5000:])
        time.sleep(0.1)


def _address(topology: Topology) -> str:
    return f"{HOST}:{topology.primary().announced}"


def _fail_over(topology: Topology) -> None:
    with topology.sentinels[0].client() as client:
        client.execute_command("SENTINEL", "FAILOVER", MASTER_NAME)


def _kill(topology: Topology) -> None:
    topology.primary().kill()


def _freeze(topology: Topology) -> None:
    topology.primary().freeze()
