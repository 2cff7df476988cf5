"""The rules of one network connection, seen from the server [3.1.4, 3.14.4, 4.12, 4.13].

Theory of operation: a connection is OPENED; its first packet is CONNECT [MQTT-3.1.0-1]. From then on it is
AUTHENTICATING, until the server has decided about it. Clients may send on without waiting for CONNACK, but
nothing of that may be processed if they are refused [MQTT-3.1.4-6]: only AUTH is handed out, all else waits
here until `accepted` releases it. One that authenticates by an Authentication Method may send nothing but
AUTH and DISCONNECT until then [MQTT-3.1.2-30]. A connection that is CONNECTED passes packets as they come.
CLOSED is final: what still comes is discarded.

The caller hands in bytes and gets packets whose Topic Name is always filled in, or one of the two errors; it
then sends `farewell` and closes. What the client said about itself in CONNECT is kept here: what it accepts,
how often it will be heard. Time isn't known here: the caller keeps `connect_timeout_seconds` and
`keep_alive_timeout`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from broker.mqtt.decoder import Decoder
from broker.mqtt.encoder import encode
from broker.mqtt.errors import MqttError, ProtocolError
from broker.mqtt.packet import (
    AUTH,
    CONNECT,
    DISCONNECT,
    MQTT_5,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Publish,
    Suback,
)
from broker.mqtt.property import Properties
from broker.mqtt.reason_code import CONNACK_REASON_CODES, SERVER_DISCONNECT_REASON_CODES, ReasonCode

_RECEIVE_MAXIMUM_DEFAULT: Final = 65_535  # [3.1.2.11.3]


class State(IntEnum):
    """Where a connection stands. A number, as the hash of another member of an enumeration is a call."""

    OPENED = 0
    AUTHENTICATING = 1
    CONNECTED = 2
    CLOSED = 3


TRANSITIONS: Final[dict[State, dict[int, State]]] = {
    State.OPENED: {CONNECT: State.AUTHENTICATING},
    State.AUTHENTICATING: {AUTH: State.AUTHENTICATING},  # all others wait for `accepted`
    State.CONNECTED: {DISCONNECT: State.CLOSED},  # all others change nothing; the decoder refuses a CONNECT
    State.CLOSED: {},
}
"""What a packet of the client does to the state. The server's part is `accepted` and `closed`."""


@dataclass(frozen=True)
class ConnectionLimits:
    """What a listener allows a connection.

    `maximum_packet_size`: bytes, fixed header included; too small refuses messages, too large lets each
    client fill that much memory. `receive_maximum`: PUBLISH packets at QoS 1 and 2 which may be unsettled;
    too small slows publishers far away. `topic_alias_maximum`: Topic Names remembered per connection, 0 for
    none. `connect_timeout_seconds`: how long a connection may take to send its CONNECT.
    """

    maximum_packet_size: int = 1_048_576
    receive_maximum: int = 1_024
    topic_alias_maximum: int = 64
    connect_timeout_seconds: float = 10.0


