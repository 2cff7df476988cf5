"""Enhanced authentication [4.12]: at CONNECT, and again on an open connection."""

import re
import sys
import time
from collections.abc import Iterator

import pytest

from broker.mqtt import (
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Properties,
    Publish,
    ReasonCode,
    Will,
)
from tests.node.conftest import Clients
from tests.node.harness import NodeProcess, running_node
from tests.node.methods import METHOD, WORD
from tests.node.wire import WireClient

CONTINUE = ReasonCode.CONTINUE_AUTHENTICATION
AGAIN = ReasonCode.REAUTHENTICATE


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    environment = {
        "MOORLINE_MQTT__CONNECT_TIMEOUT_SECONDS": "1",
        "MOORLINE_MQTT__RESPONSE_INFORMATION": "replies/%u/%c",
        "MOORLINE_SESSION__TAKEOVERS_PER_MINUTE": "0",
        "MOORLINE_LISTENERS__STRICT__ADDRESS": "mqtt://127.0.0.1:0",
        "MOORLINE_LISTENERS__STRICT__AUTHENTICATION": f'["{METHOD}"]',
        "MOORLINE_LISTENERS__WITHOUT__ADDRESS": "mqtt://127.0.0.1:0",
        "MOORLINE_LISTENERS__WITHOUT__AUTHENTICATION": "[]",
    }
    directory = tmp_path_factory.mktemp("node")
    program = (sys.executable, "-m", "tests.node.methods")
    with running_node(directory, environment=environment, program=program) as node:
        yield node


def _with(data: bytes | None = None) -> Properties:
    return Properties(authentication_method=METHOD, authentication_data=data)


def _connect(client_id: str, data: bytes | None, will: Will | None = None) -> Connect:
    return Connect(client_id, MQTT_5, True, 0, "name", None, will, _with(data))


def _word(user: bytes) -> Auth:
    return Auth(CONTINUE, _with(WORD + b" " + user))


def _authenticated(client: Clients, suffix: str, user: bytes = b"ann") -> WireClient:
    """A client that has been let in."""
    raw = client.raw()
    raw.send(_connect(client.id_of(suffix), user))
    assert raw.expect(Auth) == Auth(CONTINUE, _with(WORD))  # [MQTT-4.12.0-2], [MQTT-4.12.0-5]
    raw.send(_word(user))
    assert raw.expect(Connack).reason_code == 0
    return raw


def test_a_challenge_is_answered(client: Clients) -> None:
    raw = client.raw()
    properties = _with(b"ann")
    properties.request_response_information = 1
    raw.send(Connect(client.id_of("c"), MQTT_5, True, 0, "other", None, None, properties))
    raw.expect(Auth)
    raw.send(_word(b"ann"))
    connack = raw.expect(Connack)
    assert connack.reason_code == 0
    assert connack.properties is not None
    assert connack.properties.authentication_method == METHOD  # [MQTT-4.12.0-5]
    assert connack.properties.authentication_data == b"welcome"
    assert connack.properties.response_information == f"replies/ann/{client.id_of('c')}"
    assert raw.ping() == []


def test_who_names_no_method_is_asked_for_nothing(client: Clients) -> None:
    """[MQTT-4.12.0-6]"""
    raw = client.raw()
    connack = raw.connect(client.id_of("c"))
    assert connack.reason_code == 0
    assert connack.properties is not None
    assert connack.properties.authentication_method is None
    raw.send(Auth(AGAIN, _with(b"ann")))  # [MQTT-4.12.0-7]
    assert raw.wait_refused() == ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (None, ReasonCode.NOT_AUTHORIZED, "not authorized"),
        (b"banned", ReasonCode.BANNED, "go away"),
        (b"broken", ReasonCode.UNSPECIFIED_ERROR, "authentication failed"),
        (b"slow", ReasonCode.UNSPECIFIED_ERROR, "authentication takes too long"),
    ],
)
def test_refused_at_once(client: Clients, data: bytes | None, code: ReasonCode, reason: str) -> None:
    """[MQTT-4.12.0-4]: no session, and no will."""
    control = client.raw()
    control.connect(client.id_of("control"))
    control.subscribe("will")
    raw = client.raw()
    raw.send(_connect(client.id_of("c"), data, Will("will", b"", 0, False)))
    assert raw.wait_closed() == [Connack(False, code, Properties(reason_string=reason))]
    control.assert_silence()


def test_refused_in_the_end(client: Clients) -> None:
    raw = client.raw()
    raw.send(_connect(client.id_of("c"), b"ann"))
    raw.expect(Auth)
    raw.send(_word(b"bob"))
    assert raw.wait_refused() == ReasonCode.NOT_AUTHORIZED


def test_a_session_is_taken_over_only_by_who_is_let_in(client: Clients) -> None:
    first = _authenticated(client, "same")
    other = client.raw()
    other.send(_connect(client.id_of("same"), b"ann"))
    other.expect(Auth)
    assert first.ping() == []
    other.send(_word(b"bob"))
    other.wait_closed()
    assert first.ping() == []
    _authenticated(client, "same")
    assert first.wait_refused() == ReasonCode.SESSION_TAKEN_OVER


