"""One node with a listener of each kind, for all tests here; clients and topics are each test's own."""

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.listeners.edge import Edge, running_edge
from tests.listeners.frames import Carrier, Peer, trusting
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import WireClient
from tests.tools import Certificate, make_certificate

PACKET_MAXIMUM = 300_000
HASTY_SECONDS = 0.5
ADDRESSES = {
    "tls": "mqtts://127.0.0.1:0",
    "ws": "ws://127.0.0.1:0",
    "wss": "wss://127.0.0.1:0/mqtt",
    "hasty": "wss://127.0.0.1:0/hasty",
}


@dataclass(frozen=True)
class Listening:
    """The node, and where it listens."""

    node: NodeProcess
    certificate: Certificate
    tls: int
    ws: int
    wss: int
    hasty: int

    @property
    def context(self) -> ssl.SSLContext:
        """A client's side of TLS."""
        return trusting(str(self.certificate.file))

    def peer(self, kind: str) -> Peer:
        """A WebSocket connection."""
        port = self.wss if kind == "wss" else self.ws
        return Peer(port, self.context if kind == "wss" else None).upgrade()

    def wire(self, kind: str, version: int = 5) -> WireClient:
        """A client, by TCP, TLS, WebSocket or secure WebSocket."""
        if kind == "tcp":
            return WireClient(self.node.port, version)
        if kind == "tls":
            return WireClient(0, version, carrier=Peer(self.tls, self.context).socket)
        return WireClient(0, version, carrier=Carrier(self.peer(kind)))

    def metric(self, name: str, **labels: str) -> float:
        """A sample of /metrics."""
        return metric_of(self.node, name, **labels)


def metric_of(node: NodeProcess, name: str, **labels: str) -> float:
    """A sample of a node's /metrics."""
    (value,) = [
        sample.value
        for family in text_string_to_metric_families(node.get("/metrics").text)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return value


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def listener_environment(certificate: Certificate) -> dict[str, str]:
    """The variables that make a listener of each kind."""
    environment = {}
    for name, address in ADDRESSES.items():
        variable = f"MOORLINE_LISTENERS__{name.upper()}__"
        environment[variable + "ADDRESS"] = address
        if name != "ws":
            environment[variable + "CERTIFICATE"] = str(certificate.file)
            environment[variable + "KEY"] = str(certificate.key)
    return environment | {"MOORLINE_LISTENERS__HASTY__HANDSHAKE_TIMEOUT_SECONDS": str(HASTY_SECONDS)}


def listening(node: NodeProcess, certificate: Certificate) -> Listening:
    """Reads the ports from what the node says."""
    found = re.findall(r"^  (mqtts|wss?) +127\.0\.0\.1:(\d+)(/\w+)?$", node.output(), re.MULTILINE)
    ports = {(scheme, path): int(port) for scheme, port, path in found}
    return Listening(
        node,
        certificate,
        tls=ports["mqtts", ""],
        ws=ports["ws", "/mqtt"],
        wss=ports["wss", "/mqtt"],
        hasty=ports["wss", "/hasty"],
    )


@pytest.fixture(scope="session")
def where(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Listening]:
    environment = listener_environment(certificate) | {
        "MOORLINE_MQTT__MAXIMUM_PACKET_SIZE": str(PACKET_MAXIMUM),
        "MOORLINE_LIMITS__INBOUND_UNACKNOWLEDGED_BYTES": "100000",
        "MOORLINE_NODE__LOG_LEVEL": "debug",
    }
    with running_node(tmp_path_factory.mktemp("node"), environment=environment) as node:
        yield listening(node, certificate)


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Edge]:
    with running_edge(tmp_path_factory.mktemp("edge"), certificate) as edge:
        yield edge


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A prefix for client ids and topics that no other test uses."""
    text: str = request.node.name
    return text
