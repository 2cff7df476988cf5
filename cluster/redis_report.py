"""What `moorline ctl redis` shows: how a Redis server is, and where its memory goes.

One look at a time in each process, and one that is a few moments old serves whoever asks meanwhile: however
many ask, Redis does the work of one.
"""

import time
from dataclasses import dataclass
from typing import Final

import anyio

from cluster.store import keys
from cluster.store.accounting import Account, account_of
from cluster.store.connection import Connection
from cluster.store.reply import as_bytes
from cluster.store.server import info_fields, parse_info
from cluster.store.store import Store

KEPT_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.5


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Of INFO. `latency_ms`: of a PING on an idle connection. `dataset_bytes`: what is left of the used
    memory without buffers, tables and the like. `aof_delayed_fsyncs`: writes that had to wait for the disk,
    since its start. A maximum of 0: there is none. Numbers are None where the server does not say."""

    address: str
    server: str
    uptime_seconds: int | None
    latency_ms: float
    operations_per_second: int | None
    connected_clients: int | None
    replicas: int | None
    memory_used_bytes: int | None
    memory_peak_bytes: int | None
    memory_maximum_bytes: int | None
    memory_policy: str
    dataset_bytes: int | None
    resident_bytes: int | None
    fragmentation: float | None
    is_append_only: bool
    aof_bytes: int | None
    aof_base_bytes: int | None
    is_rewriting: bool
    aof_written: bool
    aof_rewritten: bool
    aof_delayed_fsyncs: int | None


@dataclass(frozen=True, slots=True)
class RedisReport:
    """Of one server."""

    server: ServerFacts
    account: Account


async def report_of(connection: Connection, prefix: str, seconds: float = LOOK_SECONDS) -> RedisReport:
    """Of the server that `connection` leads to, in about so long. Raises StoreError."""
    began = time.perf_counter()
    await connection.ask_one("PING")
    latency = time.perf_counter() - began
    text = as_bytes(await connection.ask_one("INFO")).decode(errors="replace")
    facts = _facts(connection.address, text, latency)
    return RedisReport(facts, await account_of(connection, prefix, seconds=seconds))


class Reporter:
    """Makes them for a process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = anyio.Lock()
        self._made: list[RedisReport] = []
        self._made_at = float("-inf")

    async def reports(self) -> list[RedisReport]:
        """One, or one for each primary of a Cluster; some moments old at most. Raises StoreError."""
        async with self._lock:
            if time.monotonic() - self._made_at >= KEPT_SECONDS:
                self._made = await self._make()
                self._made_at = time.monotonic()
            return self._made

    async def _make(self) -> list[RedisReport]:
        until = time.monotonic() + LOOK_SECONDS
        made = []
        async for connection in self._store.connect_to_each():
            try:
                left = max(until - time.monotonic(), 0.0)
                made.append(await report_of(connection, self._store.prefix, left))
            finally:
                connection.abort("reported")
        return made

    async def session_bytes(self, client_id: str) -> int:
        """Memory that a session takes in Redis with all that waits for it, but for its part of what sessions
        share. Raises StoreError."""
        bucket = keys.bucket_of(client_id)
        of_session = (keys.session, keys.queue, keys.released, keys.receiving, keys.delayed)
        names = [name(self._store.prefix, bucket, client_id) for name in of_session]
        return sum(await self._store.key_sizes(names))


def _facts(address: str, text: str, seconds: float) -> ServerFacts:
    fields = info_fields(text)

    def number(name: str) -> int | None:
        value = fields.get(name, "")
        return int(value) if value.isdecimal() else None

    ratio = fields.get("mem_fragmentation_ratio", "")
    is_append_only = fields.get("aof_enabled") == "1"
    return ServerFacts(
        address=address,
        server=str(parse_info(text)),
        uptime_seconds=number("uptime_in_seconds"),
        latency_ms=round(1000 * seconds, 3),
        operations_per_second=number("instantaneous_ops_per_sec"),
        connected_clients=number("connected_clients"),
        replicas=number("connected_slaves"),
        memory_used_bytes=number("used_memory"),
        memory_peak_bytes=number("used_memory_peak"),
        memory_maximum_bytes=number("maxmemory"),
        memory_policy=fields.get("maxmemory_policy", ""),
        dataset_bytes=number("used_memory_dataset"),
        resident_bytes=number("used_memory_rss"),
        fragmentation=float(ratio) if ratio.replace(".", "", 1).isdecimal() else None,
        is_append_only=is_append_only,
        aof_bytes=number("aof_current_size") if is_append_only else None,
        aof_base_bytes=number("aof_base_size") if is_append_only else None,
        is_rewriting=fields.get("aof_rewrite_in_progress") == "1",
        aof_written=fields.get("aof_last_write_status", "ok") == "ok",
        aof_rewritten=fields.get("aof_last_bgrewrite_status", "ok") == "ok",
        aof_delayed_fsyncs=number("aof_delayed_fsync"),
    )
