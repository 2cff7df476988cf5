"""Guesses of passwords by the clock: so many a second, whether or not the last ones were answered. Bare
sockets, since what this process takes of the processor the node would miss."""

import os
import select
import socket
import struct
import time
from collections import Counter, deque
from typing import Final

from broker.mqtt import MQTT_5, Connack, Connect, Decoder, Packet, encode

_PATIENCE_SECONDS: Final = 1.0
"""An attacker waits no longer for an answer."""
_WAKE_SECONDS: Final = 0.002
_ADDRESSES: Final = 200
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: the port is free again at once."""
_LARGEST: Final = 1024


class Guesser:
    """Each guess is a connection from one of many addresses. Half of them are of a user that is there."""

    def __init__(self, port: int, seen: Counter[str]) -> None:
        self._port = port
        self._seen = seen
        self._poll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self._begun: deque[tuple[float, int, socket.socket]] = deque()
        self._number = 0

    def run(self, per_second: float, seconds: float) -> None:
        """Until the time is over."""
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            while self._number < (now - began) * per_second:
                self._begin(now)
            for descriptor, event in self._poll.poll(_WAKE_SECONDS):
                self._go_on(descriptor, event)
            while self._begun and self._begun[0][0] < now - _PATIENCE_SECONDS:
                _, descriptor, guess = self._begun.popleft()
                if self._open.get(descriptor) is guess:
                    self._end(descriptor, "not answered in a second")
        for descriptor in list(self._open):
            self._end(descriptor, "under way at the end")
        self._poll.close()

    def _begin(self, now: float) -> None:
        self._number += 1
        self._seen["guesses"] += 1
        guess = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        guess.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        guess.bind((f"127.1.0.{self._number % _ADDRESSES + 1}", 0))
        guess.connect_ex(("127.0.0.1", self._port))
        descriptor = guess.fileno()
        self._open[descriptor] = guess
        self._begun.append((now, descriptor, guess))
        self._poll.register(descriptor, select.EPOLLOUT)

    def _go_on(self, descriptor: int, event: int) -> None:
        guess = self._open[descriptor]
        try:
            if event & select.EPOLLOUT:
                guess.send(self._connect())
                self._poll.modify(descriptor, select.EPOLLIN)
            else:
                self._end(descriptor, _told(guess.recv(_LARGEST)))
        except OSError as error:
            self._end(descriptor, type(error).__name__)

    def _connect(self) -> bytes:
        username = "honest" if self._number % 2 else f"user-{self._number}"
        password = os.urandom(8).hex().encode()
        packet = Connect(f"guess-{self._number}", MQTT_5, True, 0, username, password, None, None)
        return encode(packet, MQTT_5)

    def _end(self, descriptor: int, how: str) -> None:
        self._seen[how] += 1
        self._open.pop(descriptor).close()


def _told(answer: bytes) -> str:
    packets: list[Packet] = []
    Decoder(False, _LARGEST, MQTT_5).feed(answer, packets)
    if packets and isinstance(packets[0], Connack):
        return f"CONNACK {packets[0].reason_code:#04x}"
    return "closed by the node"
