"""Connections whose CONNECT has not come, or has not been answered: they come to an end, whatever it is that
keeps them."""

from typing import TYPE_CHECKING, Final

from broker.client.telling import tell_refused
from broker.mqtt import ReasonCode, State

if TYPE_CHECKING:  # they need each other
    from broker.client.client import Client

_NOT_CONFIRMED: Final = "the durability level of this listener can't be had now"


def check_unanswered(client: "Client", now: float) -> float:
    """When to look again, monotonic seconds; 0 if it has come to an end."""
    hub = client.hub
    state = client.connection.state
    authentication = client.authentication
    is_clients_turn = authentication is not None and authentication.is_clients_turn
    if state is State.AUTHENTICATING and hub.is_redis_away() and not is_clients_turn:  # held, as all others
        client.answer_by = now + hub.settings.connection.connect_timeout_seconds
    if now < client.answer_by:
        return client.answer_by
    if state is State.OPENED:
        hub.offences.refuse("connect_timeout_seconds", peer=client.peer)
        client.close(ReasonCode.NOT_AUTHORIZED, "no CONNECT in time")
    elif is_clients_turn:
        client.close(ReasonCode.NOT_AUTHORIZED, "no AUTH in time")
    else:
        hub.counters.connects.add("late")
        reason = "CONNECT was not answered in time" if client.awaiting is None else _NOT_CONFIRMED
        tell_refused(client, ReasonCode.SERVER_UNAVAILABLE, reason)
        client.close(ReasonCode.SERVER_UNAVAILABLE, reason)
    hub.after_input()
    return 0.0
