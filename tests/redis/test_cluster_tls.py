"""A Redis Cluster as managed services have it: nothing but TLS, a user who may do what a node needs and no
more (no CONFIG). Its certificates, a node on it, and imports that are stopped in their middle."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from broker import ctl, ctl_moving
from broker.ctl import Answer
from broker.ctl_moving import Writer
from cluster.moved import (
    MovedEntries,
    MovedEntry,
    MovedRetained,
    MovedSession,
    MovedSubscription,
    Record,
)
from cluster.store import inboxes, keys
from cluster.store.endpoint import ServerFiles
from cluster.store.errors import StoreUnavailable
from cluster.store.keys import BUCKETS
from cluster.store.rights import access_list
from cluster.store.store import Store, open_store
from tests.moving.brokers import Broker, Json
from tests.node.harness import running_node
from tests.node.wire import HOUR, connected
from tests.redis.slots import SlotMove
from tests.redis.topology import Topology, cluster
from tests.tools import Certificate, make_certificate

PREFIX = "mq:"
USER = "moorline:secret"
SESSIONS = 320
QUEUED = 3
RETAINED = 60


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Of all servers; for a name, as addresses come and go."""
    return make_certificate(tmp_path_factory.mktemp("certificate"), names="DNS:localhost")


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Topology]:
    lines = [
        f"user moorline on >secret {access_list(PREFIX, in_cluster=True)}",
        "cluster-announce-hostname localhost",
        "cluster-preferred-endpoint-type hostname",
    ]
    directory = tmp_path_factory.mktemp("cluster")
    with cluster(directory, 3, 0, software="redis", options=lines, certificate=certificate) as running:
        yield running


@pytest.fixture(scope="module")
def url(topology: Topology, certificate: Certificate) -> str:
    """By its name, as the certificates are."""
    seeds = ",".join(f"localhost:{server.announced}" for server in topology.servers)
    return f"rediss+cluster://{USER}@{seeds}?ssl_ca_certs={certificate.file}"


@contextmanager
def telling(topology: Topology, kind: str) -> Iterator[None]:
    """Its servers tell `ip` in place of names."""
    for value in (kind, "hostname"):
        for server in topology.servers:
            with server.client() as client:
                client.config_set("cluster-preferred-endpoint-type", value)
        if value == kind:
            yield


async def _all_buckets(store: Store) -> None:
    bells = [inboxes.take_bell(bucket, "n1", False) for bucket in range(BUCKETS)]
    assert await store.call(bells, function="free") == [[]] * BUCKETS


def test_certificates_are_for_what_the_cluster_tells(topology: Topology, url: str) -> None:
    """If these are addresses, the name that they are for has to be given."""

    async def look() -> None:
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:\d+: .*certificate.*server_name"):
            await open_store(url, PREFIX, "n1")
        async with await open_store(url, PREFIX, "n1", files=ServerFiles(server_name="localhost")) as store:
            await _all_buckets(store)

    with telling(topology, "ip"):
        anyio.run(look)


def test_names_in_place_of_addresses(topology: Topology, url: str) -> None:
    """And they are what is followed when a slot has moved."""

    async def look() -> None:
        with pytest.raises(StoreUnavailable, match="certificate"):  # of an authority that nobody knows
            await open_store(url.partition("?")[0], PREFIX, "n1")
        async with await open_store(url, PREFIX, "n1") as store:
            await _all_buckets(store)
            await anyio.to_thread.run_sync(SlotMove(topology, keys.slot(PREFIX, 5)).all_at_once)
            await _all_buckets(store)
            assert {seat.name.partition(":")[0] for seat in store.seats()} == {"localhost"}

    anyio.run(look)


