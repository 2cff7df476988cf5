"""What a node says of itself with its life signs: JSON, for people and for `cluster.control`.

A newer release may say more, an older one less: unknown fields are skipped, absent ones have their default.
"""

from dataclasses import dataclass, field
from typing import Final

import orjson
from pydantic import TypeAdapter, ValidationError


@dataclass(slots=True)
class NodeInfo:
    """`listen` and `admin`: HOST:PORT. `sessions`: clients that are connected; `connections`: with those that
    have not said CONNECT; `direct_sessions`: those that end with their connection, and `direct_subscriptions`
    of these. `started_ms`: in Redis time; 0 while the node starts. Messages and bytes: since then,
    up to `said_ms`. `queued`: messages in its part of the queues, once it has counted; `backlog`: those
    that wait in its memory. `kubernetes_node`, `zone`: where it runs, if somebody has told it."""

    name: str = ""
    version: str = ""
    listen: list[str] = field(default_factory=list)
    admin: str | None = None
    connections: int = 0
    sessions: int = 0
    started_ms: int = 0
    draining: bool = False
    kubernetes_node: str = ""
    zone: str = ""
    direct_sessions: int = 0
    direct_subscriptions: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    said_ms: int = 0
    queued: int | None = None
    backlog: int = 0

    def pack(self) -> bytes:
        """As it goes to Redis."""
        return orjson.dumps(self)


_READER: Final = TypeAdapter(NodeInfo)


def unpack(record: bytes) -> NodeInfo | None:
    """None if the node has not said anything yet, or nothing that can be understood."""
    try:
        return _READER.validate_json(record)
    except ValidationError:
        return None
