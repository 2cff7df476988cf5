"""Whether a connection is still to be there: connect timeout, keep-alive, peers that do not let themselves be
closed."""

from typing import TYPE_CHECKING

from broker.client.stalling import check_blocked
from broker.client.unanswered import check_unanswered
from broker.mqtt import ReasonCode

if TYPE_CHECKING:  # they need each other
    from broker.client.client import Client


def check_alive(client: "Client", now: float) -> float:
    """When to look again; 0 for never. Connect timeout [3.1.4], keep-alive [MQTT-3.1.2-22]."""
    if client.is_closed:
        if now < client.abort_at:
            return client.abort_at
        if client.transport is not None:
            client.transport.abort()
        return 0.0
    if client.session is None:
        return check_unanswered(client, now)
    look_at = check_blocked(client, now)
    if look_at is None:
        return 0.0
    timeout = client.connection.keep_alive_timeout
    if not timeout:
        return look_at
    is_ours = client.is_held_back or (client.throttle is not None and client.throttle.must_wait)
    if not client.is_reading and (is_ours or not client.outbox.blocked):
        return now + 1.0  # we hold it back ourselves
    deadline = client.last_activity + timeout
    if now < deadline:
        return min(deadline, look_at or deadline)
    client.hub.counters.keep_alive_timeouts += 1
    client.close(ReasonCode.KEEP_ALIVE_TIMEOUT, f"nothing received for {timeout:g} s")
    client.hub.after_input()
    return 0.0
