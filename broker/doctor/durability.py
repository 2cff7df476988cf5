"""Whether Redis can give the durability levels that the settings ask for: asked as a node asks, by a key that
is gone a moment later."""

import secrets
from collections.abc import Iterable
from typing import Final

from broker.doctor.finding import Finding, fail, ok
from broker.durability import configured_levels
from broker.session import is_fsynced, level_name, replicas_of
from broker.settings import Settings
from cluster.store import keys
from cluster.store.call import Slot
from cluster.store.confirm import Asker, Need
from cluster.store.connection import Connection, open_connection
from cluster.store.endpoint import Endpoint
from cluster.store.errors import StoreError
from cluster.store.topology import Topology

_CONNECT_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 5.0
_WAIT_MS: Final = 1500  # the disk is asked to write once a second


async def check_durability(settings: Settings, endpoint: Endpoint | None) -> list[Finding]:
    """A finding per level above `stored`; none if there is none."""
    levels = configured_levels(settings)
    if not levels:
        return []
    if endpoint is None:
        return list(_of_a_private_one(levels))
    try:
        homes = await _homes(endpoint)
        return [finding for each, slot in homes for finding in await _check_all(settings, levels, each, slot)]
    except StoreError:
        return []  # told already


async def _homes(endpoint: Endpoint) -> list[tuple[Endpoint, Slot]]:
    """The primaries, and a slot that each of them has. Raises StoreError."""
    if not endpoint.is_cluster:
        return [(endpoint, keys.META_SLOT)]
    topology = Topology(endpoint, _connect)
    await topology.refresh(topology.generation)
    return [(topology.endpoint_of(address), slot) for address, slot in topology.homes().items()]


async def _connect(endpoint: Endpoint) -> Connection:
    return await open_connection(endpoint, "moorline-doctor", _CONNECT_SECONDS, _ANSWER_SECONDS)


async def _check_all(
    settings: Settings, levels: Iterable[int], endpoint: Endpoint, slot: Slot
) -> list[Finding]:
    connection = await _connect(endpoint)
    try:
        return [await _check(connection, settings.redis.prefix, slot, level) for level in levels]
    finally:
        await connection.aclose()


def _of_a_private_one(levels: Iterable[int]) -> Iterable[Finding]:
    for level in levels:
        if replicas_of(level):
            advice = "name a Redis with replicas (redis.url), or choose stored or fsynced"
            yield fail("durability", f"{level_name(level)}: a private Redis has no replicas", advice)


async def _check(connection: Connection, prefix: str, slot: Slot, level: int) -> Finding:
    name = level_name(level)
    key = keys.fence(prefix, slot, f"doctor-{secrets.token_hex(8)}", name)
    asker = Asker(connection, key, Need(replicas_of(level), is_fsynced(level)), _WAIT_MS)
    try:
        trouble = (await asker.ask(must_write=True)).trouble
        await connection.ask_one("DEL", key)
    except StoreError as error:
        trouble = str(error)
    if not trouble:
        return ok("durability", f"{name}: Redis at {connection.address} can confirm it")
    found = f"{name}: {connection.address}: {trouble}"
    return fail("durability", found, "until then nothing is acknowledged at this level")
