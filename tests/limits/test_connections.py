"""How many connections there may be, and how fast they may come: what is refused, and that others are not."""

import socket
import ssl
import time
from contextlib import ExitStack, closing

import pytest

from broker.mqtt import MQTT_5, Auth, Connack, Connect, Properties, ReasonCode, encode
from tests.limits.conftest import CONNECT_SECONDS, HANDSHAKE_SECONDS, SECONDS, Limited, is_closed
from tests.node.wire import WireClient

OFFENCES = 1000


def test_a_listener_has_so_many_places(listeners: Limited, name: str) -> None:
    limit = "listeners.few.connections_maximum"
    with ExitStack() as stack:
        inside = [stack.enter_context(listeners.wire("few")) for _ in range(3)]
        for number, client in enumerate(inside):
            assert client.connect(f"{name}{number}").reason_code == 0
        for _ in range(OFFENCES):
            assert listeners.refuses("few")
        assert listeners.refused(limit) == OFFENCES
        told = listeners.lines(limit)
        assert 1 <= len(told) <= 3  # one at once, then one each 5 s
        assert told[0]["listener"] == "few"
        assert told[0]["address"] == "127.0.0.1"
        assert sum(int(str(line["times"])) for line in told) <= OFFENCES
        assert all(client.ping() == [] for client in inside)
        with listeners.wire() as elsewhere:
            assert elsewhere.connect(f"{name}-elsewhere").reason_code == 0
        inside[0].disconnect()
        _wait_until_in(listeners, "few", name)


def _wait_until_in(where: Limited, listener: str, client_id: str) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with where.wire(listener) as client:
                assert client.connect(client_id).reason_code == 0
                return
        except ConnectionError:
            assert time.monotonic() < deadline, "the place is not given back"


def test_a_listener_takes_so_many_a_second(listeners: Limited, name: str) -> None:
    """The others wait in the kernel, and get in."""
    started = time.monotonic()
    with ExitStack() as stack:
        clients = [stack.enter_context(listeners.wire("paced")) for _ in range(24)]
        for number, client in enumerate(clients):
            client.send(Connect(f"{name}{number}", 5, True, 0, None, None, None, None))
        with listeners.wire() as elsewhere:
            assert elsewhere.connect(f"{name}-elsewhere").reason_code == 0
            assert time.monotonic() - started < 0.9
        for client in clients:
            assert client.next()
    assert time.monotonic() - started >= 0.9  # 20 of them, after 4 at once
    assert listeners.throttled("listeners.paced.connects_per_second") >= 10
    assert len(listeners.lines("listeners.paced.connects_per_second")) <= 2


def test_an_address_has_so_many_places(limited: Limited, name: str) -> None:
    with ExitStack() as stack:
        for number in range(20):
            client = stack.enter_context(limited.wire(source="127.0.0.2"))
            assert client.connect(f"{name}{number}").reason_code == 0
        assert limited.refuses(source="127.0.0.2")
        assert limited.refused("connections_per_address") == 1
        (line,) = limited.lines("connections_per_address")
        assert line["address"] == "127.0.0.2"
        with limited.wire(source="127.0.0.3") as other:
            assert other.connect(f"{name}-other").reason_code == 0


def test_an_address_comes_so_many_times_a_second(limited: Limited, name: str) -> None:
    """30 at once, 100 a second."""
    assert any(limited.refuses(source="127.0.0.4", seconds=0.001) for _ in range(OFFENCES))
    assert limited.refused("connects_per_second_per_address") >= 1
    with limited.wire(source="127.0.0.5") as other:
        assert other.connect(name).reason_code == 0
    _wait_until_let_in("127.0.0.4", limited, name)


def _wait_until_let_in(source: str, limited: Limited, client_id: str) -> None:
    time.sleep(0.1)  # in which ten more may come
    with limited.wire(source=source) as client:
        assert client.connect(client_id).reason_code == 0


def test_the_node_has_so_many_places(limited: Limited, name: str) -> None:
    limited.wait_metric("moorline_connections", 0)
    with ExitStack() as stack:
        clients = []
        for number in range(60):
            client = stack.enter_context(limited.wire(source=f"127.0.1.{1 + number // 12}"))
            assert client.connect(f"{name}{number}").reason_code == 0
            clients.append(client)
        assert limited.refuses(source="127.0.1.9")
        assert limited.refused("connections_maximum") == 1
        assert clients[0].ping() == []
        limited.wait_metric("moorline_connections_limit", 60)
    limited.wait_metric("moorline_connections", 0)