@pytest.fixture(scope="module")
def broker(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    flags = ("--redis", url, "--prefix", PREFIX)
    with running_node(tmp_path_factory.mktemp("node"), *flags) as node:
        yield Broker([node], url, PREFIX)


def test_a_node_needs_no_more(broker: Broker) -> None:
    with connected(broker.port, "a", properties=HOUR) as client:
        client.subscribe("t/#", qos=2)
        with connected(broker.port, "b") as publisher:
            for qos in (0, 1, 2):
                publisher.publish("t/x", b"%d" % qos, qos)
        assert sorted(client.payloads(3)) == [b"0", b"1", b"2"]
    assert "NOPERM" not in broker.nodes[0].output()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An export of some batches."""
    path = tmp_path / "file"
    with path.open("wb") as opened:
        writer = Writer(opened)
        writer.write({"moorline": "1", "format": 1, "of": []})
        for record in _records(tmp_path.name):
            writer.write(record.model_dump(mode="json", exclude_defaults=True))
        writer.end()
    return path


def _records(name: str) -> Iterator[Record]:
    for number in range(SESSIONS):
        client_id = f"{name}-{number}"
        entries = [MovedEntry(n=n + 1, qos=1, topic="t", payload=bytes(300)) for n in range(QUEUED)]
        yield MovedEntries(kind="entries", client_id=client_id, first=True, entries=entries)
        subscriptions = [MovedSubscription(filter=f"{name}/x", qos=1)]
        yield MovedSession(
            kind="session",
            client_id=client_id,
            n=QUEUED,
            hi=0,
            expiry_seconds=3600,
            has_entries=True,
            subscriptions=subscriptions,
        )
    for number in range(RETAINED):
        yield MovedRetained(kind="retained", topic=f"{name}-{number}/x", payload=bytes(300))


def _assert_all_there(broker: Broker, file: Path, directory: Path) -> None:
    """Each once, and as it was."""
    name = file.parent.name
    found = [
        each for each in broker.export(directory / "found", "--sessions", f"{name}-") if _is_of(each, name)
    ]
    for record in found:
        for key in ("lives_ms", *(key for key, value in record.items() if value == [])):
            record.pop(key, None)
    expected = [each.model_dump(mode="json", exclude_defaults=True) for each in _records(name)]
    assert sorted(found, key=str) == sorted(expected, key=str)


def _is_of(record: Json, name: str) -> bool:
    return str(record.get("client_id", record.get("topic", ""))).startswith(f"{name}-")


def test_an_import_that_fills_a_shard_tells_how_far_it_came(
    broker: Broker, topology: Topology, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctl, "_PATIENCE_SECONDS", 0.2)
    with topology.client(1) as client:
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", used + (150 << 10))
        result = broker.ctl("import", str(file))
        client.config_set("maxmemory", 0)
    assert result.exit_code == 1
    assert "Redis is full" in result.stderr
    assert "make the same import again" in result.stderr
    told = broker.import_(file)
    assert (told["sessions"]["made"] + told["sessions"]["there"], told["problems"]) == (SESSIONS, 0)
    _assert_all_there(broker, file, tmp_path)


def test_an_import_goes_on_when_its_node_is_killed(
    broker: Broker, topology: Topology, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a batch, at whatever point: by itself, if the node comes back in time."""
    send = ctl_moving._sent
    node = broker.nodes[0]
    server = topology.primary(1)
    batches: list[int] = []
    is_answered = threading.Event()

    def kill(keys_before: int) -> None:
        with server.client() as client:
            while client.dbsize() < keys_before + 5 and not is_answered.is_set():
                time.sleep(0.001)
            server.freeze()
        node.kill()
        server.thaw()
        node.start()

    def sent(admin: str, order: Answer, batch: list[object], *, is_first: bool) -> Answer:
        batches.append(len(batch))
        if len(batches) != 2:
            return send(admin, order, batch, is_first=is_first)
        with server.client() as client:
            killer = threading.Thread(target=kill, args=(client.dbsize(),))
        killer.start()
        try:
            return send(admin, order, batch, is_first=is_first)
        finally:
            is_answered.set()
            killer.join()

    monkeypatch.setattr(ctl_moving, "_sent", sent)
    told = broker.import_(file)
    assert len(batches) >= 2
    assert (told["sessions"]["made"] + told["sessions"]["there"], told["problems"]) == (SESSIONS, 0)
    told = broker.import_(file)
    assert (told["sessions"]["there"], told["retained"]["there"]) == (SESSIONS, RETAINED)
    _assert_all_there(broker, file, tmp_path)
