"""The rules of WebSocket, on raw bytes, against a node as a user runs it."""

import time

import pytest

from broker.mqtt import MQTT_5, Connack, Connect, Decoder, Disconnect, Packet, Pingreq, Pingresp, encode
from tests.listeners.conftest import PACKET_MAXIMUM, Listening
from tests.listeners.edge import Edge
from tests.listeners.frames import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    Peer,
    frame,
    request,
)

PROTOCOL_ERROR, UNSUPPORTED, TOO_BIG = 1002, 1003, 1009
EACH_KIND = pytest.mark.parametrize("kind", ["ws", "wss"])
PINGREQ = encode(Pingreq(), MQTT_5)
PINGRESP = encode(Pingresp(), MQTT_5)


def _connect(name: str) -> bytes:
    return encode(Connect(name, MQTT_5, True, 0, None, None, None, None), MQTT_5)


def _packets(frames: list[Frame]) -> list[Packet]:
    packets: list[Packet] = []
    decoder = Decoder(False, 1 << 20, MQTT_5)
    for received in frames:
        if received.opcode == BINARY:
            decoder.feed(received.payload, packets)
    return packets


def _accepted(where: Listening, name: str, kind: str = "ws") -> Peer:
    peer = where.peer(kind)
    peer.send(frame(BINARY, _connect(name)))
    (connack,) = _packets([peer.next()])
    assert isinstance(connack, Connack)
    assert connack.reason_code == 0
    return peer


# The request


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1"), ("mqttv3.1, mqtt", "mqtt"), ("chat,MQTT", "mqtt")],
)
def test_mqtt_6_0_0_4_the_subprotocol_is_told(where: Listening, offered: str, chosen: str) -> None:
    with Peer(where.ws) as peer:
        status, headers = peer.ask(request(headers={"Sec-WebSocket-Protocol": offered}))
        assert (status, headers["sec-websocket-protocol"]) == (101, chosen)
        assert headers["sec-websocket-accept"] == ACCEPT


@pytest.mark.parametrize("connection", ["keep-alive, Upgrade", "upgrade", "Upgrade, HTTP2-Settings"])
def test_connection_is_a_list(where: Listening, connection: str) -> None:
    """As Firefox has it."""
    with Peer(where.ws) as peer:
        assert peer.ask(request(headers={"Connection": connection}))[0] == 101


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (request("/"), 404),
        (request("/mqtt/"), 404),
        (request("/mqttx?/mqtt"), 404),
        (request(headers={"Upgrade": None}), 426),
        (request(headers={"Upgrade": "h2c"}), 426),
        (request(headers={"Connection": "close"}), 426),
        (request(headers={"Sec-WebSocket-Version": "8"}), 426),
        (request(headers={"Sec-WebSocket-Version": None}), 426),
        (request(headers={"Sec-WebSocket-Protocol": None}), 400),
        (request(headers={"Sec-WebSocket-Protocol": "chat"}), 400),
        (request(headers={"Sec-WebSocket-Key": "short"}), 400),
        (request(headers={"Sec-WebSocket-Key": None}), 400),
        (request(headers={"Content-Length": "3"}), 400),
        (request().replace(b"GET", b"POST"), 400),
        (request().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (b"\x10\x0e\x00\x04MQTT\r\n\r\n", 400),
    ],
)
def test_requests_that_are_refused(where: Listening, asked: bytes, status: int) -> None:
    with Peer(where.ws) as peer:
        answer, headers = peer.ask(asked)
        assert answer == status
        assert headers["connection"] == "close"
        if status == 426:
            assert (headers["upgrade"], headers["sec-websocket-version"]) == ("websocket", "13")
        peer.wait_eof()


def test_refused_requests_are_counted(where: Listening) -> None:
    before = where.metric("moorline_handshakes_failed_total", reason="websocket")
    for asked in (request("/elsewhere"), b"GET\r\n\r\n"):
        with Peer(where.ws) as peer:
            peer.send(asked)
            peer.wait_eof()
    with Peer(where.ws):
        pass  # says nothing
    with where.peer("ws"):
        pass  # an open one is none of them
    deadline = time.monotonic() + 5
    while where.metric("moorline_handshakes_failed_total", reason="websocket") < before + 3:
        assert time.monotonic() < deadline
    assert where.metric("moorline_handshakes_failed_total", reason="websocket") == before + 3
    assert "MQTT over WebSocket is at /mqtt" in where.node.output()


