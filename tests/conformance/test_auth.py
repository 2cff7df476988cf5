"""Enhanced authentication [4.12], with a method that asks for a word (`tests.node.methods`)."""

from broker.mqtt import MQTT_5, Auth, Connack, Connect, Disconnect, Properties, Publish, ReasonCode, encode
from tests.conformance.clauses import v5
from tests.conformance.flow import Flow
from tests.node.methods import METHOD, WORD
from tests.node.wire import WireClient

CONTINUE = ReasonCode.CONTINUE_AUTHENTICATION
AGAIN = ReasonCode.REAUTHENTICATE
USER = b"ann"
RIGHT = WORD + b" " + USER


def _with(data: bytes, maximum_packet_size: int | None = None) -> Properties:
    return Properties(
        authentication_method=METHOD,
        authentication_data=data,
        maximum_packet_size=maximum_packet_size,
    )


def _asked(flow: Flow) -> WireClient:
    """A client that has sent CONNECT and has been asked for the word."""
    client = flow.raw()
    client.send(Connect(flow.name("s"), MQTT_5, True, 0, properties=_with(USER)))
    auth = client.expect(Auth)
    assert auth.reason_code == CONTINUE
    assert auth.properties is not None
    assert auth.properties.authentication_method == METHOD
    return client


def _let_in(flow: Flow) -> WireClient:
    client = _asked(flow)
    client.send(Auth(CONTINUE, _with(RIGHT)))
    connack = client.expect(Connack)
    assert connack.reason_code == 0
    assert connack.properties is not None
    assert connack.properties.authentication_method == METHOD
    return client


@v5("4.12.0-2", "4.12.0-3", "4.12.0-5", "3.2.0-1", "3.15.2-1")
def test_exchange_before_connack(asking_flow: Flow) -> None:
    client = _let_in(asking_flow)
    client.subscribe(asking_flow.name("t"), qos=1)
    asking_flow.far("publisher").publish(asking_flow.name("t"), b"x", 1)
    assert client.message().payload == b"x"


@v5("4.12.0-4", "3.2.2-7", "3.14.0-1", "4.13.2-1")
def test_rejected_in_the_end(asking_flow: Flow) -> None:
    """With a CONNACK, and without a DISCONNECT."""
    client = _asked(asking_flow)
    client.send(Auth(CONTINUE, _with(b"a wrong word")))
    (connack,) = client.wait_closed()
    assert isinstance(connack, Connack)
    assert connack.reason_code == ReasonCode.NOT_AUTHORIZED


@v5("3.1.2-30", "3.1.4-6")
def test_what_comes_before_connack_does_not_count(asking_flow: Flow) -> None:
    """A PUBLISH in the middle of the exchange; the client is rejected then."""
    watcher = asking_flow.far("watcher")
    watcher.subscribe(asking_flow.name("#"), qos=1)
    client = _asked(asking_flow)
    client.send(
        Publish(asking_flow.name("t"), b"not let in", 1, False, False, 1),
        Auth(CONTINUE, _with(b"a wrong word")),
    )
    assert client.wait_refused() >= 0x80
    assert asking_flow.until_mark(asking_flow.far("publisher"), watcher) == []


@v5("4.12.0-6")
def test_no_method_no_auth(asking_flow: Flow) -> None:
    connack = asking_flow.raw().connect(asking_flow.name("s"))
    assert connack.reason_code == 0
    assert connack.properties is None or connack.properties.authentication_method is None


@v5("4.12.0-1")
def test_unknown_method(asking_flow: Flow) -> None:
    client = asking_flow.raw()
    properties = Properties(authentication_method="another")
    assert client.connect(asking_flow.name("s"), properties=properties).reason_code == 0x8C
    assert client.wait_closed() == []


@v5("4.12.1-1", "4.12.0-5")
def test_authenticated_again(asking_flow: Flow) -> None:
    """On an open connection, which goes on meanwhile and after it."""
    client = _let_in(asking_flow)
    client.send(Auth(AGAIN, _with(USER)))
    assert client.expect(Auth).reason_code == CONTINUE
    assert client.ping() == []
    client.send(Auth(CONTINUE, _with(RIGHT)))
    last = client.expect(Auth)
    assert last.reason_code == 0
    assert last.properties is not None
    assert last.properties.authentication_method == METHOD
    assert client.ping() == []


@v5("4.12.1-2", "4.13.2-1", "3.14.4-2")
def test_failed_again(asking_flow: Flow) -> None:
    client = _let_in(asking_flow)
    client.send(Auth(AGAIN, _with(USER)))
    client.expect(Auth)
    client.send(Auth(CONTINUE, _with(b"a wrong word")))
    (last,) = client.wait_closed()
    assert isinstance(last, Disconnect)
    assert last.reason_code == ReasonCode.NOT_AUTHORIZED


@v5("4.12.1-1", "4.12.0-5")
def test_another_method_than_before(asking_flow: Flow) -> None:
    client = _let_in(asking_flow)
    client.send(Auth(AGAIN, Properties(authentication_method="another")))
    assert client.wait_refused() == ReasonCode.PROTOCOL_ERROR


@v5("3.15.2-2", "3.15.2-3", "3.1.2-24")
def test_auth_fits_the_client(asking_flow: Flow) -> None:
    """Neither Reason String nor User Property makes it too large; if not even the rest fits there is none."""
    for maximum in (20, 30):
        client = asking_flow.raw()
        client.send(Connect(asking_flow.name("s"), MQTT_5, True, 0, properties=_with(USER, maximum)))
        answer = client.next()
        assert len(encode(answer, MQTT_5)) <= maximum
        assert isinstance(answer, Auth) == (maximum == 30)
