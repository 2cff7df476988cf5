"""What can be wrong with a peer's bytes.

    MqttError
    +-- MalformedPacket   the bytes are no control packet; 0x81 unless said otherwise
    +-- ProtocolError     a packet that MQTT doesn't allow here; 0x82 unless said otherwise

Both carry the Reason Code for the last packet of the connection [MQTT-4.13.1-1]; the connection has to be
closed. The decoder raises nothing else, whatever the bytes.
"""

from broker.mqtt.reason_code import ReasonCode


class MqttError(Exception):
    """The peer broke the protocol. `reason_code` is what to tell it, the message is for the log."""

    def __init__(self, message: str, reason_code: ReasonCode) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class MalformedPacket(MqttError):
    """The packet can't be parsed [4.13]."""

    def __init__(self, message: str, reason_code: ReasonCode = ReasonCode.MALFORMED_PACKET) -> None:
        super().__init__(message, reason_code)


class ProtocolError(MqttError):
    """The packet can be parsed, but what it says isn't allowed, or not at this moment [4.13]."""

    def __init__(self, message: str, reason_code: ReasonCode = ReasonCode.PROTOCOL_ERROR) -> None:
        super().__init__(message, reason_code)
