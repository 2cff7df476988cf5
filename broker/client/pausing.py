"""What waits while a client does."""

from collections.abc import Callable
from dataclasses import dataclass, field

from broker.mqtt import MqttError, Packet


@dataclass(slots=True)
class Pause:
    """What a client has sent while an earlier packet of it waits for somebody's word; bounded, as nothing is
    read meanwhile. `failure`: of the bytes after them. `loss`: the connection has ended behind all that."""

    packets: list[Packet] = field(default_factory=list)
    failure: MqttError | None = None
    loss: Callable[[], None] | None = None
