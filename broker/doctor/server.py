"""Redis or Valkey: whether a node can use it, and whether it keeps what it is given.

What a managed server doesn't tell (`CONFIG`) is passed over. Whether our user may do all that a node does is
tried as at a node's start, on a key that is gone a moment later.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from broker.doctor.finding import Finding, fail, ok, warn
from cluster.store import keys
from cluster.store.call import Slot
from cluster.store.connection import Connection, open_connection
from cluster.store.endpoint import Endpoint
from cluster.store.errors import StoreError
from cluster.store.library import LIBRARY_NAME, LIBRARY_REVISION, SCHEMA_VERSION
from cluster.store.reply import as_list, as_text
from cluster.store.rights import check_rights
from cluster.store.server import check_server, loaded_library
from cluster.store.topology import Topology

_CONNECT_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 5.0
_PINGS: Final = 200
_PINGS_SECONDS: Final = 2.0
"""After which there are enough of them."""
_SLOW_MILLISECONDS: Final = 5.0
_CLOCK_SECONDS: Final = 1.0
_MEMORY_SHARE: Final = 0.8
_FRAGMENTED: Final = 1.5
_FRAGMENTED_BYTES: Final = 256 << 20
_STREAM_NODE_BYTES: Final = 4096

Values = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A setting of Redis, what is said if it isn't so, and what to set."""

    name: str
    good: frozenset[str]
    why: str
    advice: str


_WANTED: Final = (
    Wanted("maxmemory-policy", frozenset({"noeviction"}), "sessions and messages vanish when it is full",
           "CONFIG SET maxmemory-policy noeviction"),
    Wanted("appendonly", frozenset({"yes"}), "a restart of it loses what was acknowledged",
           "CONFIG SET appendonly yes"),
    Wanted("appendfsync", frozenset({"everysec", "always"}), "a crash of its machine may lose many seconds",
           "CONFIG SET appendfsync everysec"),
    Wanted("timeout", frozenset({"0"}), "it closes connections that are quiet, and nodes connect again",
           "CONFIG SET timeout 0"),
)  # fmt: skip

_ASKED: Final = (
    *(wanted.name for wanted in _WANTED),
    *("stream-node-max-bytes", "client-output-buffer-limit", "save", "min-replicas-to-write"),
)
"""Not all of them: there are passwords among them."""


async def check_redis(endpoint: Endpoint, prefix: str) -> list[Finding]:
    """All that can be found; where it ends early the last one says why."""
    try:
        if endpoint.is_cluster:
            return await _check_cluster(endpoint, prefix)
        connection = await _connect(endpoint)
    except StoreError as error:
        return [fail("redis", str(error), "start it, or mend redis.url, user, password or certificates")]
    try:
        return await _look(connection, prefix)
    finally:
        await connection.aclose()


async def _connect(endpoint: Endpoint) -> Connection:
    return await open_connection(endpoint, "moorline-doctor", _CONNECT_SECONDS, _ANSWER_SECONDS)


async def _check_cluster(endpoint: Endpoint, prefix: str) -> list[Finding]:
    """Each primary that has a slot of ours. Raises StoreError."""
    topology = Topology(endpoint, _connect)
    await topology.refresh(topology.generation)
    homes = topology.homes()
    findings = [ok("redis cluster", f"{len(homes)} primaries have something to do for a broker")]
    for address, slot in homes.items():
        connection = await _connect(topology.endpoint_of(address))
        try:
            findings += await _look(connection, prefix, slot)
        finally:
            await connection.aclose()
    return findings


