"""Nodes of one cluster, for all tests of a module: each test uses client ids and topics of its own. And a
Redis for tests of what nodes are made of, each with a key prefix of its own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from cluster.store.library import library_source
from tests.node.harness import NodeProcess, running_node
from tests.node.redis_server import RedisServer, running_redis
from tests.store.caller import Caller
from tests.store.servers import RunningServer, running_server


@contextlib.contextmanager
def running_nodes(
    directory: Path, url: str, count: int, environment: dict[str, str] | None = None
) -> Iterator[list[NodeProcess]]:
    """Nodes named node-1, node-2, ... on one Redis."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for number in range(1, count + 1):
            name = f"node-{number}"
            place = directory / name
            place.mkdir()
            node = running_node(place, "--redis", url, "--node-name", name, environment=environment)
            nodes.append(stack.enter_context(node))
        yield nodes


@pytest.fixture(scope="module")
def redis_of_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """What the nodes of the module share."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def nodes(
    redis_of_cluster: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """Two nodes; tests that kill one start their own."""
    with running_nodes(tmp_path_factory.mktemp("nodes"), redis_of_cluster.url, 2) as (first, second):
        yield first, second


@pytest.fixture
def anyio_backend() -> str:
    """Of the tests that have a loop."""
    return "asyncio"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A Valkey that has an append-only file."""
    with running_server("valkey", Path(tmp_path_factory.mktemp("redis")), "--appendonly", "yes") as running:
        yield running


@pytest.fixture
def node_caller(server: RunningServer) -> Iterator[Caller]:
    """A node as the function library sees it, in a cluster of its own."""
    with redis.Redis(unix_socket_path=server.url.removeprefix("unix://")) as client:
        client.function_load(library_source(), replace=True)
        yield Caller.with_new_prefix(client)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A prefix for client ids and topics that no other test of the module uses."""
    text: str = request.node.name
    return text.replace("/", "-").replace("+", "-").replace("#", "-").replace("$", "-")
