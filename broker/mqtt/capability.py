"""What of MQTT an operator has left switched on: said in CONNACK [3.2.2.3], and then held to.

A client of MQTT 5 that was told and does it all the same has broken the protocol. One of MQTT 3 could not be
told: where its packet has an answer that can say so (SUBACK) it gets that, else its connection is closed
[3.1.1: MQTT-3.3.5-2].
"""

from dataclasses import dataclass

from broker.mqtt.errors import ProtocolError
from broker.mqtt.packet import Subscribe, Will
from broker.mqtt.property import Properties
from broker.mqtt.reason_code import ReasonCode
from broker.mqtt.topic import has_wildcards, is_shared


@dataclass(frozen=True)
class Capabilities:
    """`maximum_qos` is of what clients publish; all may be subscribed to at any QoS [MQTT-3.2.2-10].
    `checks_payload_format`: whether a payload that is said to be UTF-8 must be.
    `retained_payload_bytes_maximum`: 0 is any size; no packet tells a client."""

    maximum_qos: int = 2
    retain_available: bool = True
    wildcard_subscription_available: bool = True
    shared_subscription_available: bool = True
    subscription_identifier_available: bool = True
    checks_payload_format: bool = False
    retained_payload_bytes_maximum: int = 0

    def announce(self, properties: Properties) -> None:
        """Puts what is not to be had into the properties of a CONNACK [MQTT-3.2.2-9]."""
        if self.maximum_qos < 2:
            properties.maximum_qos = self.maximum_qos
        if not self.retain_available:
            properties.retain_available = 0
        if not self.wildcard_subscription_available:
            properties.wildcard_subscription_available = 0
        if not self.shared_subscription_available:
            properties.shared_subscription_available = 0
        if not self.subscription_identifier_available:
            properties.subscription_identifier_available = 0

    def check_publish(self, qos: int, retain: bool) -> None:
        """Raises ProtocolError for a PUBLISH or a will that is more than the client may send."""
        if qos > self.maximum_qos:
            raise ProtocolError(
                f"QoS {qos}, more than the Maximum QoS {self.maximum_qos}", ReasonCode.QOS_NOT_SUPPORTED
            )
        if retain and not self.retain_available:
            raise ProtocolError("there are no retained messages here", ReasonCode.RETAIN_NOT_SUPPORTED)

    def check_will(self, will: Will) -> None:
        """Raises ProtocolError if the CONNECT must be refused [MQTT-3.2.2-12], [MQTT-3.2.2-13]."""
        self.check_publish(will.qos, will.retain)
        if self.checks_payload_format and not is_payload_as_said(will.payload, will.properties):
            raise ProtocolError("the Will Payload isn't UTF-8", ReasonCode.PAYLOAD_FORMAT_INVALID)
        if will.retain and self.is_too_large(will.payload):
            raise ProtocolError("the Will Payload is too large to be retained", ReasonCode.QUOTA_EXCEEDED)

    def is_too_large(self, payload: bytes) -> bool:
        """Whether this may not be retained."""
        return 0 < self.retained_payload_bytes_maximum < len(payload)

    def check_subscribe(self, subscribe: Subscribe) -> None:
        """Raises ProtocolError for what an MQTT 5 client was told not to do [3.2.2.3]."""
        for request in subscribe.subscriptions:
            reason_code = self.refusal(request.filter)
            if reason_code is not None:
                raise ProtocolError("this kind of subscription is not available here", reason_code)
        properties = subscribe.properties
        if (
            properties is not None
            and properties.subscription_identifier
            and not self.subscription_identifier_available
        ):
            raise ProtocolError(
                "Subscription Identifiers are not available here",
                ReasonCode.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
            )

    def refusal(self, filter: str) -> ReasonCode | None:
        """Why there is no such subscription here, if so."""
        if not self.shared_subscription_available and is_shared(filter):
            return ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        if not self.wildcard_subscription_available and has_wildcards(filter):
            return ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
        return None


def is_payload_as_said(payload: bytes, properties: Properties | None) -> bool:
    """Whether a payload is UTF-8 if its Payload Format Indicator says so [3.3.2.3.2]."""
    if properties is None or properties.payload_format_indicator != 1:
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
