"""Sockets to Protocol objects."""

from broker.listeners.tcp import bind_tcp, listen_tcp

__all__ = ["bind_tcp", "listen_tcp"]
