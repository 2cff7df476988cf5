"""Two nodes for all tests here: one whose listeners have limits of their own, one with limits of a node. Each
test has client ids, topics and, where addresses count, an address of its own: all of 127.0.0.0/8 are ours."""

import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.node.harness import NodeProcess, running_node
from tests.node.wire import WireClient
from tests.tools import Certificate, make_certificate

SECONDS = 5.0
CONNECT_SECONDS = 1.0
HANDSHAKE_SECONDS = 1.0

LISTENERS = {
    "few": {"ADDRESS": "mqtt://127.0.0.1:0", "CONNECTIONS_MAXIMUM": "3"},
    "paced": {"ADDRESS": "mqtt://127.0.0.1:0", "CONNECTS_PER_SECOND": "20"},
    "slow": {"ADDRESS": "mqtt://127.0.0.1:0", "MESSAGES_PER_SECOND": "200"},
    "thin": {"ADDRESS": "mqtt://127.0.0.1:0", "BYTES_PER_SECOND": "20000"},
    "web": {"ADDRESS": "ws://127.0.0.1:0", "MESSAGES_PER_SECOND": "200"},
    "tenants": {"ADDRESS": "mqtt://127.0.0.1:0", "TOTAL_MESSAGES_PER_SECOND": "200"},
}


@dataclass(frozen=True)
class Limited:
    """A node, and the ports of its listeners in the order of their names."""

    node: NodeProcess
    ports: dict[str, int]

    def wire(self, listener: str = "", version: int = 5, source: str = "127.0.0.1") -> WireClient:
        """A client at that listener, at `--listen` if none is named."""
        return WireClient(0, version, carrier=self.socket(listener, source))

    def socket(self, listener: str = "", source: str = "127.0.0.1") -> socket.socket:
        """Connected, with nothing sent."""
        port = self.ports[listener] if listener else self.node.port
        return socket.create_connection(("127.0.0.1", port), SECONDS, (source, 0))

    def refuses(self, listener: str = "", source: str = "127.0.0.1", seconds: float = SECONDS) -> bool:
        """Whether somebody who comes is sent away at once: perhaps before it knows that it is connected."""
        try:
            connection = self.socket(listener, source)
        except ConnectionError:
            return True
        try:
            return is_closed(connection, seconds)
        finally:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of /metrics with these labels, 0 if there is none yet."""
        families = text_string_to_metric_families(self.node.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def refused(self, limit: str) -> float:
        """How often that limit has refused something."""
        return self.metric("moorline_refused_total", limit=limit)

    def throttled(self, limit: str) -> float:
        """How often somebody had to wait by that limit."""
        return self.metric("moorline_throttled_total", limit=limit)

    def lines(self, limit: str) -> list[dict[str, object]]:
        """What the log says of that limit."""
        return [line for line in self.node.events("limit reached") if line["limit"] == limit]

    def wait_metric(self, name: str, value: float, **labels: str) -> None:
        """Some figures are brought up to date twice a second."""
        self._wait(lambda found: found == value, name, labels)

    def wait_at_least(self, name: str, value: float, **labels: str) -> None:
        """The same, where others may count too."""
        self._wait(lambda found: found >= value, name, labels)

    def _wait(self, is_reached: Callable[[float], bool], name: str, labels: dict[str, str]) -> None:
        deadline = time.monotonic() + SECONDS
        while not is_reached(self.metric(name, **labels)):
            assert time.monotonic() < deadline, f"{name} is {self.metric(name, **labels)}"
            time.sleep(0.05)


def is_closed(connection: socket.socket, seconds: float = SECONDS) -> bool:
    """Whether the node closes it within that time, without a word."""
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    """Limits of listeners; what may come at once is that of 0.2 s."""
    environment = {"MOORLINE_LIMITS__BURST_SECONDS": "0.2", "MOORLINE_NODE__LOG_FORMAT": "json"}
    for name, fields in LISTENERS.items():
        for field, value in fields.items():
            environment[f"MOORLINE_LISTENERS__{name.upper()}__{field}"] = value
    with running_node(tmp_path_factory.mktemp("listeners"), environment=environment) as node:
        yield Limited(node, _ports(node, list(LISTENERS)))


@pytest.fixture(scope="session")
def limited(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Limited]:
    """Limits of the node."""
    limits = {
        "CONNECTIONS_MAXIMUM": "60",
        "CONNECTIONS_PER_ADDRESS": "20",
        "CONNECTS_PER_SECOND_PER_ADDRESS": "100",
        "BURST_SECONDS": "0.3",
        "HALF_OPEN_CONNECTIONS": "10",
        "STALLED_SECONDS": "1",
        "THROTTLED_SECONDS": "1",
        "TOPIC_BYTES": "50",
        "TOPIC_LEVELS": "5",
        "FILTERS_PER_PACKET": "10",
        "SUBSCRIPTIONS_PER_SESSION": "15",
    }
    environment = {f"MOORLINE_LIMITS__{name}": value for name, value in limits.items()}
    environment |= {
        "MOORLINE_NODE__LOG_FORMAT": "json",
        "MOORLINE_MQTT__CONNECT_TIMEOUT_SECONDS": str(CONNECT_SECONDS),
        "MOORLINE_MQTT__TOPIC_LEVELS_MAXIMUM": "8",
        "MOORLINE_LISTENERS__STRICT__ADDRESS": "mqtt://127.0.0.1:0",
        "MOORLINE_LISTENERS__STRICT__MESSAGES_PER_SECOND": "100",
        "MOORLINE_LISTENERS__COMMON__ADDRESS": "mqtt://127.0.0.1:0",
        "MOORLINE_LISTENERS__COMMON__TOTAL_MESSAGES_PER_SECOND": "100",
        "MOORLINE_LISTENERS__SECURE__ADDRESS": "mqtts://127.0.0.1:0",
        "MOORLINE_LISTENERS__SECURE__CERTIFICATE": str(certificate.file),
        "MOORLINE_LISTENERS__SECURE__KEY": str(certificate.key),
        "MOORLINE_LISTENERS__SECURE__HANDSHAKE_TIMEOUT_SECONDS": str(HANDSHAKE_SECONDS),
        "MOORLINE_LISTENERS__WEB__ADDRESS": "ws://127.0.0.1:0",
        "MOORLINE_LISTENERS__WEB__HANDSHAKE_TIMEOUT_SECONDS": str(HANDSHAKE_SECONDS),
        "MOORLINE_AUTH__REDIS_USERS": "true",
        "MOORLINE_AUTH__SCRAM": "true",
        "MOORLINE_NODE__ALLOW_ANONYMOUS": "true",
    }
    with running_node(tmp_path_factory.mktemp("limited"), environment=environment) as node:
        yield Limited(node, _ports(node, ["strict", "common", "secure", "web"]))


def _ports(node: NodeProcess, names: list[str]) -> dict[str, int]:
    """Those after that of `--listen`, as the node tells them."""
    found = re.findall(r"^  (?:mqtts?|wss?) +127\.0\.0\.1:(\d+)", node.output(), re.MULTILINE)
    return dict(zip(names, map(int, found[1:]), strict=True))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A prefix for client ids and topics that no other test uses."""
    text: str = request.node.name
    return re.sub(r"[^a-z0-9]", "-", text)[:30]
