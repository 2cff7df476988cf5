"""Packets as a trace shows them: what JSON can hold, bounded, in MQTT's own words.

Passwords and authentication data are never shown. What a client has to say is content: payloads, the values
of User Properties and correlation data are shown only to those who may see payloads.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from broker.mqtt import (
    PROPERTY_RULES,
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Properties,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)

TEXT_CHARACTERS: Final = 256
ITEMS: Final = 16
PAYLOAD_BYTES: Final = 256

_PROTOCOLS: Final = {3: "3.1", 4: "3.1.1", 5: "5.0"}
_SPACES: Final = str.maketrans(dict.fromkeys("\t\n\r", " "))
_NEVER: Final = frozenset({"authentication_data"})
_CONTENT: Final = frozenset({"correlation_data", "user_property"})

Described = dict[str, object]


def describe(packet: Packet, with_content: bool) -> Described:
    """All that is shown of a packet, its kind first."""
    shown: Described = {"packet": PacketType(packet.packet_type).name}
    how = _SHOWN.get(type(packet))
    if how is not None:
        shown |= how(packet, with_content)
    properties: Properties | None = getattr(packet, "properties", None)
    if properties is not None:
        shown |= _properties(properties, with_content)
    return shown


def _connect(packet: Any, with_content: bool) -> Described:
    assert isinstance(packet, Connect)
    return {
        "protocol": _PROTOCOLS.get(packet.version, str(packet.version)),
        "clean_start": packet.clean_start,
        "keep_alive_seconds": packet.keep_alive,
        "username": None if packet.username is None else cut(packet.username),
        "password": packet.password is not None,
        "will": None if packet.will is None else _will(packet.will, with_content),
    }


def _will(will: Will, with_content: bool) -> Described:
    shown: Described = {
        "topic": cut(will.topic),
        "qos": will.qos,
        "retain": will.retain,
        "bytes": len(will.payload),
    }
    if with_content:
        shown |= _payload(will.payload)
    return shown if will.properties is None else shown | _properties(will.properties, with_content)


def _connack(packet: Any, _: bool) -> Described:
    assert isinstance(packet, Connack)
    return {"session_present": packet.session_present, "reason_code": packet.reason_code}


def _publish(packet: Any, with_content: bool) -> Described:
    assert isinstance(packet, Publish)
    shown: Described = {
        "topic": cut(packet.topic),
        "qos": packet.qos,
        "retain": packet.retain,
        "dup": packet.dup,
        "bytes": len(packet.payload),
    }
    if packet.qos:
        shown["packet_id"] = packet.packet_id
    return shown | _payload(packet.payload) if with_content else shown


def _acknowledgement(packet: Any, _: bool) -> Described:
    assert isinstance(packet, Acknowledgement)
    return {"packet_id": packet.packet_id, "reason_code": packet.reason_code}


def _subscribe(packet: Any, _: bool) -> Described:
    assert isinstance(packet, Subscribe)
    filters = [
        {
            "filter": cut(each.filter),
            "qos": each.qos,
            "no_local": each.no_local,
            "retain_as_published": each.retain_as_published,
            "retain_handling": each.retain_handling,
        }
        for each in packet.subscriptions[:ITEMS]
    ]
    return {"packet_id": packet.packet_id, "filters": filters, **_more(len(packet.subscriptions))}


def _unsubscribe(packet: Any, _: bool) -> Described:
    assert isinstance(packet, Unsubscribe)
    filters = [{"filter": cut(each)} for each in packet.filters[:ITEMS]]
    return {"packet_id": packet.packet_id, "filters": filters, **_more(len(packet.filters))}


def _answered(packet: Any, _: bool) -> Described:
    assert isinstance(packet, Suback | Unsuback)
    codes = packet.reason_codes
    return {"packet_id": packet.packet_id, "reason_codes": codes[:ITEMS], **_more(len(codes))}


def _ended(packet: Any, _: bool) -> Described:
    assert isinstance(packet, Disconnect | Auth)
    return {"reason_code": packet.reason_code}


_SHOWN: Final[Mapping[type[Packet], Callable[[Any, bool], Described]]] = {
    Connect: _connect,
    Connack: _connack,
    Publish: _publish,
    Subscribe: _subscribe,
    Unsubscribe: _unsubscribe,
    Suback: _answered,
    Unsuback: _answered,
    Disconnect: _ended,
    Auth: _ended,
    **dict.fromkeys(Acknowledgement.__subclasses__(), _acknowledgement),
}


def _properties(properties: Properties, with_content: bool) -> Described:
    shown: Described = {}
    for rule in PROPERTY_RULES:
        value = getattr(properties, rule.name)
        if value is None or value == () or rule.name in _NEVER:
            continue
        if rule.name not in _CONTENT:
            shown[rule.name] = cut(value) if isinstance(value, str) else value
        elif rule.name == "correlation_data":
            shown[rule.name] = bytes_text(value) if with_content else f"{len(value)} bytes"
        elif with_content:
            shown[rule.name] = [[cut(name), cut(text)] for name, text in value[:ITEMS]]
        else:
            shown[rule.name] = [[cut(name)] for name, _ in value[:ITEMS]]
    return {"properties": shown} if shown else {}


def _payload(payload: bytes) -> Described:
    return {"payload": bytes_text(payload)}


def bytes_text(data: bytes) -> str:
    """The beginning, as text if it is some, else in hexadecimal."""
    beginning = data[:PAYLOAD_BYTES]
    is_cut = len(data) > PAYLOAD_BYTES
    text = _text(beginning, 3 if is_cut else 0)
    shown = f"0x{beginning.hex()}" if text is None else text
    return shown + "..." if is_cut else shown


def _text(data: bytes, most_left_out: int) -> str | None:
    """None if it is none. What was cut may end within a character."""
    for left_out in range(most_left_out + 1):
        try:
            text = data[: len(data) - left_out].decode()
        except UnicodeDecodeError:
            continue
        return text if text.translate(_SPACES).isprintable() else None
    return None


def cut(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= TEXT_CHARACTERS else text[:TEXT_CHARACTERS] + "..."


def _more(count: int) -> Described:
    return {"more": count - ITEMS} if count > ITEMS else {}