async def _look(connection: Connection, prefix: str, slot: Slot | None = None) -> list[Finding]:
    """`slot`: one that this server has in its Cluster."""
    findings: list[Finding] = []
    try:
        server = await check_server(connection, in_cluster=slot is not None)
        findings.append(ok("redis", f"{server} at {connection.address}, primary"))
        findings.append(await _latency(connection))
        findings.append(await _clock(connection))
        info = _fields(as_text(await connection.ask_one("INFO")))
        findings += [*_memory(info), *_disk(info), *_replicas(info)]
        findings += await _configuration(
            connection, server.maxmemory_policy, server.is_append_only, int(info.get("connected_slaves", "0"))
        )
        await check_rights(connection, prefix, keys.META_SLOT if slot is None else slot)
        findings.append(ok("redis rights", "this user may do all that a node does"))
        has_schema = slot in (None, keys.META_SLOT)
        findings += await _release(connection, prefix if has_schema else None)
    except StoreError as error:
        findings.append(fail("redis", str(error), "a node does not start with it: see docs/operations.md"))
    return findings


def _fields(info: str) -> Values:
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line and line[0] != "#")


async def _latency(connection: Connection) -> Finding:
    times: list[float] = []
    while len(times) < _PINGS and sum(times) < _PINGS_SECONDS * 1000:
        begun = time.perf_counter()
        await connection.ask_one("PING")
        times.append((time.perf_counter() - begun) * 1000)
    times.sort()
    half, most = times[len(times) // 2], times[len(times) * 99 // 100]
    found = f"{len(times)} PINGs: p50 {half:.2f} ms, p99 {most:.2f} ms"
    if most < _SLOW_MILLISECONDS:
        return ok("redis latency", found)
    advice = "each batch waits so long: bring nodes and Redis together; look at SLOWLOG and LATENCY DOCTOR"
    return warn("redis latency", found, advice)


async def _clock(connection: Connection) -> Finding:
    before = time.time()
    seconds, micros = (int(as_text(part)) for part in as_list(await connection.ask_one("TIME")))
    ahead = seconds + micros / 1e6 - (before + time.time()) / 2
    found = f"this machine and Redis differ by {abs(ahead):.3f} s"
    if abs(ahead) < _CLOCK_SECONDS:
        return ok("clock", found)
    return warn(
        "clock",
        f"{found}: sessions and messages go by Redis' clock and don't mind; logs and tokens go by ours",
        "run NTP on both",
    )


def _memory(info: Values) -> Iterator[Finding]:
    used, most = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
    found = f"{used >> 20:,} MiB used, {f'maximum {most >> 20:,} MiB' if most else 'no maximum'}"
    if not most:
        yield warn(
            "redis memory",
            found,
            "set maxmemory below what its machine has: then Redis refuses writes, instead of being killed",
        )
    elif used > most * _MEMORY_SHARE:
        yield warn(
            "redis memory", found, "raise maxmemory, or shorten queues and expiries, before it is full"
        )
    else:
        yield ok("redis memory", found)
    ratio = float(info.get("mem_fragmentation_ratio", "1") or "1")
    if ratio > _FRAGMENTED and used > _FRAGMENTED_BYTES:
        yield warn("redis memory", f"fragmentation {ratio:g}", "CONFIG SET activedefrag yes")


def _disk(info: Values) -> Iterator[Finding]:
    broken = [
        name
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        if info.get(name, "ok") != "ok"
    ]
    if broken:
        yield fail(
            "redis disk", f"not ok: {', '.join(broken)}", "look at its disk and its log; it refuses writes"
        )
    delayed = int(info.get("aof_delayed_fsync", "0"))
    if delayed:
        advice = "give it a faster disk, or one of its own: until an fsync is done nothing is acknowledged"
        yield warn("redis disk", f"{delayed:,} writes had to wait for an fsync since it started", advice)
    elif not broken:
        yield ok("redis disk", "the last writes went well, none waited for an fsync")


def _replicas(info: Values) -> Iterator[Finding]:
    count = int(info.get("connected_slaves", "0"))
    yield ok(
        "redis replicas", f"{count}" if count else "none: while this Redis is away, nothing is acknowledged"
    )


async def _configuration(
    connection: Connection, policy: str, is_append_only: bool, replicas: int
) -> list[Finding]:
    """Where CONFIG isn't allowed: what INFO says of it."""
    try:
        answer = as_list(await connection.ask_one("CONFIG", "GET", *_ASKED))
    except StoreError:
        told = {"maxmemory-policy": policy, "appendonly": "yes" if is_append_only else "no"}
        return [*_as_wanted(told), ok("redis settings", "it does not tell more (CONFIG is not allowed)")]
    texts = [as_text(each) for each in answer]
    values = dict(zip(texts[::2], texts[1::2], strict=True))
    return [*_as_wanted(values), *_sizes(values), *_partitioned(values, replicas)]


def _as_wanted(values: Values) -> Iterator[Finding]:
    for wanted in _WANTED:
        value = values.get(wanted.name)
        if wanted.name == "appendfsync" and values.get("appendonly") != "yes":
            continue
        if not value:
            continue
        found = f"{wanted.name} {value}"
        if value in wanted.good:
            yield ok("redis settings", found)
        else:
            yield warn("redis settings", f"{found}: {wanted.why}", wanted.advice)


def _sizes(values: Values) -> Iterator[Finding]:
    node_bytes = values.get("stream-node-max-bytes", "")
    if node_bytes.isdecimal() and int(node_bytes) > _STREAM_NODE_BYTES:
        advice = f"CONFIG SET stream-node-max-bytes {_STREAM_NODE_BYTES}"
        yield warn("redis settings", f"stream-node-max-bytes {node_bytes}: queues take more memory", advice)
    hard = _pubsub_limit(values.get("client-output-buffer-limit", ""))
    if hard is not None:
        yield ok("redis settings", f"client-output-buffer-limit pubsub {hard >> 20} MiB")
    if values.get("save"):
        yield ok(
            "redis settings", f"save {values['save']}: snapshots beside the append-only file, each a fork"
        )


def _partitioned(values: Values, replicas: int) -> Iterator[Finding]:
    """Whether a primary that is cut off from the others stops by itself."""
    wanted = values.get("min-replicas-to-write", "0")
    if wanted != "0":
        yield ok(
            "redis settings", f"min-replicas-to-write {wanted}: with fewer replicas nothing is acknowledged"
        )
    elif replicas > 1:
        yield warn(
            "redis settings",
            "min-replicas-to-write 0: cut off from its replicas it takes writes that are lost by a fail-over",
            "CONFIG SET min-replicas-to-write 1, and min-replicas-max-lag 3",
        )


def _pubsub_limit(limits: str) -> int | None:
    """The hard limit; None if there is none, or nobody says."""
    words = limits.split()
    if "pubsub" not in words:
        return None
    return int(words[words.index("pubsub") + 1]) or None


async def _release(connection: Connection, prefix: str | None) -> list[Finding]:
    """Whether nodes of this release may use it, beside those that do. `prefix` None: the keys that tell it
    are with another primary."""
    findings = []
    library = await loaded_library(connection.ask_one, LIBRARY_NAME)
    if library is None:
        findings.append(ok("redis functions", f"none yet: the first node loads revision {LIBRARY_REVISION}"))
    elif library.revision == LIBRARY_REVISION:
        findings.append(ok("redis functions", f"revision {LIBRARY_REVISION}, that of this release"))
    else:
        age = "an older" if library.revision < LIBRARY_REVISION else "a newer"
        findings.append(
            ok(
                "redis functions",
                f"revision {library.revision} of {age} release; this one: {LIBRARY_REVISION}",
            )
        )
    if prefix is None:
        return findings
    version = await connection.ask_one("GET", keys.schema(prefix))
    if version is not None and as_text(version) != str(SCHEMA_VERSION):
        found = f"{keys.schema(prefix)} is {as_text(version)}, this release has {SCHEMA_VERSION}"
        findings.append(warn("redis keys", found, "see docs/upgrading.md before you start a node"))
    return findings
