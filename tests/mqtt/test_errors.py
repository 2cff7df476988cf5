"""The two errors, and the codes that they carry."""

import pytest

from broker.mqtt import MalformedPacket, MqttError, ProtocolError, ReasonCode


@pytest.mark.parametrize(
    ("error", "reason_code"),
    [
        (MalformedPacket("why"), ReasonCode.MALFORMED_PACKET),
        (ProtocolError("why"), ReasonCode.PROTOCOL_ERROR),
        (MalformedPacket("why", ReasonCode.PACKET_TOO_LARGE), ReasonCode.PACKET_TOO_LARGE),
        (ProtocolError("why", ReasonCode.QUOTA_EXCEEDED), ReasonCode.QUOTA_EXCEEDED),
        (MqttError("why", ReasonCode.BANNED), ReasonCode.BANNED),
    ],
)
def test_message_and_reason_code(error: MqttError, reason_code: ReasonCode) -> None:
    assert str(error) == "why"
    assert error.reason_code is reason_code
