"""The rates that hold at one listener: those of the node, unless it has its own."""

from broker.client import Rates, Throttling, make_throttling
from broker.settings import LimitSettings, ListenerSettings


def throttling_of(
    name: str, listener: ListenerSettings, limits: LimitSettings, now: float
) -> Throttling | None:
    """None if its clients may send as fast as they like."""
    messages, messages_name = limits.messages_per_second, "messages_per_second"
    if listener.messages_per_second is not None:
        messages = listener.messages_per_second
        messages_name = f"listeners.{name}.messages_per_second"
    size, size_name = limits.bytes_per_second, "bytes_per_second"
    if listener.bytes_per_second is not None:
        size, size_name = listener.bytes_per_second, f"listeners.{name}.bytes_per_second"
    return make_throttling(
        Rates(messages, size, limits.burst_seconds, limits.throttled_seconds, (messages_name, size_name)),
        listener.total_messages_per_second,
        listener.total_bytes_per_second,
        name,
        now,
    )
