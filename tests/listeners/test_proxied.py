"""Behind a proxy that speaks the PROXY protocol: HAProxy with real clients, and headers made by hand."""

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.mqtt import MQTT_5, Connack, Connect, encode
from tests.listeners.conftest import metric_of
from tests.listeners.edge import HASTY_SECONDS, PLACES, Edge
from tests.listeners.frames import Carrier, Peer, request
from tests.listeners.proxy_headers import (
    HEALTH_CHECK,
    UNKNOWN,
    V4,
    V6,
    behind,
    binary_header,
    text_header,
)
from tests.listeners.subscribed import subscribed
from tests.node.wire import WireClient
from tests.ports import free_port
from tests.tools import require_tool

SECONDS = 5.0
CLIENT = "127.0.0.9"
"""Where clients of HAProxy are; HAProxy itself is at 127.0.0.1."""

WAYS = {
    "v1": ("proxied", "send-proxy"),
    "v2": ("proxied", "send-proxy-v2"),
    "v2-extras": ("proxied", "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
    "tls-v1": ("proxied-tls", "send-proxy"),
    "tls-v2": ("proxied-tls", "send-proxy-v2"),
    "ws-v1": ("proxied-ws", "send-proxy"),
    "wss-v2": ("proxied-wss", "send-proxy-v2"),
    "unix-v2": ("unix-proxied", "send-proxy-v2"),
}
"""Ports of HAProxy: the listener behind each, and how it is told."""


@pytest.fixture(scope="module")
def haproxy(edge: Edge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Its ports, once it thinks that all listeners are well: its checks have headers, too."""
    directory = tmp_path_factory.mktemp("haproxy")
    ports = {way: free_port() for way in WAYS}
    runtime = directory / "runtime.sock"
    text = f"global\n    stats socket {runtime}\ndefaults\n    mode tcp\n"
    text += "    timeout connect 5s\n    timeout check 5s\n    timeout client 1m\n    timeout server 1m\n"
    for way, (listener, option) in WAYS.items():
        place = f"unix@{edge.sockets[listener]}" if listener in edge.sockets else ""
        place = place or f"127.0.0.1:{edge.ports[listener]}"
        text += f"listen {way}\n    bind 127.0.0.1:{ports[way]}\n"
        text += f"    server {way} {place} {option} check inter 100ms rise 2\n"
    file = directory / "haproxy.cfg"
    file.write_text(text)
    with (directory / "log").open("wb") as log:
        program = [require_tool("haproxy"), "-db", "-f", str(file)]
        process = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_until_up(runtime, process, directory / "log")
        yield ports
    finally:
        process.terminate()
        process.wait(SECONDS)


def _wait_until_up(runtime: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    checked = 0
    while checked < len(WAYS):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        if runtime.exists():
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(str(runtime))
                asking.sendall(b"show stat\n")
                answer = b"".join(iter(lambda: asking.recv(65_536), b"")).decode()
            checked = answer.count(",UP,")
        time.sleep(0.02)


@pytest.mark.parametrize("way", WAYS)
def test_haproxy(edge: Edge, haproxy: dict[str, int], name: str, way: str) -> None:
    kind = {"proxied": "", "unix-proxied": "unix:"}.get(WAYS[way][0], f"{way.partition('-')[0]}:")
    context = edge.context if kind in ("tls:", "wss:") else None
    transport = "websockets" if kind.startswith("ws") else "tcp"
    topic = f"from/loopback/{name}"
    with subscribed(
        name,
        topic,
        "localhost",
        haproxy[way],
        transport=transport,  # type: ignore[arg-type]  # one of the two
        context=context,
        bind_address=CLIENT,
    ) as it:
        it.echo(topic, bytes(50_000))
    assert edge.peer_of(name).startswith(f"{kind}{CLIENT}:")


def test_health_checks_of_haproxy_fail_nowhere(edge: Edge, haproxy: dict[str, int]) -> None:
    before = _failed(edge, "proxy_header")
    time.sleep(0.3)  # three checks of each
    assert _failed(edge, "proxy_header") == before


# Headers made by hand


@pytest.mark.parametrize(
    ("header", "place", "address"),
    [
        (text_header(V4, 4711), "four", "192.0.2.7"),
        (text_header(V6, 4711), "six", "2001:db8::7"),
        (binary_header(V4, 4711, b"\x04\x00\x01x"), "four", "192.0.2.7"),
        (binary_header(V6, 4711), "six", "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4711 1883\r\n", "four", "192.0.2.7"),
        (UNKNOWN, "loopback", "127.0.0.1"),
        (HEALTH_CHECK, "loopback", "127.0.0.1"),
    ],
)
def test_rules_and_logs_have_the_clients_address(
    edge: Edge, name: str, header: bytes, place: str, address: str
) -> None:
    with WireClient(0, carrier=behind(edge.ports["proxied"], header)) as client:
        assert client.connect(name).reason_code == 0
        codes = client.subscribe(*(f"from/{each}/x" for each in PLACES)).reason_codes
        assert [each for each, code in zip(PLACES, codes, strict=True) if code == 0] == [place]
    assert address in edge.peer_of(name)
    denied = [event for event in edge.node.events("denied") if event["client_id"] == name]
    assert {event["address"] for event in denied} == {address}


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_a_header_in_pieces_with_packets_behind_it(edge: Edge, name: str, pieces: int) -> None:
    """No byte of either is lost to the other."""
    whole = text_header(V4, 5) + encode(Connect(name, MQTT_5, True, 0), MQTT_5)
    with WireClient(0, carrier=_in_pieces(edge.ports["proxied"], whole, pieces)) as client:
        assert client.expect(Connack).reason_code == 0


def _in_pieces(port: int, data: bytes, pieces: int) -> socket.socket:
    size = -(-len(data) // pieces)
    plain = behind(port, b"")
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(data), size):
        plain.sendall(data[start : start + size])
        time.sleep(0.002)
    return plain


@pytest.mark.parametrize("pieces", [1, 2, 50])
@pytest.mark.parametrize("header", [text_header(V6, 5), binary_header(V4, 5)])
def test_tls_behind_a_header(edge: Edge, name: str, header: bytes, pieces: int) -> None:
    """In the same segment as the ClientHello, or not."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = edge.context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    plain: socket.socket | None = None
    while True:
        try:
            secure.do_handshake()
        except ssl.SSLWantReadError:
            if plain is None:
                plain = _in_pieces(edge.ports["proxied-tls"], header + outgoing.read(), pieces)
            incoming.write(plain.recv(65_536))
            continue
        break
    assert plain is not None
    with plain:
        secure.write(encode(Connect(name, MQTT_5, True, 0), MQTT_5))
        plain.sendall(outgoing.read())
        while True:
            incoming.write(plain.recv(65_536))
            try:
                answer = secure.read()
            except ssl.SSLWantReadError:
                continue  # tickets
            break
    assert answer[0] == 0x20
    assert edge.peer_of(name).startswith("tls:")
    assert edge.peer_of(name).endswith(":5")


def test_websocket_behind_a_header(edge: Edge, name: str) -> None:
    with Peer(edge.ports["proxied-ws"]) as peer:
        status, _ = peer.ask(binary_header(V4, 5) + request())
        assert status == 101
        with WireClient(0, carrier=Carrier(peer)) as client:
            assert client.connect(name).reason_code == 0
    assert edge.peer_of(name) == "ws:192.0.2.7:5"


def test_a_page_that_is_refused_is_told_with_its_address(edge: Edge) -> None:
    with Peer(edge.ports["proxied-ws"]) as peer:
        asked = request(headers={"Origin": "http://evil.example"})
        assert peer.ask(binary_header(V4, 6) + asked)[0] == 403
        peer.wait_eof()
    edge.node.wait_for("pages of this origin")
    lines = [json.loads(line) for line in edge.node.output().splitlines() if "pages of this origin" in line]
    assert "192.0.2.7" in lines[-1]["peer"]


# Who is refused


def _failed(edge: Edge, reason: str) -> float:
    return metric_of(edge.node, "moorline_handshakes_failed_total", reason=reason)


def _wait_until_failed(edge: Edge, reason: str, count: float) -> None:
    deadline = time.monotonic() + SECONDS
    while _failed(edge, reason) < count:
        assert time.monotonic() < deadline, f"{reason} stays at {_failed(edge, reason)}"
    assert _failed(edge, reason) == count


def _is_closed(plain: socket.socket) -> bool:
    """With nothing said."""
    with plain:
        try:
            return plain.recv(1) == b""
        except ConnectionError:
            return True


@pytest.mark.parametrize(
    ("listener", "said"),
    [
        ("proxied", encode(Connect("c", MQTT_5, True, 0), MQTT_5)),
        ("proxied", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 x\r\n"),
        ("proxied", b"PROXY UNKNOWN " + b"x" * 100),
        ("proxied-tls", b"\x16\x03\x01\x02\x00\x01"),
        ("proxied-ws", request()),
        ("proxied-wss", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"),
    ],
)
def test_who_sends_no_header_is_closed(edge: Edge, listener: str, said: bytes) -> None:
    before = _failed(edge, "proxy_header")
    assert _is_closed(behind(edge.ports[listener], said))
    _wait_until_failed(edge, "proxy_header", before + 1)


def test_who_hangs_up_before_a_header_is_counted(edge: Edge) -> None:
    before = _failed(edge, "proxy_header")
    behind(edge.ports["proxied"], b"PROXY ").close()
    _wait_until_failed(edge, "proxy_header", before + 1)


def test_a_proxy_that_is_not_trusted_is_closed_at_once(edge: Edge) -> None:
    before = _failed(edge, "proxy_untrusted")
    assert _is_closed(behind(edge.ports["strict"], text_header(V4, 5)))
    _wait_until_failed(edge, "proxy_untrusted", before + 1)


@pytest.mark.parametrize("said", [b"", b"PROXY TCP4 "])
def test_a_header_has_its_time(edge: Edge, said: bytes) -> None:
    before = _failed(edge, "proxy_timeout")
    began = time.monotonic()
    assert _is_closed(behind(edge.ports["hasty"], said))
    assert HASTY_SECONDS * 0.9 < time.monotonic() - began < HASTY_SECONDS + 2
    _wait_until_failed(edge, "proxy_timeout", before + 1)


def test_tls_has_what_is_left_of_it(edge: Edge) -> None:
    before = _failed(edge, "tls_timeout")
    with behind(edge.ports["hasty"], b"") as plain:
        time.sleep(HASTY_SECONDS * 0.6)
        began = time.monotonic()
        plain.sendall(text_header(V4, 5) + b"\x16")
        try:
            while plain.recv(100):
                pass
        except ConnectionError:
            pass
        assert time.monotonic() - began < HASTY_SECONDS * 0.9
    _wait_until_failed(edge, "tls_timeout", before + 1)


def test_listeners_without_a_proxy_know_no_header(edge: Edge) -> None:
    """Nobody can say there that he is somewhere else."""
    with behind(edge.node.port, text_header(V4, 5)) as plain:
        assert _is_closed(plain)


def test_no_traceback(edge: Edge) -> None:
    """Of all tests before."""
    assert "Traceback" not in edge.node.log.read_text()