def test_a_request_in_pieces_with_packets_after_it(where: Listening, name: str) -> None:
    """A query is nobody's business."""
    whole = request("/mqtt?token=x") + frame(BINARY, _connect(name))
    with Peer(where.ws) as peer:
        for start in range(0, len(whole), 40):
            if start:
                peer.send(whole[start - 40 : start])
                time.sleep(0.001)
        status, _ = peer.ask(whole[start:])
        assert status == 101
        assert isinstance(_packets([peer.next()])[0], Connack)


# Frames


@EACH_KIND
def test_mqtt_6_0_0_2_packets_and_frames_are_not_aligned(where: Listening, name: str, kind: str) -> None:
    """Byte by byte, several in a frame, and in the frames of one message with a ping between."""
    stream = _connect(name) + PINGREQ
    with where.peer(kind) as peer:
        peer.send(*(frame(BINARY, stream[at : at + 1]) for at in range(len(stream))))
        frames = [peer.next()]
        while not isinstance(_packets(frames)[-1], Pingresp):
            frames.append(peer.next())
        assert [type(packet) for packet in _packets(frames)] == [Connack, Pingresp]
        peer.send(frame(BINARY, PINGREQ * 3))
        assert peer.next() == Frame(BINARY, PINGRESP * 3)
        peer.send(
            frame(BINARY, PINGREQ[:1], fin=False),
            frame(PING, b"between"),
            frame(CONTINUATION, b"", fin=False),
            frame(CONTINUATION, PINGREQ[1:] + PINGREQ),
        )
        assert {peer.next(), peer.next()} == {Frame(PONG, b"between"), Frame(BINARY, PINGRESP * 2)}


@EACH_KIND
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ([frame(TEXT, PINGREQ)], UNSUPPORTED),  # [MQTT-6.0.0-1]
        ([frame(TEXT, b"", fin=False)], UNSUPPORTED),
        ([frame(CONTINUATION, PINGREQ)], PROTOCOL_ERROR),
        ([frame(BINARY, b"", fin=False), frame(BINARY, PINGREQ)], PROTOCOL_ERROR),
        ([frame(BINARY, PINGREQ, bits=0x40)], PROTOCOL_ERROR),
        ([frame(BINARY, PINGREQ, bits=0x10)], PROTOCOL_ERROR),
        ([frame(PING, b"", bits=0x20)], PROTOCOL_ERROR),
        ([frame(BINARY, PINGREQ, masked=False)], PROTOCOL_ERROR),
        ([frame(0x3, PINGREQ)], PROTOCOL_ERROR),
        ([frame(0xB, b"")], PROTOCOL_ERROR),
        ([frame(PING, b"", fin=False)], PROTOCOL_ERROR),
        ([frame(PING, bytes(126))], PROTOCOL_ERROR),
        ([frame(CLOSE, b"\x03")], PROTOCOL_ERROR),
        ([frame(BINARY, bytes(PACKET_MAXIMUM + 1))[:20]], TOO_BIG),
    ],
)
def test_frames_that_close_the_connection(
    where: Listening, name: str, kind: str, bad: list[bytes], code: int
) -> None:
    """With the code of RFC 6455, and that connection only."""
    with _accepted(where, f"{name}-other", kind) as other, _accepted(where, name, kind) as peer:
        peer.send(*bad, frame(BINARY, PINGREQ))
        *before, last = peer.wait_closed()
        assert last.close_code == code
        assert not [packet for packet in _packets(before) if not isinstance(packet, Disconnect)]
        other.send(frame(BINARY, PINGREQ))
        assert other.next() == Frame(BINARY, PINGRESP)
    (event,) = [e for e in where.node.events("disconnected") if e["client_id"] == name]
    assert str(event["reason"]).startswith("protocol_error: ")
    assert str(event["peer"]).startswith(f"{kind}:127.0.0.1:")


