"""What a forward speaks MQTT by: with the broker that it lives in (`Inner`), or with another (`Remote`)."""

import asyncio
from collections.abc import Sequence
from typing import Protocol, TypeVar

import anyio

from broker.mqtt import Packet, ReasonCode

Answer = TypeVar("Answer", bound=Packet)


class LinkLost(Exception):
    """The connection has ended, or was never there; the text says why."""


class Link(Protocol):
    """A connection after CONNACK."""

    def send(self, packets: Sequence[Packet]) -> None:
        """Raises LinkLost."""

    async def drain(self) -> None:
        """Waits until the other side takes more. Raises LinkLost."""

    async def receive(self) -> list[Packet]:
        """What has come, at least one packet, in order. Raises LinkLost."""


class Arrivals:
    """Packets that have come and that nobody has taken yet; and why there will be no more."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.failure = ""
        self._changed = asyncio.Event()

    def tell(self) -> None:
        """There is something new: packets, an end, room."""
        self._changed.set()

    def fail(self, reason: str) -> None:
        """The first reason counts."""
        self.failure = self.failure or reason
        self._changed.set()

    def check(self) -> None:
        """Raises LinkLost if it has ended."""
        if self.failure:
            raise LinkLost(self.failure)

    async def wait(self) -> None:
        """Until the next `tell`. Raises LinkLost if it has ended, but for what came before that."""
        self.check()
        self._changed.clear()
        await self._changed.wait()

    async def answer(self, kind: type[Answer], timeout_seconds: float) -> Answer:
        """The first packet of this kind; what came before it stays where it is. Raises LinkLost."""
        with anyio.move_on_after(timeout_seconds):
            while True:
                for place, packet in enumerate(self.packets):
                    if isinstance(packet, kind):
                        del self.packets[place]
                        return packet
                await self.wait()
        raise LinkLost(f"no {kind.__name__.upper()} within {timeout_seconds:g} s")


def name_of(reason_code: int) -> str:
    """For people."""
    try:
        return ReasonCode(reason_code).name.lower().replace("_", " ")
    except ValueError:  # another broker's
        return f"reason code {reason_code:#04x}"
