"""Where a connection came in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker.client.mounting import MountPoint
from broker.client.throttle import Throttling

PLAIN_TCP: Final = "tcp"
UNIX: Final = "unix"


@dataclass(frozen=True, slots=True)
class Entrance:
    """A listener, as its connections see it: what holds for them only. `kind` is for people, and nothing is
    decided by it. `is_revoked`: whether a certificate (DER) is by now, if there is a list of such.
    `is_internal`: the client is the node itself, and may do everything. `level`: of durability, at which what
    its clients do is acknowledged."""

    kind: str = PLAIN_TCP
    name: str = ""
    mount_point: MountPoint | None = None
    is_revoked: Callable[[bytes], bool] | None = None
    throttling: Throttling | None = None
    is_internal: bool = False
    level: int = 0
