"""Where a connection came in."""

from dataclasses import dataclass
from typing import Final

from broker.client.mounting import MountPoint

PLAIN_TCP: Final = "tcp"


@dataclass(frozen=True, slots=True)
class Entrance:
    """A listener, as its connections see it: what holds for them only. `kind` is for people, and nothing is
    decided by it."""

    kind: str = PLAIN_TCP
    mount_point: MountPoint | None = None
