"""Sockets to Protocol objects."""

from broker.listeners.tcp import listen_tcp

__all__ = ["listen_tcp"]
