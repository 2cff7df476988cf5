"""Sockets to Protocol objects."""

from broker.listeners.listener import Listener, ListenerSurroundings, open_listener
from broker.listeners.tcp import bind_tcp, bound_address

__all__ = ["Listener", "ListenerSurroundings", "bind_tcp", "bound_address", "open_listener"]
