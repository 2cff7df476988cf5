"""Clients that other people wrote, against a node that runs as a user runs it."""

from collections.abc import Iterator

import pytest

from tests.node.harness import NodeProcess, running_node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One for all tests of a module, which use topics and client ids of their own."""
    with running_node(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A prefix for client ids and topics that no other test of the module uses."""
    text: str = request.node.name
    return text
