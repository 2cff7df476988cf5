"""How Redis is doing, as it says itself: for people who look. Costs a ping and an INFO."""

import time
from dataclasses import dataclass

from cluster.store.store import Store


@dataclass(frozen=True, slots=True)
class ServerState:
    """`round_trip_ms`: of a PING on an idle connection. A maximum of 0: there is none. `is_written`: whether
    the last write of the append-only file went well. `address`: of the server that this node uses."""

    server: str
    version: str
    round_trip_ms: float
    memory_used_bytes: int
    memory_maximum_bytes: int
    memory_policy: str
    is_append_only: bool
    is_written: bool
    operations_per_second: int
    connected_clients: int
    uptime_seconds: int
    replicas: int
    address: str


async def server_state(store: Store) -> ServerState:
    """Raises StoreError."""
    await store.ping()  # a connection may have to be made first
    began = time.perf_counter()
    await store.ping()
    seconds = time.perf_counter() - began
    fields = await store.info()

    def number(name: str) -> int:
        text = fields.get(name, "0")
        return int(text) if text.isdecimal() else 0

    return ServerState(
        server=store.server.product,
        version=store.server.version,
        round_trip_ms=round(1000 * seconds, 3),
        memory_used_bytes=number("used_memory"),
        memory_maximum_bytes=number("maxmemory"),
        memory_policy=fields.get("maxmemory_policy", ""),
        is_append_only=fields.get("aof_enabled") == "1",
        is_written=fields.get("aof_last_write_status", "ok") == "ok",
        operations_per_second=number("instantaneous_ops_per_sec"),
        connected_clients=number("connected_clients"),
        uptime_seconds=number("uptime_in_seconds"),
        replicas=number("connected_slaves"),
        address=store.primary,
    )
