"""Sockets to Protocol objects."""

from broker.listeners.admission import Admission, AdmissionLimits
from broker.listeners.listener import Listener, ListenerSurroundings, open_listener
from broker.listeners.tcp import bind_tcp

__all__ = ["Admission", "AdmissionLimits", "Listener", "ListenerSurroundings", "bind_tcp", "open_listener"]
