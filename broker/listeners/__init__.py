"""Sockets to Protocol objects."""

from broker.listeners.admission import Admission, AdmissionLimits
from broker.listeners.listener import Listener, ListenerSurroundings, open_listener
from broker.listeners.tcp import bind_tcp, bound_address
from broker.listeners.wires import Wires, open_wires

__all__ = [
    "Admission",
    "AdmissionLimits",
    "Listener",
    "ListenerSurroundings",
    "Wires",
    "bind_tcp",
    "bound_address",
    "open_listener",
    "open_wires",
]
