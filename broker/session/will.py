"""The Will Message of a connection, and when it is due."""

from broker.mqtt import Properties, Will, forwarded_properties
from broker.session.message import NO_DEADLINE, Message


class WillMessage:
    """A will as it is stored: what to publish, and how long after the connection ended.

    `message_expiry_seconds` counts from the moment the will is published; None: it never expires.
    """

    __slots__ = (
        "client_id",
        "delay_seconds",
        "message_expiry_seconds",
        "payload",
        "properties",
        "qos",
        "retain",
        "topic",
    )

    def __init__(
        self,
        client_id: str,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        properties: bytes,
        delay_seconds: int,
        message_expiry_seconds: int | None,
    ) -> None:
        self.client_id = client_id
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.delay_seconds = delay_seconds
        self.message_expiry_seconds = message_expiry_seconds

    def __repr__(self) -> str:
        return (
            f"WillMessage({self.client_id!r}, {self.topic!r}, qos={self.qos}, delay={self.delay_seconds} s)"
        )

    def message(self, now_ms: int, token: bytes, token_ttl_ms: int) -> Message:
        """The Application Message to route. The token makes it one message, however many nodes try to send
        it."""
        expiry = self.message_expiry_seconds
        deadline_ms = NO_DEADLINE if expiry is None else now_ms + expiry * 1000
        return Message(
            self.topic,
            self.payload,
            self.qos,
            self.retain,
            self.properties,
            deadline_ms,
            self.client_id,
            token,
            token_ttl_ms,
        )


def will_message(client_id: str, will: Will) -> WillMessage:
    """What is kept of the will in a CONNECT packet."""
    properties = will.properties or Properties()
    return WillMessage(
        client_id,
        will.topic,
        will.payload,
        will.qos,
        will.retain,
        forwarded_properties(properties),
        properties.will_delay_interval or 0,
        properties.message_expiry_interval,
    )
