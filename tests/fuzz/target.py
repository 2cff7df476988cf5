"""What is fuzzed: one function from bytes to nothing, which fails an assertion or lets another error out.

An input is a letter that chooses what is tried, a header of a few bytes with what the fuzzer may vary beside
the bytes from the wire, and these. It is used by `tests.fuzz` with coverage guidance, and by the test of the
saved corpus without, also against the compiled packages.
"""

from collections.abc import Callable
from typing import Final

from broker.client.arriving import DAMAGE
from broker.mqtt import (
    MQTT_3_1_1,
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Connection,
    ConnectionLimits,
    Decoder,
    Disconnect,
    MalformedPacket,
    MqttError,
    Packet,
    ProtocolError,
    Publish,
    ReasonCode,
    State,
    encode,
)
from broker.routing import SubscriptionIndex, arrival, take_handover
from broker.routing.bursts import BURST_FIELDS, Burst
from broker.routing.channel import messages_of
from broker.session import Message, QueueState
from cluster.store import inbox_records
from cluster.store.inbox_records import Bursts, Direct, Handover, Runs
from tests.fuzz.cuts import cut
from tests.fuzz.edge import EDGE_TARGETS
from tests.fuzz.tokens import TOKEN_TARGETS
from tests.session.wire import Link

HEADER: Final = 4  # letter, mode, and two lengths of chunks
_VERSIONS: Final = (0, 3, 4, 5)
_FROM_SERVER: Final = 0b100
_LARGEST: Final = 4096
_SMALLEST: Final = 64
_TOPIC_ALIASES: Final = 4
_EXACT: Final = (MalformedPacket, ProtocolError)

_Outcome = tuple[list[Packet], MqttError | None]


def one_input(data: bytes) -> None:
    """Tries one input. Anything raised is a fault, of the broker or of this file."""
    if len(data) >= HEADER:
        target = TARGETS.get(data[:1])
        if target is not None:
            target(data[1], data[2:HEADER], data[HEADER:])


# Bytes of either side, for a decoder


def _decoder(mode: int, sizes: bytes, data: bytes) -> None:
    from_client = not mode & _FROM_SERVER
    version = _VERSIONS[mode & 3]
    maximum = _SMALLEST if mode & 8 else _LARGEST
    decoder = Decoder(from_client, maximum, version)
    packets, error = _decode(decoder, [data])
    for chunks in (cut(sizes, data), [data[at : at + 1] for at in range(len(data))]):
        _must_agree((packets, error), _decode(Decoder(from_client, maximum, version), chunks))
    for packet in packets:
        _must_survive(packet, from_client, decoder.version)


def _decode(decoder: Decoder, chunks: list[bytes]) -> _Outcome:
    out: list[Packet] = []
    for chunk in chunks:
        try:
            decoder.feed(chunk, out)
        except MqttError as error:
            return out, _exact(error)
    return out, None


def _exact(error: MqttError) -> MqttError:
    assert type(error) in _EXACT
    return error


def _must_agree(whole: _Outcome, cut: _Outcome) -> None:
    """However the bytes are cut, the same comes of them. Only of a packet with a wrong Remaining Length and
    another fault, either may be seen first."""
    assert whole[0] == cut[0]
    errors = [error for _, error in (whole, cut) if error is not None]
    assert len(errors) != 1, errors
    codes = {error.reason_code for error in errors}
    is_size_wrong = any("Remaining Length" in str(error) for error in errors)
    assert len(codes) <= 1 or is_size_wrong or ReasonCode.PACKET_TOO_LARGE in codes, errors


def _must_survive(packet: Packet, from_client: bool, version: int) -> None:
    """What was decoded can be encoded, and is the same again."""
    encoded = encode(packet, version)
    reader = Decoder(from_client, 2 * _LARGEST, 0 if isinstance(packet, Connect) else version)
    assert _decode(reader, [encoded]) == ([packet], None)