def test_a_packet_that_is_too_large_gets_its_reason_code(where: Listening, name: str) -> None:
    """As the frame is legal."""
    with _accepted(where, name) as peer:
        peer.send(frame(BINARY, b"\x30" + b"\xff\xff\x7f" + bytes(1000)))
        *before, last = peer.wait_closed()
        (disconnect,) = _packets(before)
        assert isinstance(disconnect, Disconnect)
        assert (disconnect.reason_code, last.close_code) == (0x95, 1000)


@EACH_KIND
def test_the_client_closes(where: Listening, name: str, kind: str) -> None:
    """Its code is sent back, then the node closes the socket."""
    for payload, code in ((b"", 1000), (b"\x03\xe8bye", 1000), (b"\x0f\xa0", 4000)):
        with _accepted(where, name, kind) as peer:
            peer.send(frame(CLOSE, payload))
            assert [received.close_code for received in peer.wait_closed()] == [code]


def test_disconnect_and_close_in_one_piece(where: Listening, name: str) -> None:
    """DISCONNECT counts: no will."""
    with where.peer("ws") as peer:
        peer.send(frame(BINARY, _connect(name)))
        peer.next()
        peer.send(frame(BINARY, encode(Disconnect(0), MQTT_5)), frame(CLOSE, b"\x03\xe8"))
        assert [received.close_code for received in peer.wait_closed()] == [1000]
    (event,) = [e for e in where.node.events("disconnected") if e["client_id"] == name]
    assert event["reason"] == "client disconnected"


def test_the_node_closes_and_waits_for_the_answer(where: Listening, name: str) -> None:
    """A takeover: DISCONNECT, close frame, and the socket once that is answered; without an answer soon."""
    with _accepted(where, name) as first, _accepted(where, name) as second:
        told = _packets([first.next()])
        assert isinstance(told[0], Disconnect)
        assert told[0].reason_code == 0x8E
        assert first.next().close_code == 1000
        began = time.monotonic()
        first.send(frame(BINARY, PINGREQ), frame(CLOSE, b"\x03\xe8"))
        assert first.wait_closed() == []
        assert time.monotonic() - began < 0.95
        with _accepted(where, name):
            assert second.wait_closed(answers=False)[-1].close_code == 1000  # the node waits a second


def test_pings_are_answered(where: Listening, name: str) -> None:
    """Before CONNECT and after it; a pong that nobody asked for is nothing."""
    with where.peer("ws") as peer:
        peer.send(frame(PING, b"one"), frame(PONG, b"two"), frame(PING, bytes(125)))
        assert [peer.next(), peer.next()] == [Frame(PONG, b"one"), Frame(PONG, bytes(125))]
        peer.send(frame(BINARY, _connect(name)), frame(PING))
        assert {peer.next().opcode, peer.next().opcode} == {BINARY, PONG}


# Pages


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 101),
        ("http://127.0.0.1", 101),
        ("https://app.example", 403),
        ("null", 403),
    ],
)
def test_pages_of_this_machine_only_where_nobody_is_asked(where: Listening, origin: str, status: int) -> None:
    before = where.metric("moorline_handshakes_failed_total", reason="origin")
    with Peer(where.ws) as peer:
        assert peer.ask(request(headers={"Origin": origin}))[0] == status
        if status == 403:
            peer.wait_eof()
    failed = before + (status == 403)
    deadline = time.monotonic() + 5
    while where.metric("moorline_handshakes_failed_total", reason="origin") < failed:
        assert time.monotonic() < deadline
    assert where.metric("moorline_handshakes_failed_total", reason="origin") == failed


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://app.example", 101), ("https://APP.example:443", 101), ("http://localhost", 403)],
)
def test_pages_that_are_listed(edge: Edge, origin: str, status: int) -> None:
    with Peer(edge.ports["pages"]) as peer:
        assert peer.ask(request(headers={"Origin": origin, "Host": "broker.example"}))[0] == status
