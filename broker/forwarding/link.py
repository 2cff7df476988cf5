"""What a forward speaks MQTT by: with its own session here (`Inner`), or with another broker (`Remote`)."""

from collections.abc import Sequence
from typing import Protocol

from broker.mqtt import Packet


class LinkLost(Exception):
    """The connection has ended, or was never there; the text says why."""


class Link(Protocol):
    """A connection after CONNACK."""

    def send(self, packets: Sequence[Packet]) -> None:
        """Raises LinkLost."""

    async def receive(self) -> list[Packet]:
        """What has come, at least one packet, in order. Raises LinkLost."""
