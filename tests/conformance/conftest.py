"""Each test runs on one node, and on two where the halves of its flow are on different ones."""

import sys
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import running_nodes
from tests.conformance.clauses import VERSIONS
from tests.conformance.flow import Cluster, Flow
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import RedisServer, running_redis

ENVIRONMENT = {"MOORLINE_SESSION__TAKEOVERS_PER_MINUTE": "0"}
STRICT = ENVIRONMENT | {
    "MOORLINE_MQTT__KEEP_ALIVE_MAXIMUM_SECONDS": "1",
    "MOORLINE_MQTT__RECEIVE_MAXIMUM": "3",
    "MOORLINE_MQTT__TOPIC_ALIAS_MAXIMUM": "2",
    "MOORLINE_MQTT__MAXIMUM_PACKET_SIZE": "1024",
    "MOORLINE_MQTT__MAXIMUM_QOS": "1",
    "MOORLINE_MQTT__RETAIN_AVAILABLE": "false",
    "MOORLINE_MQTT__WILDCARD_SUBSCRIPTION_AVAILABLE": "false",
    "MOORLINE_MQTT__RESPONSE_INFORMATION": "replies/%c",
    "MOORLINE_LIMITS__SUBSCRIPTIONS_PER_SESSION": "2",
}
"""Of a node whose limits are small enough to be reached, and that leaves out what may be left out."""


@pytest.fixture(scope="session")
def redis_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def nodes(
    redis_of_session: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    place = tmp_path_factory.mktemp("nodes")
    with running_nodes(place, redis_of_session.url, 2, ENVIRONMENT) as (first, second):
        yield first, second


@pytest.fixture(scope="session")
def strict_node(
    redis_of_session: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NodeProcess]:
    place = tmp_path_factory.mktemp("strict")
    flags = ("--redis", redis_of_session.url, "--node-name", "strict")
    with running_node(place, *flags, environment=STRICT) as node:
        yield node


@pytest.fixture(scope="session")
def asking_node(
    redis_of_session: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NodeProcess]:
    """It knows an Authentication Method."""
    place = tmp_path_factory.mktemp("asking")
    environment = ENVIRONMENT | {"MOORLINE_REDIS__URL": redis_of_session.url, "MOORLINE_NODE__NAME": "asking"}
    program = (sys.executable, "-m", "tests.node.methods")
    with running_node(place, environment=environment, program=program) as node:
        yield node


@pytest.fixture(scope="session", params=["one", "two"])
def cluster(request: pytest.FixtureRequest, nodes: tuple[NodeProcess, NodeProcess]) -> Cluster:
    """Where the halves of a flow are."""
    near, far = nodes
    return Cluster(near.port, near.port if request.param == "one" else far.port)


@pytest.fixture
def flow(cluster: Cluster, version: int, request: pytest.FixtureRequest) -> Iterator[Flow]:
    """What a test works with; closed at its end."""
    with Flow(cluster, version, _prefix(request)) as made:
        yield made


@pytest.fixture
def strict_flow(
    cluster: Cluster, strict_node: NodeProcess, version: int, request: pytest.FixtureRequest
) -> Iterator[Flow]:
    """The near half is on the node with small limits; so is the far one if there is one node."""
    with Flow(_nearest(cluster, strict_node), version, _prefix(request)) as made:
        yield made


@pytest.fixture
def asking_flow(
    cluster: Cluster, asking_node: NodeProcess, version: int, request: pytest.FixtureRequest
) -> Iterator[Flow]:
    """The near half is on the node that authenticates."""
    with Flow(_nearest(cluster, asking_node), version, _prefix(request)) as made:
        yield made


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test runs in each version that its clauses are of."""
    if "version" in metafunc.fixturenames:
        marked = {mark.args[0] for mark in metafunc.definition.iter_markers("clause")}
        metafunc.parametrize("version", [VERSIONS[mqtt] for mqtt in VERSIONS if mqtt in marked])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-k MQTT-3.1.0-1` finds the tests of a statement."""
    for item in items:
        for mark in item.iter_markers("clause"):
            item.extra_keyword_matches.update(mark.args[1:])


def _nearest(cluster: Cluster, node: NodeProcess) -> Cluster:
    return Cluster(node.port, node.port if cluster.is_one_node else cluster.far)


def _prefix(request: pytest.FixtureRequest) -> str:
    text: str = request.node.name
    return "".join(letter if letter.isalnum() else "-" for letter in text.removeprefix("test_"))