class Connection:
    """One client's network connection; `receive` its bytes, and send it `farewell` when that raises."""

    __slots__ = (
        "_decoder",
        "_has_disconnected",
        "_is_accepted",
        "_session_expires_at_once",
        "_topic_aliases",
        "_waiting",
        "authentication_method",
        "client_maximum_packet_size",
        "client_receive_maximum",
        "client_topic_alias_maximum",
        "keep_alive_seconds",
        "limits",
        "request_problem_information",
        "state",
        "waiting_bytes",
    )

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.state = State.OPENED
        self.keep_alive_seconds = 0
        self.client_receive_maximum = _RECEIVE_MAXIMUM_DEFAULT
        self.client_maximum_packet_size = 0
        self.client_topic_alias_maximum = 0
        self.request_problem_information = True
        self.waiting_bytes = 0
        self._decoder = Decoder(True, limits.maximum_packet_size)
        self._waiting: list[Packet] = []
        self._topic_aliases: dict[int, str] = {}
        self.authentication_method: str | None = None
        self._session_expires_at_once = True
        self._is_accepted = False
        self._has_disconnected = False

    def __repr__(self) -> str:
        state = self.state.name.lower()
        return f"Connection({state}, version={self.version}, {len(self._waiting)} packets waiting)"

    @property
    def version(self) -> int:
        """The protocol version; 0 until CONNECT has told it."""
        return self._decoder.version

    @property
    def connect_timeout_seconds(self) -> float:
        """How long to wait for the CONNECT [3.1.4, 4.2]."""
        return self.limits.connect_timeout_seconds

    @property
    def keep_alive_timeout(self) -> float:
        """Seconds without a packet after which the client counts as gone [MQTT-3.1.2-22]; 0 for never."""
        return self.keep_alive_seconds * 1.5

    def receive(self, chunk: bytes, out: list[Packet]) -> None:
        """Appends to `out` the packets which are to be processed now.

        Raises MalformedPacket or ProtocolError, with the packets before the error in `out`; the connection is
        CLOSED then: send `farewell(error.reason_code)`. After a CONNECT in `out` decide about it and call
        `accepted`; it is wise not to read on while `waiting_bytes` isn't 0.
        """
        state = self.state
        if state is State.CLOSED:
            return
        if state is State.AUTHENTICATING:
            self._count_waiting(len(chunk))
        first = len(out)
        decoder = self._decoder
        try:
            decoder.feed(chunk, out)
        except MqttError:
            self._examine(out, first)
            if (
                self.state is State.CLOSED
            ):  # by a DISCONNECT: what came after it doesn't matter [MQTT-3.14.4-1]
                return
            self.closed()
            raise
        if state is not State.CONNECTED or decoder.needs_attention:
            self._examine(out, first)

    def accepted(self, out: list[Packet], server_keep_alive_seconds: int | None = None) -> None:
        """The client gets a CONNACK with Success: the connection is CONNECTED, and what has waited is in
        `out`.

        `server_keep_alive_seconds` is the Server Keep Alive of that CONNACK [MQTT-3.2.2-21]. Raises like
        `receive`. Does nothing if the connection has been closed meanwhile.
        """
        if self.state is State.CLOSED:
            return
        self.state = State.CONNECTED
        self._is_accepted = True
        if server_keep_alive_seconds is not None:
            self.keep_alive_seconds = server_keep_alive_seconds
        first = len(out)
        out.extend(self._waiting)
        self._waiting = []
        self.waiting_bytes = 0
        self._examine(out, first)

    def closed(self) -> None:
        """The connection has ended or is about to: what still comes in is discarded."""
        self.state = State.CLOSED
        self._waiting = []

    def fits(self, size: int) -> bool:
        """Whether the client accepts a packet of this size in bytes [MQTT-3.1.2-24]."""
        return self.client_maximum_packet_size == 0 or size <= self.client_maximum_packet_size

    def encode_if_fits(self, packet: Packet) -> bytes | None:
        """A packet as the client takes it, or None if it accepts none of that size [MQTT-3.1.2-24]."""
        encoded = encode(packet, self.version)
        return encoded if self.fits(len(encoded)) else None

    def encode_suback(self, suback: Suback) -> bytes | None:
        """Like `encode_if_fits`. Without the Reason String if the client doesn't want to hear it
        [MQTT-3.1.2-29], or doesn't take a packet of that size [MQTT-3.9.2-1]."""
        if suback.properties is not None:
            encoded = self.encode_if_fits(suback) if self.request_problem_information else None
            if encoded is not None:
                return encoded
            suback = Suback(suback.packet_id, suback.reason_codes)
        return self.encode_if_fits(suback)

    def farewell(
        self, reason_code: int, reason_string: str | None = None, server_reference: str | None = None
    ) -> bytes:
        """The last packet to this client, or nothing: a refusing CONNACK, or a DISCONNECT [MQTT-4.13.1-1]."""
        if self._is_accepted:
            return self.encode_disconnect(reason_code, reason_string, server_reference) or b""
        if self.version == 0:  # nothing is known about who is there
            return b""
        if self.version == MQTT_5 and reason_code not in CONNACK_REASON_CODES:
            reason_code = ReasonCode.UNSPECIFIED_ERROR
        return self._encode_last(reason_code, reason_string, server_reference)

    def encode_disconnect(
        self, reason_code: int, reason_string: str | None = None, server_reference: str | None = None
    ) -> bytes | None:
        """A DISCONNECT from the server.

        None where there can't be one: before MQTT 5, before CONNACK [MQTT-3.14.0-1], after the client's own.
        """
        if self.version != MQTT_5 or not self._is_accepted or self._has_disconnected:
            return None
        if reason_code not in SERVER_DISCONNECT_REASON_CODES:
            reason_code = ReasonCode.UNSPECIFIED_ERROR
        return self._encode_last(reason_code, reason_string, server_reference)

    def _encode_last(
        self, reason_code: int, reason_string: str | None, server_reference: str | None
    ) -> bytes:
        properties = None
        if reason_string is not None or server_reference is not None:
            properties = Properties(reason_string=reason_string, server_reference=server_reference)
        packet = (
            Disconnect(reason_code, properties)
            if self._is_accepted
            else Connack(False, reason_code, properties)
        )
        encoded = self.encode_if_fits(packet)
        if encoded is None and properties is not None:  # [MQTT-3.2.2-19], [MQTT-3.14.2-3]
            # The Reason String goes first: it is for people, the other one for the client.
            return self._encode_last(
                reason_code, None, server_reference if reason_string is not None else None
            )
        return encoded or b""

    def _count_waiting(self, size: int) -> None:
        self.waiting_bytes += size
        if self.waiting_bytes > self.limits.maximum_packet_size:
            self.closed()
            raise ProtocolError("too much sent before CONNACK", ReasonCode.QUOTA_EXCEEDED)

    def _examine(self, out: list[Packet], first: int) -> None:
        """Applies the rules to the packets from out[first] on, and takes out what has to wait or comes too
        late."""
        self._decoder.needs_attention = False
        packets = out[first:]
        del out[first:]
        for packet in packets:
            if self.state is State.CLOSED:  # [MQTT-3.14.4-1], [MQTT-3.14.4-2]
                break
            after = TRANSITIONS[self.state].get(packet.packet_type)
            if after is None and self.state is State.AUTHENTICATING:
                if self.authentication_method is None:  # [MQTT-3.1.4-6]
                    self._waiting.append(packet)
                    continue
                after = State.CLOSED
            try:
                out.append(self._checked(packet))
            except ProtocolError:
                self.closed()
                raise
            if after is not None:
                self.state = after

    def _checked(self, packet: Packet) -> Packet:
        """The packet as it is to be processed. Raises ProtocolError."""
        if self.state is State.AUTHENTICATING and packet.packet_type not in (AUTH, DISCONNECT):
            raise ProtocolError("neither AUTH nor DISCONNECT before CONNACK")  # [MQTT-3.1.2-30]
        if isinstance(packet, Publish):
            return self._with_topic(packet)
        if isinstance(packet, Connect):
            self._learn(packet)
        elif isinstance(packet, Disconnect):
            self._check_disconnect(packet)
        elif isinstance(packet, Auth):
            self._check_auth(packet)
        return packet

    def _learn(self, connect: Connect) -> None:
        """What the client says of itself for the time of the connection."""
        self.keep_alive_seconds = connect.keep_alive
        properties = connect.properties
        if properties is None:
            return
        if properties.receive_maximum is not None:
            self.client_receive_maximum = properties.receive_maximum
        self.client_maximum_packet_size = properties.maximum_packet_size or 0
        self.client_topic_alias_maximum = properties.topic_alias_maximum or 0
        self.request_problem_information = properties.request_problem_information != 0
        self.authentication_method = properties.authentication_method
        self._session_expires_at_once = not properties.session_expiry_interval

    def _check_disconnect(self, disconnect: Disconnect) -> None:
        properties = disconnect.properties
        if properties is not None and properties.session_expiry_interval and self._session_expires_at_once:
            raise ProtocolError("Session Expiry Interval in DISCONNECT, but 0 in CONNECT")  # [3.14.2.2.2]
        self._has_disconnected = True  # it is the one to close, or we at once [MQTT-3.14.4-2]

    def _check_auth(self, auth: Auth) -> None:
        """Only with the method of the CONNECT; the exchange itself is the authenticator's [4.12]."""
        method = auth.properties.authentication_method if auth.properties is not None else None
        if method is None or method != self.authentication_method:  # [MQTT-4.12.0-5], [MQTT-4.12.0-7]
            raise ProtocolError("AUTH with another Authentication Method than CONNECT")
        if auth.reason_code == ReasonCode.REAUTHENTICATE and self.state is State.AUTHENTICATING:
            raise ProtocolError("re-authentication before CONNACK")  # [MQTT-4.12.1-1]

    def _with_topic(self, publish: Publish) -> Publish:
        """Learns or applies the Topic Alias [3.3.2.3.4]."""
        properties = publish.properties
        if properties is None or properties.topic_alias is None:
            return publish
        alias = properties.topic_alias
        if alias > self.limits.topic_alias_maximum:  # [MQTT-3.3.2-9]
            raise ProtocolError(f"Topic Alias {alias}", ReasonCode.TOPIC_ALIAS_INVALID)
        if publish.topic:
            self._topic_aliases[alias] = publish.topic
            return publish
        topic = self._topic_aliases.get(alias)
        if topic is None:
            raise ProtocolError(f"Topic Alias {alias} stands for no Topic Name yet")
        return Publish(
            topic,
            publish.payload,
            publish.qos,
            publish.retain,
            publish.dup,
            publish.packet_id,
            properties,
        )
