"""An Application Message travelling between sessions.

A message is built once, by the connection (or the queue, or the retained store) it came from, and never
changed: every subscriber's copy differs only in what the encoder is told (version, QoS, RETAIN, DUP,
Subscription Identifiers). Only clients of a listener with a mount point see another topic: theirs is a
message of its own, made once for all that have the same mount point.
"""

from typing import Final

from broker.mqtt import (
    MQTT_5,
    PACKET_ID_BYTES,
    publish_parts,
    response_topic_property,
    split_response_topic,
)

NO_DEADLINE: Final = 0

_MESSAGE_EXPIRY_INTERVAL: Final = b"\x02"
_LONGEST_EXPIRY_SECONDS: Final = 0xFFFFFFFF
_ROUNDING_MS: Final = 749
_SUBSCRIPTION_IDENTIFIER: Final = 0x0B
_TOPIC_ALIAS: Final = b"\x23"


class Message:
    """One Application Message.

    `properties` are the MQTT 5 properties that a server forwards unaltered, in wire form without their length
    [MQTT-3.3.2-4]. `deadline_ms` is a point in Redis time after which the message has expired, 0 for never.
    `token` names a message which must not be delivered twice; it is empty at QoS 0 and 1.
    """

    __slots__ = (
        "_key",
        "_more_parts",
        "_parts",
        "_views",
        "_whole",
        "_whole_key",
        "deadline_ms",
        "payload",
        "properties",
        "publisher",
        "qos",
        "retain",
        "token",
        "token_ttl_ms",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        properties: bytes = b"",
        deadline_ms: int = NO_DEADLINE,
        publisher: str = "",
        token: bytes = b"",
        token_ttl_ms: int = 0,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.deadline_ms = deadline_ms
        self.publisher = publisher
        self.token = token
        self.token_ttl_ms = token_ttl_ms
        # The first encoding asked for is kept beside the message, further ones (a fan-out to clients of
        # several versions or QoS) in a dictionary, which most messages never need.
        self._key = -1
        self._parts: tuple[bytes, bytes] = (b"", b"")
        self._more_parts: dict[int, tuple[bytes, bytes]] | None = None
        self._whole_key = -1
        self._whole = b""
        self._views: dict[str, Message | None] | None = None

    def __repr__(self) -> str:
        return f"Message({self.topic!r}, {len(self.payload)} bytes, qos={self.qos}, retain={self.retain})"

    def is_expired(self, now_ms: int) -> bool:
        """Whether the Message Expiry Interval has passed [MQTT-3.3.2-5]."""
        return self.deadline_ms != NO_DEADLINE and now_ms >= self.deadline_ms

    def below(self, mount_point: str) -> "Message | None":
        """As clients see it that know nothing but what is below this mount point ("tenant/"): with the rest
        of the topic, and of the Response Topic. None if the message is not for them."""
        views = self._views
        if views is None:
            views = self._views = {}
        if mount_point not in views:
            views[mount_point] = self._view(mount_point)
        return views[mount_point]

    def _view(self, mount_point: str) -> "Message | None":
        topic = self.topic[len(mount_point) :]
        # [MQTT-4.7.2-1]: with their mount point before them, `#` and `+` would match a first level with `$`.
        if not self.topic.startswith(mount_point) or topic == "" or topic.startswith("$"):
            return None
        properties = self.properties
        before, response_topic, after = split_response_topic(properties)
        if response_topic:
            properties = before + _response_topic_below(response_topic, mount_point.encode()) + after
        return Message(
            topic, self.payload, self.qos, self.retain, properties, self.deadline_ms, self.publisher
        )

    def parts(self, version: int, qos: int, retain: bool) -> tuple[bytes, bytes]:
        """What a PUBLISH has before and after its Packet Identifier; encoded once for a whole fan-out.

        Only for a first transmission without Subscription Identifiers of a message that never expires.
        """
        key = version << 3 | qos << 1 | retain
        if key == self._key:
            return self._parts
        if self._key < 0:
            self._key = key
            self._parts = publish_parts(
                version, self.topic, self.payload, qos, retain, False, self.properties
            )
            return self._parts
        if self._more_parts is None:
            self._more_parts = {}
        parts = self._more_parts.get(key)
        if parts is None:
            parts = publish_parts(version, self.topic, self.payload, qos, retain, False, self.properties)
            self._more_parts[key] = parts
        return parts

    def whole(self, version: int, retain: bool) -> bytes:
        """The whole PUBLISH packet at QoS 0, under the same conditions as `parts`."""
        key = version << 1 | retain
        if key == self._whole_key:
            return self._whole
        head, tail = self.parts(version, 0, retain)
        self._whole_key = key
        self._whole = head + tail
        return self._whole

    def encoded_as(self, version: int, packet: bytes) -> None:
        """Tells what `whole` would make for this version and the RETAIN flag of the message itself."""
        self._whole_key = version << 1 | self.retain
        self._whole = packet

    def encoded_in_parts(self, version: int, qos: int, head: bytes, tail: bytes) -> None:
        """Tells what `parts` would make for this version and QoS, without RETAIN."""
        self._key = version << 3 | qos << 1
        self._parts = (head, tail)

    def parts_for(
        self,
        version: int,
        qos: int,
        retain: bool,
        dup: bool,
        subscription_identifiers: tuple[int, ...],
        now_ms: int,
    ) -> tuple[bytes, bytes]:
        """Like `parts`, for one receiver: with DUP, Subscription Identifiers and what is left of the
        expiry."""
        if version != MQTT_5 or not (subscription_identifiers or self.deadline_ms):
            if not dup:
                return self.parts(version, qos, retain)
            return publish_parts(version, self.topic, self.payload, qos, retain, True, self.properties)
        properties = self._properties_for(subscription_identifiers, now_ms)
        return publish_parts(version, self.topic, self.payload, qos, retain, dup, properties)

    def aliased_parts(
        self,
        topic: str,
        alias: int,
        qos: int,
        retain: bool,
        dup: bool,
        subscription_identifiers: tuple[int, ...],
        now_ms: int,
    ) -> tuple[bytes, bytes]:
        """Like `parts_for` of MQTT 5, with a Topic Alias that `topic` sets, or stands for if that is empty
        [3.3.2.3.4]."""
        properties = _TOPIC_ALIAS + PACKET_ID_BYTES[alias]
        properties += self._properties_for(subscription_identifiers, now_ms)
        return publish_parts(MQTT_5, topic, self.payload, qos, retain, dup, properties)

    def _properties_for(self, subscription_identifiers: tuple[int, ...], now_ms: int) -> bytes:
        properties = self.properties
        if self.deadline_ms:
            # [MQTT-3.3.2-6]: the interval received, less the time that the message has been waiting here.
            # Rounded up; but nodes don't know the time of Redis to the millisecond, and on another one the
            # interval must not become longer.
            left_ms = self.deadline_ms - now_ms
            seconds = max(1, (left_ms + _ROUNDING_MS) // 1000) if left_ms > 0 else 0
            seconds = min(seconds, _LONGEST_EXPIRY_SECONDS)
            properties = _MESSAGE_EXPIRY_INTERVAL + seconds.to_bytes(4, "big") + properties
        for identifier in subscription_identifiers:  # [MQTT-3.3.4-4]
            properties += _subscription_identifier(identifier)
        return properties


def _response_topic_below(topic: bytes, mount_point: bytes) -> bytes:
    """As a property; none at all if it is a topic that can't be reached."""
    below = topic[len(mount_point) :]
    if not topic.startswith(mount_point) or below == b"" or below.startswith(b"$"):
        return b""
    return response_topic_property(below)


def _subscription_identifier(value: int) -> bytes:
    encoded = bytearray([_SUBSCRIPTION_IDENTIFIER])
    while value > 127:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
