"""Control packets as values [2.1.2].

Plain classes with positional or keyword fields, compared by value, never changed after creation. They check
nothing: what the decoder made is right, what the encoder gets is its caller's word. `properties` is None when
the packet has none (always so before MQTT 5); the decoder never makes an empty `Properties`.

Not dataclasses: `slots=True` builds a second class, which mypyc can't compile, and without slots a packet is
larger and slower to make.
"""

from enum import IntEnum
from typing import ClassVar, Final

from broker.mqtt.property import Properties

MQTT_3_1: Final = 3
MQTT_3_1_1: Final = 4
MQTT_5: Final = 5

CONNECT: Final = 1
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBSCRIBE: Final = 8
SUBACK: Final = 9
UNSUBSCRIBE: Final = 10
UNSUBACK: Final = 11
PINGREQ: Final = 12
PINGRESP: Final = 13
DISCONNECT: Final = 14
AUTH: Final = 15


class PacketType(IntEnum):
    """Control packet types by name, for tables and logs; the constants above are for hot code."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class _Value:
    """Equality and repr over `_fields`."""

    _fields: ClassVar[tuple[str, ...]] = ()
    __slots__ = _fields

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._fields)

    def __repr__(self) -> str:
        fields = ", ".join([f"{name}={getattr(self, name)!r}" for name in self._fields])
        return f"{type(self).__name__}({fields})"


class Packet(_Value):
    """Any control packet."""

    packet_type: ClassVar[int] = 0
    __slots__ = ()


class Will(_Value):
    """The Will Message of a CONNECT [3.1.2.5]."""

    _fields: ClassVar[tuple[str, ...]] = ("topic", "payload", "qos", "retain", "properties")
    __slots__ = _fields

    def __init__(
        self, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties | None = None
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties

    def __repr__(self) -> str:
        return f"Will({self.topic!r}, {len(self.payload)} bytes, qos={self.qos}, retain={self.retain})"


class Connect(Packet):
    """`version` is 3, 4 or 5; `clean_start` is the Clean Session flag before MQTT 5; `keep_alive` is in
    seconds."""

    packet_type: ClassVar[int] = CONNECT
    _fields: ClassVar[tuple[str, ...]] = (
        "client_id",
        "version",
        "clean_start",
        "keep_alive",
        "username",
        "password",
        "will",
        "properties",
    )
    __slots__ = _fields

    def __init__(
        self,
        client_id: str,
        version: int,
        clean_start: bool,
        keep_alive: int,
        username: str | None = None,
        password: bytes | None = None,
        will: Will | None = None,
        properties: Properties | None = None,
    ) -> None:
        self.client_id = client_id
        self.version = version
        self.clean_start = clean_start
        self.keep_alive = keep_alive
        self.username = username
        self.password = password
        self.will = will
        self.properties = properties

    def __repr__(self) -> str:
        """Without the password, since it ends up in logs."""
        return (
            f"Connect({self.client_id!r}, version={self.version}, clean_start={self.clean_start}, "
            f"keep_alive={self.keep_alive}, username={self.username!r}, "
            f"password={'None' if self.password is None else '***'}, will={self.will!r}, "
            f"properties={self.properties!r})"
        )


class Connack(Packet):
    """`reason_code`: of MQTT 5; a decoded one of 3.x holds the return code 0 to 5."""

    packet_type: ClassVar[int] = CONNACK
    _fields: ClassVar[tuple[str, ...]] = ("session_present", "reason_code", "properties")
    __slots__ = _fields

    def __init__(self, session_present: bool, reason_code: int, properties: Properties | None = None) -> None:
        self.session_present = session_present
        self.reason_code = reason_code
        self.properties = properties


class Publish(Packet):
    """`packet_id` is 0 at QoS 0. `topic` may be empty only where a Topic Alias stands for it."""

    packet_type: ClassVar[int] = PUBLISH
    _fields: ClassVar[tuple[str, ...]] = (
        "topic",
        "payload",
        "qos",
        "retain",
        "dup",
        "packet_id",
        "properties",
    )
    __slots__ = _fields

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        dup: bool,
        packet_id: int,
        properties: Properties | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.dup = dup
        self.packet_id = packet_id
        self.properties = properties

    def __repr__(self) -> str:
        """Without the payload, since it ends up in logs."""
        return (
            f"Publish({self.topic!r}, {len(self.payload)} bytes, qos={self.qos}, retain={self.retain}, "
            f"dup={self.dup}, packet_id={self.packet_id}, properties={self.properties!r})"
        )


class Acknowledgement(Packet):
    """The four answers of QoS 1 and 2 have the same form [3.4, 3.5, 3.6, 3.7]."""

    _fields: ClassVar[tuple[str, ...]] = ("packet_id", "reason_code", "properties")
    __slots__ = _fields

    def __init__(self, packet_id: int, reason_code: int = 0, properties: Properties | None = None) -> None:
        self.packet_id = packet_id
        self.reason_code = reason_code
        self.properties = properties


class Puback(Acknowledgement):
    """Answers a PUBLISH at QoS 1."""

    packet_type: ClassVar[int] = PUBACK
    __slots__ = ()


class Pubrec(Acknowledgement):
    """Answers a PUBLISH at QoS 2; a reason code from 0x80 on ends the exchange [MQTT-4.3.3-4]."""

    packet_type: ClassVar[int] = PUBREC
    __slots__ = ()


class Pubrel(Acknowledgement):
    """Answers a PUBREC."""

    packet_type: ClassVar[int] = PUBREL
    __slots__ = ()


class Pubcomp(Acknowledgement):
    """Answers a PUBREL, and ends the exchange."""

    packet_type: ClassVar[int] = PUBCOMP
    __slots__ = ()


class SubscriptionRequest(_Value):
    """One Topic Filter of a SUBSCRIBE and its options; before MQTT 5 only `qos` is on the wire [3.8.3.1]."""

    _fields: ClassVar[tuple[str, ...]] = (
        "filter",
        "qos",
        "no_local",
        "retain_as_published",
        "retain_handling",
    )
    __slots__ = _fields

    def __init__(
        self,
        filter: str,
        qos: int,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> None:
        self.filter = filter
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.retain_handling = retain_handling


class Subscribe(Packet):
    """At least one subscription [MQTT-3.8.3-2]."""

    packet_type: ClassVar[int] = SUBSCRIBE
    _fields: ClassVar[tuple[str, ...]] = ("packet_id", "subscriptions", "properties")
    __slots__ = _fields

    def __init__(
        self,
        packet_id: int,
        subscriptions: list[SubscriptionRequest],
        properties: Properties | None = None,
    ) -> None:
        self.packet_id = packet_id
        self.subscriptions = subscriptions
        self.properties = properties


class Suback(Packet):
    """One reason code for each subscription, in their order [MQTT-3.9.3-1]."""

    packet_type: ClassVar[int] = SUBACK
    _fields: ClassVar[tuple[str, ...]] = ("packet_id", "reason_codes", "properties")
    __slots__ = _fields

    def __init__(self, packet_id: int, reason_codes: list[int], properties: Properties | None = None) -> None:
        self.packet_id = packet_id
        self.reason_codes = reason_codes
        self.properties = properties


class Unsubscribe(Packet):
    """At least one Topic Filter [MQTT-3.10.3-2]."""

    packet_type: ClassVar[int] = UNSUBSCRIBE
    _fields: ClassVar[tuple[str, ...]] = ("packet_id", "filters", "properties")
    __slots__ = _fields

    def __init__(self, packet_id: int, filters: list[str], properties: Properties | None = None) -> None:
        self.packet_id = packet_id
        self.filters = filters
        self.properties = properties


class Unsuback(Packet):
    """One reason code for each Topic Filter, in their order [MQTT-3.11.3-1]; before MQTT 5 there are none."""

    packet_type: ClassVar[int] = UNSUBACK
    _fields: ClassVar[tuple[str, ...]] = ("packet_id", "reason_codes", "properties")
    __slots__ = _fields

    def __init__(self, packet_id: int, reason_codes: list[int], properties: Properties | None = None) -> None:
        self.packet_id = packet_id
        self.reason_codes = reason_codes
        self.properties = properties


class Pingreq(Packet):
    """The client is alive, and asks whether the server is."""

    packet_type: ClassVar[int] = PINGREQ
    __slots__ = ()


class Pingresp(Packet):
    """So is the server."""

    packet_type: ClassVar[int] = PINGRESP
    __slots__ = ()


class Disconnect(Packet):
    """The last packet of a connection; only a client sends it before MQTT 5."""

    packet_type: ClassVar[int] = DISCONNECT
    _fields: ClassVar[tuple[str, ...]] = ("reason_code", "properties")
    __slots__ = _fields

    def __init__(self, reason_code: int = 0, properties: Properties | None = None) -> None:
        self.reason_code = reason_code
        self.properties = properties


class Auth(Packet):
    """A step of enhanced authentication [4.12]; MQTT 5 only."""

    packet_type: ClassVar[int] = AUTH
    _fields: ClassVar[tuple[str, ...]] = ("reason_code", "properties")
    __slots__ = _fields

    def __init__(self, reason_code: int = 0, properties: Properties | None = None) -> None:
        self.reason_code = reason_code
        self.properties = properties
