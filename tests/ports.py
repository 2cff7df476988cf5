"""Ports for servers under test."""

import random
import socket
from typing import Final

_PORTS: Final = range(15_000, 32_000)
"""Below those that the kernel gives to outgoing connections: nobody takes the port of a server that is down,
or that is about to start."""


def free_port() -> int:
    """One that nobody listens on, and that no outgoing connection will take."""
    chance = random.Random()
    while True:
        port = chance.choice(_PORTS)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
