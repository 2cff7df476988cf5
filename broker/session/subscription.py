"""What a client asked for with SUBSCRIBE, and what several overlapping requests add up to."""

from typing import Final

SEND_RETAINED: Final = 0
SEND_RETAINED_IF_NEW: Final = 1


class SubscriptionOptions:
    """The Subscription Options of one Topic Filter, with the Subscription Identifier (0 for none)."""

    __slots__ = ("no_local", "qos", "retain_as_published", "retain_handling", "subscription_identifier")

    def __init__(
        self,
        qos: int,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = SEND_RETAINED,
        subscription_identifier: int = 0,
    ) -> None:
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.retain_handling = retain_handling
        self.subscription_identifier = subscription_identifier

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SubscriptionOptions):
            return NotImplemented
        return (
            self.qos == other.qos
            and self.no_local == other.no_local
            and self.retain_as_published == other.retain_as_published
            and self.retain_handling == other.retain_handling
            and self.subscription_identifier == other.subscription_identifier
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value, never a key

    def __repr__(self) -> str:
        return (
            f"SubscriptionOptions(qos={self.qos}, no_local={self.no_local}, "
            f"retain_as_published={self.retain_as_published}, retain_handling={self.retain_handling}, "
            f"subscription_identifier={self.subscription_identifier})"
        )


def wants_retained(retain_handling: int, existed: bool) -> bool:
    """Whether a SUBSCRIBE is answered with the retained messages as well.

    [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
    """
    return retain_handling == SEND_RETAINED or (retain_handling == SEND_RETAINED_IF_NEW and not existed)
