"""Slots of a Cluster under test that are moved from primary to primary, step by step."""

from typing import cast

import redis

from cluster.store.slots import hash_slot
from tests.redis.server import Server
from tests.redis.topology import Topology

_MIGRATE_MS = 2000


class SlotMove:
    """The slot of a key on its way to another primary; each step is one that `redis-cli --cluster reshard`
    makes, too."""

    def __init__(self, topology: Topology, key: str) -> None:
        self._primaries = [topology.primary(shard) for shard in range(topology.shards)]
        self.slot = hash_slot(key)
        self.source = next(server for server in self._primaries if self._count(server) is not None)
        self.target = next(server for server in self._primaries if server is not self.source)

    def begin(self) -> None:
        """From now on each has a part of it."""
        self._set(self.target, "IMPORTING", _identity(self.source))
        self._set(self.source, "MIGRATING", _identity(self.target))

    def carry(self) -> int:
        """All keys that are there now; how many that were."""
        with _client(self.source) as client:
            names = cast(list[bytes], client.execute_command("CLUSTER", "GETKEYSINSLOT", self.slot, 1000))
            for name in names:
                client.execute_command("MIGRATE", "127.0.0.1", self.target.port, name, 0, _MIGRATE_MS)
        return len(names)

    def end(self) -> None:
        """Everybody hears of it."""
        for server in (self.target, self.source, *self._primaries):
            self._set(server, "NODE", _identity(self.target))

    def all_at_once(self) -> None:
        """The whole way."""
        self.begin()
        self.carry()
        self.end()

    def _set(self, server: Server, state: str, identity: str) -> None:
        with server.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", self.slot, state, identity)

    def _count(self, server: Server) -> int | None:
        """Keys of the slot; None if the server does not serve it."""
        with server.client() as client:
            try:
                client.execute_command("EXISTS", _key_of(self.slot))
            except redis.ResponseError:
                return None
            return cast(int, client.execute_command("CLUSTER", "COUNTKEYSINSLOT", self.slot))


def keys_in(server: Server, slot: int) -> list[str]:
    """Of a slot, on one server."""
    with _client(server) as client:
        names = cast(list[bytes], client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000))
        return sorted(name.decode(errors="replace") for name in names)


def _client(server: Server) -> redis.Redis:
    """Which takes keys for what they are: some have tokens in them."""
    return server.client(5.0, decodes=False)


def _identity(server: Server) -> str:
    with server.client() as client:
        return str(client.execute_command("CLUSTER", "MYID"))


def _key_of(slot: int) -> str:
    """Some key with this slot."""
    return next(name for number in range(1 << 20) if hash_slot(name := f"k{number}") == slot)
