"""One server of each kind for all tests of the library in a worker; each test has its own key prefix."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from cluster.store.library import library_source
from tests.store.caller import Caller
from tests.store.servers import KINDS, running_server


@pytest.fixture(scope="session", params=KINDS)
def redis_client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[redis.Redis]:
    """A plain synchronous client of a server that has the library."""
    directory = Path(tmp_path_factory.mktemp("redis"))
    with running_server(request.param, directory, "--stream-node-max-bytes", "512") as server:
        client = redis.Redis(unix_socket_path=server.url.removeprefix("unix://"))
        client.function_load(library_source(), replace=True)
        yield client
        client.close()


@pytest.fixture
def caller(redis_client: redis.Redis) -> Caller:
    """A node that calls the library."""
    redis_client.config_set("maxmemory", 0)
    return Caller.with_new_prefix(redis_client)