# Bytes of a client, for the server's side of a connection


def _connection(mode: int, sizes: bytes, data: bytes) -> None:
    chunks = cut(sizes, data)
    early, error = _converse(Connection(_limits(mode)), chunks, 1)
    late, late_error = _converse(Connection(_limits(mode)), chunks, len(chunks) + 1)
    # Nothing is handed out for longer waiting; what comes later may be refused before it is looked at.
    assert late == early[: len(late)]
    assert late_error is not None or error is None


def _limits(mode: int) -> ConnectionLimits:
    return ConnectionLimits(_SMALLEST if mode & 1 else _LARGEST, 10, _TOPIC_ALIASES)


def _converse(connection: Connection, chunks: list[bytes], patience: int) -> _Outcome:
    """`patience`: with how many chunks the CONNECT is accepted, from its own on."""
    out: list[Packet] = []
    error = None
    for chunk in chunks:
        try:
            connection.receive(chunk, out)
            if connection.state is State.AUTHENTICATING:
                _check_unaccepted(connection, out)
                patience -= 1
                if patience <= 0:
                    connection.accepted(out)
        except MqttError as raised:
            error = raised
            break
    if error is None and connection.state is State.AUTHENTICATING:
        try:
            connection.accepted(out)
        except MqttError as raised:
            error = raised
    _check_end(connection, out, error)
    return out, error


def _check_unaccepted(connection: Connection, out: list[Packet]) -> None:
    assert all(isinstance(packet, Auth) for packet in out[1:])
    assert connection.waiting_bytes <= connection.limits.maximum_packet_size


def _check_end(connection: Connection, out: list[Packet], error: MqttError | None) -> None:
    for i, packet in enumerate(out):
        assert isinstance(packet, Connect) == (i == 0)
        assert not isinstance(packet, Publish) or packet.topic
        assert not isinstance(packet, Disconnect) or i == len(out) - 1
    if error is None:
        return
    assert type(error) in _EXACT
    assert connection.state is State.CLOSED
    farewell = connection.farewell(error.reason_code, str(error))
    assert connection.fits(len(farewell))
    if farewell:
        packets, wrong = _decode(Decoder(False, _LARGEST, connection.version), [farewell])
        assert wrong is None
        assert len(packets) == 1
        assert isinstance(packets[0], Connack | Disconnect)
    count = len(out)
    connection.receive(b"\xc0\x00", out)
    assert len(out) == count


# Records of other nodes


def _record(mode: int, sizes: bytes, data: bytes) -> None:
    try:
        record = inbox_records.unpack(data)
        if isinstance(record, Runs):
            messages, shared = messages_of(record.runs)
            for message in messages + [message for _, message in shared]:
                _send(message)
        elif isinstance(record, Bursts):
            for place in range(0, len(record.bursts), BURST_FIELDS):
                for message in Burst(record.bursts, place).messages(MQTT_5, 1):
                    _send(message)
        elif isinstance(record, Direct):
            for fields in record.messages:
                _send(arrival(fields).message)
        elif isinstance(record, Handover):
            take_handover(_index(), record.bodies, record.sessions)
    except DAMAGE:
        return


def _send(message: Message) -> None:
    for version in (MQTT_3_1_1, MQTT_5):
        message.parts_for(version, message.qos, message.retain, True, (1,), 1_000_000)


def _index() -> SubscriptionIndex:
    """With one client that has a queue."""
    index = SubscriptionIndex("node")
    subscriber = index.subscriber("c")
    subscriber.session = Link().session(QueueState(1, 0, 0, 8, (), (), True))
    return index


TARGETS: Final[dict[bytes, Callable[[int, bytes, bytes], None]]] = {
    b"D": _decoder,
    b"C": _connection,
    b"R": _record,
    **EDGE_TARGETS,
    **TOKEN_TARGETS,
}
"""By the first byte of an input."""
