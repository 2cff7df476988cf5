"""IPv6: real clients by TCP, TLS and WebSocket, rules, and the address in logs."""

import errno
import socket
import subprocess

import pytest

from tests.e2e.program import SECONDS
from tests.listeners.edge import PLACES, Edge
from tests.listeners.proxy_headers import V4, behind, text_header
from tests.listeners.subscribed import subscribed
from tests.node.wire import WireClient
from tests.tools import require_tool


@pytest.mark.parametrize("listener", ["six", "six-any", "six-tls", "six-ws"])
def test_paho(edge: Edge, name: str, listener: str) -> None:
    topic = f"from/loopback-six/{name}"
    context = None
    if listener == "six-tls":
        context = edge.context
        context.check_hostname = False  # the certificate has no name for ::1
    transport = "websockets" if listener == "six-ws" else "tcp"
    with subscribed(
        name,
        topic,
        "::1",
        edge.ports[listener],
        transport=transport,  # type: ignore[arg-type]  # one of the two
        context=context,
    ) as it:
        it.echo(topic, bytes(50_000))
    kind = {"six-tls": "tls:", "six-ws": "ws:"}.get(listener, "")
    assert edge.peer_of(name).startswith(f"{kind}[::1]:")


def test_mosquitto(edge: Edge, name: str) -> None:
    name = f"{name}-six"
    command = [require_tool("mosquitto_pub"), "-h", "::1", "-p", str(edge.ports["six"]), "-i", name]
    subprocess.run([*command, "-t", f"all/{name}", "-m", "x", "-q", "1"], check=True, timeout=SECONDS)
    assert edge.peer_of(name).startswith("[::1]:")


def test_rules(edge: Edge, name: str) -> None:
    with WireClient(0, carrier=behind(edge.ports["six-any"], b"", host="::1")) as client:
        assert client.connect(name).reason_code == 0
        codes = client.subscribe(*(f"from/{each}/x" for each in PLACES)).reason_codes
        assert [each for each, code in zip(PLACES, codes, strict=True) if code == 0] == ["loopback-six"]


def test_a_proxy_on_ipv6_for_clients_on_ipv4(edge: Edge, name: str) -> None:
    connection = behind(edge.ports["six-proxied"], text_header(V4, 5), host="::1")
    with WireClient(0, carrier=connection) as client:
        assert client.connect(name).reason_code == 0
    assert edge.peer_of(name) == "192.0.2.7:5"


def test_all_of_ipv6_is_nothing_of_ipv4(edge: Edge) -> None:
    """So there is no client whose address is one within the other."""
    with socket.socket() as opened:  # to an address that no other test listens at, perhaps with this port
        assert opened.connect_ex(("127.77.0.1", edge.ports["six-any"])) == errno.ECONNREFUSED
