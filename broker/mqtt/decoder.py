"""Bytes to packets, incrementally.

Theory of operation: `Decoder.feed` takes what a read from the network gave and appends every packet that is
complete. What is left over waits in `_buffer` until the packet it belongs to is complete, and is decoded then
in one piece: each byte is copied a constant number of times, however small the chunks are. How much waits is
bounded by `maximum_packet_size`, which is checked as soon as the fixed header shows a packet's size.

PUBLISH and the plain four-byte acknowledgements are nearly all traffic; `_decode` reads them in place,
without a call per packet. Everything else goes through the tables of readers at the end of this module, one
for each direction.

The decoder raises MalformedPacket and ProtocolError, nothing else, and is dead from then on.
"""

from typing import Final

from broker.mqtt.connect import is_supported, read_connect, read_protocol
from broker.mqtt.errors import MalformedPacket, MqttError, ProtocolError
from broker.mqtt.packet import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)
from broker.mqtt.property import IN_CLIENT_PUBLISH, IN_SERVER_PUBLISH, Properties, read_properties
from broker.mqtt.reader import (
    Reader,
    read_auth_of_client,
    read_auth_of_server,
    read_connack,
    read_disconnect_of_client,
    read_disconnect_of_server,
    read_pingreq,
    read_pingresp,
    read_puback,
    read_pubcomp,
    read_pubrec,
    read_pubrel,
    read_suback,
    read_subscribe,
    read_unsuback,
    read_unsubscribe,
)
from broker.mqtt.reason_code import ReasonCode
from broker.mqtt.topic import SHOWN_LENGTH, has_wildcards
from broker.mqtt.wire import text, varint

# Topic Names by their bytes: validated once, and one string object for each, whose hash is known already.
# Bounded in number and, since long names stay outside, in memory (about 30 MiB at worst).
_TOPICS: Final[dict[bytes, str]] = {}
_TOPICS_LIMIT: Final = 65_536
_CACHED_TOPIC_BYTES: Final = 128


def topic_name(raw: bytes) -> str:
    """A Topic Name from its bytes; it is not empty. Raises MalformedPacket."""
    topic = _TOPICS.get(raw)
    return _topic_name(raw) if topic is None else topic


def _topic_name(raw: bytes) -> str:
    """The Topic Name of a PUBLISH that isn't in the cache; it may be empty here, for a Topic Alias."""
    topic = text(raw)  # [MQTT-3.3.2-1]
    if has_wildcards(topic):  # [MQTT-3.3.2-2]
        raise MalformedPacket("a wildcard in the Topic Name of a PUBLISH")
    if 0 < len(raw) <= _CACHED_TOPIC_BYTES:
        if len(_TOPICS) >= _TOPICS_LIMIT:
            _TOPICS.clear()
        _TOPICS[raw] = topic
    return topic


