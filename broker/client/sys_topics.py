"""`$SYS` topics: what a node says of itself and, if it is its turn, of the cluster, to whoever subscribes.

Each value is a retained message at QoS 0 that expires after three intervals. It goes to those who are
connected at once, over the router like any other, and into the retained store: so a new subscriber gets the
values of all nodes from the one it is connected to, and those of a node that is gone go away by themselves,
whatever ended it. No node has to remember what others say.

What holds for the cluster is told by one node, the first of the living by incarnation. While that one
changes, two may tell it, or none for an interval.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import anyio

from broker import __version__
from broker.client.hub import Hub
from broker.mqtt import SYS_PREFIX
from broker.observability.logs import get_logger
from broker.routing import Publication
from broker.session import Message
from cluster.alarms import pack
from cluster.control import Control, NodeState
from cluster.node_info import NodeInfo
from cluster.store.errors import ItemError, RedisFull, StoreUnavailable

_LIFETIME_INTERVALS: Final = 3
_QOS = (0, 1, 2)

Values = Mapping[str, object]
"""By topic, without what all of them begin with."""

logger = get_logger(__name__)


class SysTopics:
    """Of one node. `info` is what it says of itself with its life signs; `interval_seconds` 0: nothing is
    told."""

    def __init__(self, hub: Hub, control: Control, info: NodeInfo, interval_seconds: int) -> None:
        self._hub = hub
        self._control = control
        self._info = info
        self._interval_seconds = interval_seconds
        self._changed = anyio.Event()
        self._clients_maximum = 0
        self._unsettled = 0

    async def run(self) -> None:
        """Tells now and after each interval, until cancelled."""
        while True:
            self._changed = anyio.Event()
            started = time.monotonic()
            if self._interval_seconds:
                try:
                    await self._tell()
                except (StoreUnavailable, RedisFull, ItemError) as error:
                    logger.debug("$SYS topics wait: %s", error)
            with anyio.move_on_after(self._interval_seconds + started - time.monotonic()) as waiting:
                if not self._interval_seconds:
                    waiting.deadline = float("inf")
                await self._changed.wait()

    def change(self, interval_seconds: int) -> None:
        """From now on."""
        self._interval_seconds = interval_seconds
        self._changed.set()

    def settled(self, publication: Publication) -> None:
        """One of the values is in the retained store."""
        self._unsettled -= 1

    async def tell_alarms(self) -> None:
        """Those of the whole cluster, as one of them has changed. Raises StoreError."""
        if self._interval_seconds:
            self._publish("", {"brokers/alarms": pack(await self._control.alarms.all())})

    async def _tell(self) -> None:
        if self._unsettled:  # Redis is away: newer values come when it is back
            return
        self._publish(f"brokers/{self._info.name}/", self._of_node())
        nodes = [node for node in await self._control.nodes() if node.is_alive]
        if min((node.incarnation for node in nodes), default="") != self._control.incarnation:
            return
        retained = await self._control.retained_count()
        index = self._hub.index
        # Those that an older release has left behind are not counted until they are claimed.
        sessions = max(await self._control.session_count(), len(index.subscribers))
        self._publish("", {"brokers": ",".join(dict.fromkeys(node.name for node in nodes))})
        await self.tell_alarms()
        self._publish(
            "cluster/",
            of_cluster(nodes, sessions, index.count - index.direct_count, retained),
        )

    def _publish(self, prefix: str, values: Values) -> None:
        hub = self._hub
        hub.tick()
        deadline_ms = hub.clock.now_ms + _LIFETIME_INTERVALS * self._interval_seconds * 1000
        for name, value in values.items():
            topic = f"{SYS_PREFIX}{prefix}{name}"
            payload = value if isinstance(value, bytes) else str(value).encode()
            message = Message(topic, payload, 0, True, b"", deadline_ms)
            self._unsettled += 1
            hub.router.announce(Publication(message, None, origin=self))
        hub.after_input()

    def _of_node(self) -> Values:
        hub = self._hub
        hub.tick()
        now_ms = hub.clock.now_ms
        started_ms = self._info.started_ms or now_ms
        self._clients_maximum = max(self._clients_maximum, len(hub.clients))
        received, sent = hub.ingress.received, hub.drops.sent
        return {
            "version": __version__,
            "sysdescr": "Moorline",
            "uptime": (now_ms - started_ms) // 1000,
            "datetime": datetime.fromtimestamp(now_ms // 1000, UTC).isoformat(),
            "connections/count": len(hub.connections),
            "clients/connected": len(hub.clients),
            "clients/maximum": self._clients_maximum,
            "subscriptions/count": hub.index.count,
            "packets/received": hub.counters.packets_received,
            "bytes/received": hub.counters.bytes_received,
            "bytes/sent": hub.counters.bytes_sent,
            "messages/received": sum(received),
            "messages/sent": sum(sent),
            "messages/dropped": sum(hub.dropped().values()),
            **{f"messages/qos{qos}/received": received[qos] for qos in _QOS},
            **{f"messages/qos{qos}/sent": sent[qos] for qos in _QOS},
        }


def of_cluster(
    nodes: list[NodeState], persistent_sessions: int, persistent_subscriptions: int, retained_messages: int
) -> Values:
    """What the living nodes say, added up, and what Redis has."""
    infos = [node.info for node in nodes if node.info is not None]
    return {
        "nodes/count": len(nodes),
        "clients/connected": sum(info.sessions for info in infos),
        "clients/total": persistent_sessions + sum(info.direct_sessions for info in infos),
        "subscriptions/count": persistent_subscriptions + sum(info.direct_subscriptions for info in infos),
        "retained messages/count": retained_messages,
        "messages/received": sum(info.messages_received for info in infos),
        "messages/sent": sum(info.messages_sent for info in infos),
        "bytes/received": sum(info.bytes_received for info in infos),
        "bytes/sent": sum(info.bytes_sent for info in infos),
    }
