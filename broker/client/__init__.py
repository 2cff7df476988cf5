"""One connected client, and the flows of its packets."""

from broker.client.client import Client, ClientSettings, Hub
from broker.client.closing import disconnect_all, drop_rows, on_failed, on_lost, on_overrun, on_stale
from broker.client.deadlines import DeadlineWheel
from broker.client.flows import HANDLERS
from broker.client.shedding import Shedder
from broker.client.wills import route_wills

__all__ = [
    "HANDLERS",
    "Client",
    "ClientSettings",
    "DeadlineWheel",
    "Hub",
    "Shedder",
    "disconnect_all",
    "drop_rows",
    "on_failed",
    "on_lost",
    "on_overrun",
    "on_stale",
    "route_wills",
]