class Decoder:
    """Decodes one direction of one network connection.

    `server_side`: the bytes come from a client. A packet of more than `maximum_packet_size` bytes, fixed
    header included, is refused. `version` is 0 until a CONNECT has told it, and then never changes; a client
    sets it at once. After a CONNECT whose version isn't supported it is the one to answer in, or 0 if there
    is none.

    `needs_attention` is set, and never reset here, when a packet has been decoded that can change the
    connection's state or isn't complete in itself: CONNECT, DISCONNECT, AUTH, a PUBLISH with a Topic Alias.
    """

    __slots__ = (
        "_buffer",
        "_error",
        "_needed",
        "_publish_place",
        "_readers",
        "maximum_packet_size",
        "needs_attention",
        "server_side",
        "version",
    )

    def __init__(self, server_side: bool, maximum_packet_size: int, version: int = 0) -> None:
        self.server_side = server_side
        self.maximum_packet_size = maximum_packet_size
        self.version = version
        self.needs_attention = False
        self._readers = _FROM_CLIENT if server_side else _FROM_SERVER
        self._publish_place = IN_CLIENT_PUBLISH if server_side else IN_SERVER_PUBLISH
        self._error: MqttError | None = None
        self._buffer = bytearray()
        self._needed = 0

    def __repr__(self) -> str:
        waiting = f"{len(self._buffer)} of {self._needed} bytes"
        return f"Decoder(version={self.version}, {waiting}, {self._error!r})"

    def feed(self, chunk: bytes, out: list[Packet]) -> None:
        """Appends all packets that are complete with this chunk to `out`.

        Raises MalformedPacket or ProtocolError, after what came before the error has been appended; and
        raises the same again whenever it is called after that.
        """
        if self._error is not None:
            raise self._error.with_traceback(None)
        if self._buffer:
            self._buffer += chunk
            if len(self._buffer) < self._needed:
                return
            chunk = bytes(self._buffer)
            self._buffer = bytearray()
        try:
            position = 0
            if self.version == 0:
                position = self._decode_first(chunk, out)
            if self.version != 0:
                position = self._decode(chunk, position, out)
            if position < len(chunk):
                self._needed = self._size_of_incomplete(chunk, position)
                self._buffer += chunk[position:]
        except MqttError as error:
            self._error = error
            raise

    # One function, and so longer than others, to spare the calls. Measured (tests/bench/codec.py) on Python
    # 3.11, 20 packets a chunk: PUBLISH at QoS 0 with 16 bytes 0.62 us, compiled 0.11 us; PUBACK 0.37 and 0.04
    # us, against 0.93 and 0.12 us for one with a reason code, which goes through its reader.
    def _decode(self, data: bytes, position: int, out: list[Packet]) -> int:
        """Decodes from `position` on, and returns where the first incomplete packet starts."""
        end = len(data)
        last = end - 1
        maximum = self.maximum_packet_size
        is_mqtt_5 = self.version == MQTT_5
        while position < last:
            first = data[position]
            size = data[position + 1]
            start = position + 2
            if size >= 0x80:
                if start == end:
                    break
                byte = data[start]
                if 0 < byte < 0x80:
                    size = size & 0x7F | byte << 7
                    start += 1
                else:
                    size, start = _long_size(data, position, end, is_mqtt_5)
                    if size < 0:
                        break
            stop = start + size
            if stop > end:
                break
            if stop - position > maximum:
                raise _too_large(stop - position, maximum)
            if first >> 4 == PUBLISH:
                if size < 2:
                    raise MalformedPacket("PUBLISH is too short")
                topic_start = start + 2
                topic_end = topic_start + (data[start] << 8 | data[start + 1])
                payload_start = topic_end
                qos = 0
                retain = False
                dup = False
                packet_id = 0
                if first != 0x30:
                    qos = first >> 1 & 3
                    retain = first & 1 == 1
                    dup = first & 8 == 8
                    if qos:
                        payload_start += 2
                        if payload_start > stop:
                            raise MalformedPacket("PUBLISH ends before the Packet Identifier")
                        packet_id = data[topic_end] << 8 | data[topic_end + 1]
                    if qos == 3 or (packet_id == 0) != (qos == 0) or (dup and qos == 0):
                        raise _bad_publish(first)
                properties: Properties | None = None
                if is_mqtt_5:
                    if payload_start < stop and data[payload_start] == 0:
                        payload_start += 1
                    else:
                        properties, payload_start = self._publish_properties(data, payload_start, stop)
                if payload_start > stop:
                    raise MalformedPacket("the Topic Name is longer than the PUBLISH")
                raw = data[topic_start:topic_end]
                topic = _TOPICS.get(raw)
                if topic is None:
                    topic = _topic_name(raw)
                    if not topic and (properties is None or properties.topic_alias is None):
                        raise ProtocolError("PUBLISH without Topic Name and Topic Alias")
                out.append(Publish(topic, data[payload_start:stop], qos, retain, dup, packet_id, properties))
            elif size == 2 and first in (0x40, 0x50, 0x62, 0x70) and (data[start] or data[start + 1]):
                packet_id = data[start] << 8 | data[start + 1]
                if first == 0x40:
                    out.append(Puback(packet_id))
                elif first == 0x50:
                    out.append(Pubrec(packet_id))
                elif first == 0x62:
                    out.append(Pubrel(packet_id))
                else:
                    out.append(Pubcomp(packet_id))
            else:
                out.append(self._read(first, data, start, stop))
            position = stop
        return position

    def _publish_properties(self, data: bytes, position: int, stop: int) -> tuple[Properties | None, int]:
        properties, position = read_properties(data, position, stop, self._publish_place)
        if properties is not None and properties.topic_alias is not None:
            self.needs_attention = True
        return properties, position

    def _read(self, first: int, data: bytes, start: int, stop: int) -> Packet:
        """Any packet that has no fast way."""
        self._check_first_byte(first)
        packet_type = first >> 4
        if packet_type in (DISCONNECT, AUTH):
            self.needs_attention = True
        return self._readers[packet_type](data, start, stop, self.version)

    def _check_first_byte(self, first: int) -> None:
        """Direction and flags, before the rest of the packet is there."""
        packet_type = first >> 4
        flags = first & 0x0F
        if self.version == 0 and packet_type != CONNECT:  # [MQTT-3.1.0-1]
            raise ProtocolError(f"a packet of type {packet_type} before CONNECT")
        if packet_type == PUBLISH:
            if flags & 6 == 6 or flags & 14 == 8:
                raise _bad_publish(first)
            return
        if packet_type == 0:
            raise MalformedPacket("packet type 0 is reserved")
        if packet_type not in self._readers and self.version != 0:  # CONNECT: [MQTT-3.1.0-2]
            raise ProtocolError(f"a packet of type {packet_type} isn't allowed from this side, or not again")
        wanted = 2 if packet_type in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0
        if self.version == MQTT_3_1 and wanted:  # a repeated one is marked DUP there [3.1: 3.8, 3.10]
            flags &= 7
        if flags != wanted:  # [MQTT-2.1.3-1]
            raise MalformedPacket(f"reserved flags 0x{flags:X} in a packet of type {packet_type}")

    def _size_of_incomplete(self, data: bytes, position: int) -> int:
        """How many bytes from `position` on must be there before it is worth another look."""
        self._check_first_byte(data[position])
        available = len(data) - position
        size, start = _long_size(data, position, len(data), self.version == MQTT_5)
        if size < 0:
            return available + 1
        total = start - position + size
        if total > self.maximum_packet_size:
            raise _too_large(total, self.maximum_packet_size)
        return total

    def _decode_first(self, data: bytes, out: list[Packet]) -> int:
        """Decodes the CONNECT, which sets the version; returns the position after it, 0 if incomplete."""
        end = len(data)
        if end == 0:
            return 0
        self._check_first_byte(data[0])
        if not self.server_side:
            raise ProtocolError("CONNECT from a server")
        size, start = _long_size(data, 0, end, False)
        stop = start + size
        if size < 0 or stop > end:
            return 0
        if stop > self.maximum_packet_size:
            raise _too_large(stop, self.maximum_packet_size)
        name, version, position = read_protocol(data, start, stop)
        if not is_supported(name, version):
            # Newer than all we know: the server answers in the newest one [MQTT-3.1.2-2].
            if name in (b"MQTT", b"MQIsdp"):
                self.version = MQTT_5 if version > MQTT_5 else MQTT_3_1_1
            raise ProtocolError(
                f"protocol {name[:SHOWN_LENGTH]!r} version {version}", ReasonCode.UNSUPPORTED_PROTOCOL_VERSION
            )
        self.version = version
        if version == MQTT_5 and start > 1 + len(varint(size)):  # [MQTT-1.5.5-1]
            raise MalformedPacket("the Remaining Length is longer than needed")
        self.needs_attention = True
        out.append(read_connect(data, position, stop, version))
        return stop


