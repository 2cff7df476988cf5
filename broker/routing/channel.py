"""What a node puts on the channel of one of an older release: messages for subscribers at QoS 0; and of any
node, those for members of shared subscriptions. Nodes that read them are sent `bursts` in place of this.

Messages travel as the bytes that subscribers get. A record is a list of
runs, each of three fields: the publisher, a version of MQTT, and PUBLISH packets at QoS 0 of that version,
one after the other. What such a packet can't say (another QoS, an absolute deadline) is a run of its own:
version 0, and `fields`. So is a message for one member of a shared subscription: version 1, and in place of
the publisher the name of the subscription.
"""

from collections.abc import Sequence
from typing import Final

from broker.mqtt import MQTT_3_1_1, MQTT_5, read_varint, topic_name
from broker.routing.fields import arrival, pack_fields
from broker.session import Message

_NO_PACKETS: Final = 0
_SHARED: Final = 1
_RUN_FIELDS: Final = 3
_RETAINED: Final = 0x31


class Channel:
    """What one tick has for the channel of one node."""

    __slots__ = ("_last", "_packets", "_publisher", "_runs", "_version")

    def __init__(self) -> None:
        self._runs: list[object] = []
        self._packets: list[bytes] = []
        self._publisher = ""
        self._version = _NO_PACKETS
        self._last: Message | None = None

    def add(self, message: Message) -> None:
        """A node may want one message for several reasons: it gets it once."""
        if message is self._last:
            return
        self._last = message
        if message.qos or message.deadline_ms:
            self._end_run()
            self._runs += (message.publisher, _NO_PACKETS, pack_fields(message, False, b""))
            return
        version = MQTT_5 if message.properties else MQTT_3_1_1
        if version != self._version or message.publisher != self._publisher:
            self._end_run()
            self._version = version
            self._publisher = message.publisher
        self._packets.append(message.whole(version, message.retain))

    def add_shared(self, name: str, message: Message) -> None:
        """For one member of a shared subscription."""
        self._end_run()
        self._runs += (name, _SHARED, pack_fields(message, False, b""))

    def runs(self) -> list[object]:
        """All that was added, to be packed."""
        self._end_run()
        return self._runs

    def _end_run(self) -> None:
        if self._packets:
            self._runs += (self._publisher, self._version, b"".join(self._packets))
            self._packets.clear()


def messages_of(runs: Sequence[object]) -> tuple[list[Message], list[tuple[str, Message]]]:
    """The messages of a record, in order; those for shared subscriptions apart, with their names. Raises what
    a damaged record leads to."""
    found: list[Message] = []
    shared: list[tuple[str, Message]] = []
    for i in range(0, len(runs), _RUN_FIELDS):
        publisher = runs[i]
        version = runs[i + 1]
        content = runs[i + 2]
        if version == _NO_PACKETS:
            found.append(arrival(content).message)
        elif version not in (_SHARED, MQTT_3_1_1, MQTT_5):
            continue  # packets that only a newer node knows
        elif not isinstance(publisher, bytes):
            raise TypeError(f"no publisher: {publisher!r}")
        elif version == _SHARED:
            shared.append((publisher.decode(), arrival(content).message))
        elif isinstance(content, bytes):
            _read_packets(content, version == MQTT_5, publisher.decode(), found)
        else:
            raise TypeError(f"no packets: {content!r}")
    return found, shared


def _read_packets(packets: bytes, is_mqtt_5: bool, publisher: str, found: list[Message]) -> None:
    position = 0
    end = len(packets)
    while position < end:
        size = packets[position + 1]
        start = position + 2
        if size >= 0x80:
            size, start = read_varint(packets, position + 1, end)
        stop = start + size
        topic_start = start + 2
        topic_end = topic_start + (packets[start] << 8 | packets[start + 1])
        payload_start = topic_end
        properties = b""
        if is_mqtt_5:
            length, properties_start = read_varint(packets, topic_end, stop)
            payload_start = properties_start + length
            properties = packets[properties_start:payload_start]
        if payload_start > stop or stop > end:
            raise ValueError("a packet that is cut off")
        topic = topic_name(packets[topic_start:topic_end])
        retain = packets[position] == _RETAINED
        message = Message(topic, packets[payload_start:stop], 0, retain, properties, 0, publisher)
        if not is_mqtt_5:
            message.encoded_as(MQTT_3_1_1, packets[position:stop])
        found.append(message)
        position = stop
