"""A node for all tests of a module: each test uses client ids and topics of its own."""

from collections.abc import Iterator

import pytest

from broker.mqtt import MQTT_5, Properties, Will
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import WireClient, connected


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with default settings, but that it lets a client take its session over as often as it likes.
    Tests that kill it or change its state for others start their own."""
    environment = {"MOORLINE_SESSION__TAKEOVERS_PER_MINUTE": "0"}
    with running_node(tmp_path_factory.mktemp("node"), environment=environment) as node:
        yield node


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A prefix for client ids and topics that no other test of the module uses."""
    text: str = request.node.name
    return text.replace("/", "-").replace("+", "-").replace("#", "-").replace("$", "-")


@pytest.fixture
def client(node: NodeProcess, name: str) -> Iterator["Clients"]:
    """Makes connected clients of the module's node; closes them at the end."""
    clients = Clients(node, name)
    yield clients
    clients.close()


class Clients:
    """`client("one")` connects `<test>-one`."""

    def __init__(self, node: NodeProcess, prefix: str) -> None:
        self._node = node
        self._prefix = prefix
        self._opened: list[WireClient] = []

    def id_of(self, suffix: str) -> str:
        """The Client Identifier."""
        return f"{self._prefix}-{suffix}"

    def raw(self, version: int = MQTT_5) -> WireClient:
        """One that has not sent anything."""
        opened = WireClient(self._node.port, version)
        self._opened.append(opened)
        return opened

    def __call__(
        self,
        suffix: str,
        version: int = MQTT_5,
        *,
        clean_start: bool = True,
        keep_alive: int = 0,
        will: Will | None = None,
        properties: Properties | None = None,
    ) -> WireClient:
        opened = connected(
            self._node.port,
            self.id_of(suffix),
            version,
            clean_start=clean_start,
            keep_alive=keep_alive,
            will=will,
            properties=properties,
        )
        self._opened.append(opened)
        return opened

    def close(self) -> None:
        """Closes all sockets."""
        for opened in self._opened:
            opened.close()