def _bad_publish(first: int) -> MqttError:
    if first & 6 == 6:  # [MQTT-3.3.1-4]
        return MalformedPacket("PUBLISH at QoS 3")
    if first & 14 == 8:  # [MQTT-3.3.1-2]
        return MalformedPacket("DUP in a PUBLISH at QoS 0")
    return ProtocolError("PUBLISH with Packet Identifier 0")  # [MQTT-2.2.1-3]


def _too_large(size: int, maximum: int) -> ProtocolError:
    return ProtocolError(f"a packet of {size} bytes, more than {maximum}", ReasonCode.PACKET_TOO_LARGE)


def _long_size(data: bytes, position: int, end: int, must_be_minimal: bool) -> tuple[int, int]:
    """Remaining Length of the packet at `position`, and where its rest starts; -1 if that isn't known yet.

    The shortest form is a rule of MQTT 5 only [MQTT-1.5.5-1].
    """
    size = 0
    shift = 0
    position += 1
    while position < end:
        byte = data[position]
        position += 1
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift and must_be_minimal:
                raise MalformedPacket("the Remaining Length is longer than needed")
            return size, position
        shift += 7
        if shift == 28:
            raise MalformedPacket("the Remaining Length has a fifth byte")
    return -1, position


_BOTH_WAYS: Final[dict[int, Reader]] = {
    PUBACK: read_puback,
    PUBREC: read_pubrec,
    PUBREL: read_pubrel,
    PUBCOMP: read_pubcomp,
}
_FROM_CLIENT: Final[dict[int, Reader]] = {
    **_BOTH_WAYS,
    SUBSCRIBE: read_subscribe,
    UNSUBSCRIBE: read_unsubscribe,
    PINGREQ: read_pingreq,
    DISCONNECT: read_disconnect_of_client,
    AUTH: read_auth_of_client,
}
_FROM_SERVER: Final[dict[int, Reader]] = {
    **_BOTH_WAYS,
    CONNACK: read_connack,
    SUBACK: read_suback,
    UNSUBACK: read_unsuback,
    PINGRESP: read_pingresp,
    DISCONNECT: read_disconnect_of_server,
    AUTH: read_auth_of_server,
}