@pytest.mark.parametrize(
    ("packets", "code"),
    [
        ([Pingreq()], ReasonCode.PROTOCOL_ERROR),  # [MQTT-3.1.2-30]
        ([Publish("t", b"", 0, False, False, 0)], ReasonCode.PROTOCOL_ERROR),
        ([Auth(AGAIN, _with(b"ann"))], ReasonCode.PROTOCOL_ERROR),  # [MQTT-4.12.1-1]
        ([Auth(CONTINUE, Properties(authentication_method="x"))], ReasonCode.PROTOCOL_ERROR),
        ([_word(b"ann"), _word(b"ann")], ReasonCode.PROTOCOL_ERROR),  # the second was not asked for
    ],
    ids=["ping", "publish", "again", "another method", "out of turn"],
)
def test_what_is_not_allowed_meanwhile(client: Clients, packets: list[Auth], code: ReasonCode) -> None:
    raw = client.raw()
    raw.send(_connect(client.id_of("c"), b"ann"))
    raw.expect(Auth)
    raw.send(*packets)
    assert raw.wait_refused() == code


def test_disconnect_meanwhile(client: Clients) -> None:
    raw = client.raw()
    raw.send(_connect(client.id_of("c"), b"ann"))
    raw.expect(Auth)
    raw.send(Disconnect())
    assert raw.wait_closed() == []


def test_who_does_not_answer_is_sent_away(client: Clients) -> None:
    started = time.monotonic()
    raw = client.raw()
    raw.send(_connect(client.id_of("c"), b"ann"))
    raw.expect(Auth)
    assert raw.wait_refused() == ReasonCode.NOT_AUTHORIZED
    assert 1.0 <= time.monotonic() - started < 4.0


def test_nobody_stays_longer_than_the_method_says(client: Clients) -> None:
    assert _authenticated(client, "c", b"brief").wait_refused() == ReasonCode.MAXIMUM_CONNECT_TIME


def test_an_auth_that_the_client_would_not_accept(client: Clients) -> None:
    """[MQTT-3.1.2-24]: AUTH can't be made smaller."""
    raw = client.raw()
    properties = _with(b"ann")
    properties.maximum_packet_size = 24
    raw.send(Connect(client.id_of("c"), MQTT_5, True, 0, None, None, None, properties))
    assert raw.wait_closed() == [Connack(False, ReasonCode.PACKET_TOO_LARGE)]


# Again


def test_again(client: Clients, name: str) -> None:
    """[MQTT-4.12.1-1], [MQTT-4.12.1-2]: all else goes on meanwhile."""
    open_client = _authenticated(client, "c")
    open_client.subscribe(name, qos=1)
    for _ in range(2):
        open_client.send(Auth(AGAIN, _with(b"ann")))
        assert open_client.expect(Auth) == Auth(CONTINUE, _with(WORD))
        open_client.send(Publish(name, b"meanwhile", 0, False, False, 0))
        assert open_client.message().payload == b"meanwhile"
        open_client.send(_word(b"ann"))
        assert open_client.expect(Auth) == Auth(ReasonCode.SUCCESS, _with(b"welcome"))
    assert open_client.ping() == []


@pytest.mark.parametrize("user", [b"ann", b"bob"], ids=["wrong word", "somebody else"])
def test_again_and_failed(client: Clients, name: str, user: bytes) -> None:
    """[MQTT-4.12.1-2]: it is disconnected, and its will is sent like after any other error."""
    watcher = client.raw()
    watcher.connect(client.id_of("watcher"))
    watcher.subscribe(name)
    raw = client.raw()
    raw.send(_connect(client.id_of("c"), b"ann", Will(name, b"will", 0, False)))
    raw.expect(Auth)
    raw.send(_word(b"ann"))
    raw.expect(Connack)
    raw.send(Auth(AGAIN, _with(user)))
    raw.expect(Auth)
    raw.send(_word(b"bob"))
    (packet,) = raw.wait_closed()
    assert isinstance(packet, Disconnect)
    assert packet.reason_code == ReasonCode.NOT_AUTHORIZED
    assert watcher.message().payload == b"will"


@pytest.mark.parametrize(
    "packets",
    [
        [_word(b"ann")],
        [Auth(AGAIN, _with(b"ann")), Auth(AGAIN, _with(b"ann"))],
        [Auth(AGAIN, _with(b"slow")), _word(b"ann")],
        [Auth(AGAIN, Properties(authentication_method="x"))],
    ],
    ids=["not begun", "begun twice", "out of turn", "another method"],
)
def test_again_and_out_of_order(client: Clients, packets: list[Auth]) -> None:
    open_client = _authenticated(client, "c")
    open_client.send(*packets)
    assert open_client.wait_refused() == ReasonCode.PROTOCOL_ERROR


def test_again_and_never_finished(client: Clients) -> None:
    """What was there before holds."""
    open_client = _authenticated(client, "c")
    open_client.send(Auth(AGAIN, _with(b"ann")))
    open_client.expect(Auth)
    time.sleep(1.5)
    assert open_client.ping() == []


def test_methods_are_those_of_the_listener(node: NodeProcess, client: Clients) -> None:
    """On one that has the method nobody comes in without it; on one that asks nobody it is not known."""
    _, strict, without = map(int, re.findall(r"^  mqtt +\S+:(\d+)$", node.output(), re.MULTILINE))
    with WireClient(strict) as named, WireClient(strict) as nameless, WireClient(without) as other:
        named.send(_connect(client.id_of("named"), b"ann"))
        named.expect(Auth)
        named.send(_word(b"ann"))
        assert named.expect(Connack).reason_code == 0
        assert nameless.connect(client.id_of("nameless")).reason_code == ReasonCode.NOT_AUTHORIZED
        other.send(_connect(client.id_of("other"), b"ann"))
        assert other.expect(Connack).reason_code == ReasonCode.BAD_AUTHENTICATION_METHOD
    with WireClient(without) as other:
        assert other.connect(client.id_of("other")).reason_code == 0
