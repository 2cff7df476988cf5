"""TLS, against a node as a user runs it: what is agreed on, and handshakes that fail."""

import json
import socket
import ssl
import time
from collections.abc import Callable

import pytest

from tests.listeners.conftest import HASTY_SECONDS, Listening
from tests.listeners.frames import Peer

SECONDS = 5.0


def _failed(where: Listening, reason: str) -> float:
    return where.metric("moorline_handshakes_failed_total", reason=reason)


def _wait_until_failed(where: Listening, reason: str, count: float) -> None:
    deadline = time.monotonic() + SECONDS
    while _failed(where, reason) < count:
        assert time.monotonic() < deadline, f"{reason} stays at {_failed(where, reason)}"
    assert _failed(where, reason) == count


def _wait_eof(plain: socket.socket) -> None:
    try:
        while plain.recv(65_536):
            pass
    except ConnectionError:
        pass


def test_what_is_agreed_on(where: Listening) -> None:
    """TLS 1.3 with who has it, `mqtt` by ALPN; http/1.1 for WebSocket, as browsers ask for that."""
    for port, protocol in ((where.tls, "mqtt"), (where.wss, "http/1.1")):
        with Peer(port, where.context) as peer:
            assert isinstance(peer.socket, ssl.SSLSocket)
            assert peer.socket.version() == "TLSv1.3"
            assert peer.socket.selected_alpn_protocol() == protocol
            assert peer.socket.compression() is None


def test_tls_1_2_by_the_servers_preference(where: Listening) -> None:
    context = where.context
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-SHA:ECDHE-ECDSA-AES256-GCM-SHA384")
    context.set_alpn_protocols(["something"])  # no answer, no refusal
    with Peer(where.tls, context) as peer:
        assert isinstance(peer.socket, ssl.SSLSocket)
        cipher = peer.socket.cipher()
        assert cipher is not None
        assert cipher[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        assert peer.socket.selected_alpn_protocol() is None


def _old_version(context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1


def _old_cipher(context: ssl.SSLContext) -> None:
    context.set_ciphers("ECDHE-ECDSA-AES256-SHA")
    context.maximum_version = ssl.TLSVersion.TLSv1_2


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("change", [_old_version, _old_cipher])
def test_what_is_not_agreed_on(where: Listening, change: Callable[[ssl.SSLContext], None]) -> None:
    context = where.context
    change(context)
    before = _failed(where, "tls")
    with pytest.raises(ssl.SSLError):
        Peer(where.tls, context)
    _wait_until_failed(where, "tls", before + 1)


def test_handshakes_that_fail_are_counted_and_end_only_themselves(where: Listening, name: str) -> None:
    """MQTT without TLS, a client that distrusts the certificate, one that hangs up."""
    with where.wire("tls") as other:
        assert other.connect(name).reason_code == 0
        before = _failed(where, "tls")
        with socket.create_connection(("127.0.0.1", where.tls), SECONDS) as plain:
            plain.sendall(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01x")
            _wait_eof(plain)
        with pytest.raises(ssl.SSLCertVerificationError):
            Peer(where.wss, ssl.create_default_context())
        socket.create_connection(("127.0.0.1", where.tls), SECONDS).close()
        _wait_until_failed(where, "tls", before + 3)
        other.ping()
    lines = [json.loads(line) for line in where.node.output().splitlines() if "TLS handshake failed" in line]
    assert {line["level"] for line in lines} == {"debug"}
    assert all(line["peer"].startswith("127.0.0.1:") for line in lines)
    told = {line["message"].partition(": ")[2] for line in lines}
    assert {"wrong version number", "tlsv1 alert unknown ca"} <= told


def test_a_handshake_has_its_time(where: Listening) -> None:
    """Nothing is said, or TLS is agreed on and then no request for WebSocket comes."""
    late, refused = _failed(where, "tls_timeout"), _failed(where, "websocket")
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", where.hasty), SECONDS) as plain:
        plain.sendall(b"\x16")
        _wait_eof(plain)
    assert time.monotonic() - began > HASTY_SECONDS * 0.9
    _wait_until_failed(where, "tls_timeout", late + 1)
    with Peer(where.hasty, where.context) as peer:
        peer.wait_eof()
    _wait_until_failed(where, "websocket", refused + 1)