@pytest.mark.parametrize(("listener", "octet"), [("", 1), ("secure", 2), ("web", 3)])
def test_those_who_say_nothing_make_room_for_others(
    limited: Limited, name: str, listener: str, octet: int
) -> None:
    """Before a CONNECT, before a handshake, before a request: the oldest are closed, who comes gets in."""
    limited.wait_metric("moorline_connections_half_open", 0)
    before = limited.refused("half_open_connections")
    with ExitStack() as stack:
        honest = stack.enter_context(limited.wire(source="127.0.2.1"))
        assert honest.connect(f"{name}-honest").reason_code == 0
        silent = [
            stack.enter_context(closing(limited.socket(listener, f"127.0.2.{10 * octet + number // 10}")))
            for number in range(40)
        ]
        assert all(is_closed(each) for each in silent[:30])
        late = stack.enter_context(limited.wire(source="127.0.2.1"))
        assert late.connect(f"{name}-late").reason_code == 0
        assert is_closed(silent[30])
        assert honest.ping() == []
        assert limited.refused("half_open_connections") >= before + 30
        assert len(limited.lines("half_open_connections")) <= 4


def test_who_begins_to_authenticate_and_stops_makes_room_for_others(limited: Limited, name: str) -> None:
    """10 may wait at a time. The oldest is told so, or that it took too long, where the machine does."""
    before = limited.refused("half_open_connections")
    first = Properties(authentication_method="SCRAM-SHA-256", authentication_data=b"n,,n=nobody,r=abc")
    answers: list[int] = []
    with ExitStack() as stack:
        begun: list[WireClient] = []
        while ReasonCode.SERVER_BUSY not in answers and len(begun) < 60:
            number = len(begun)
            client = stack.enter_context(limited.wire(source=f"127.0.3.{1 + number // 10}"))
            client.send(Connect(f"{name}{number}", MQTT_5, True, 0, None, None, None, first))
            client.expect(Auth)
            begun.append(client)
            if number >= 10:
                answers.append(begun[number - 10].expect(Connack).reason_code)
        assert set(answers) <= {ReasonCode.SERVER_BUSY, ReasonCode.NOT_AUTHORIZED}
        assert ReasonCode.SERVER_BUSY in answers
        assert limited.refused("half_open_connections") > before
        assert limited.metric("moorline_connections_authenticating") <= 10
        with limited.wire(source="127.0.3.9") as honest:
            assert honest.connect(f"{name}-honest").reason_code == 0


def _drip(connection: socket.socket, data: bytes) -> float:
    """A byte each 0.1 s; after how many seconds the node closes."""
    started = time.monotonic()
    for number in range(len(data)):
        try:
            connection.sendall(data[number : number + 1])
        except ConnectionError:
            break
        if is_closed(connection, 0.1):
            break
    else:
        raise AssertionError("the node has waited for all of it")
    return time.monotonic() - started


def test_dripping_bytes_extend_no_time_out(limited: Limited, name: str) -> None:
    """Of a CONNECT, of a TLS handshake, of a request for WebSocket."""
    connect = encode(Connect(name * 5, 5, True, 0, None, None, None, None), 5)
    hello = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    request = b"GET /mqtt HTTP/1.1\r\nHost: " + b"x" * 100
    for listener, data, seconds in (
        ("", connect, CONNECT_SECONDS),
        ("secure", hello.read(), HANDSHAKE_SECONDS),
        ("web", request, HANDSHAKE_SECONDS),
    ):
        with closing(limited.socket(listener, "127.0.3.1")) as connection:
            assert seconds - 0.1 < _drip(connection, data) < seconds + 2.5


def test_a_place_is_given_back_however_a_connection_ends(limited: Limited, name: str) -> None:
    """Also after a handshake that failed, and a request that was refused."""
    for listener in ("", "secure", "web"):
        for _ in range(3):
            with closing(limited.socket(listener, "127.0.3.2")) as connection:
                connection.sendall(b"GARBAGE\r\n\r\n")
                connection.settimeout(SECONDS)
                try:
                    while connection.recv(1000):
                        pass
                except ConnectionError:
                    pass
    with ExitStack() as stack:
        for number in range(20):
            client: WireClient = stack.enter_context(limited.wire(source="127.0.3.2"))
            assert client.connect(f"{name}{number}").reason_code == 0
