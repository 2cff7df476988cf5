"""When a SUBSCRIBE is answered with retained messages."""

from typing import Final

SEND_RETAINED: Final = 0
SEND_RETAINED_IF_NEW: Final = 1


def wants_retained(retain_handling: int, existed: bool) -> bool:
    """Whether a SUBSCRIBE is answered with the retained messages as well.

    [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
    """
    return retain_handling == SEND_RETAINED or (retain_handling == SEND_RETAINED_IF_NEW and not existed)
