"""The loop that has levels confirmed: what it does when they can't be, and when another primary comes."""

from collections.abc import Callable
from typing import cast

import anyio
import anyio.lowlevel
import pytest

from broker.observability.durability import LevelStatus
from broker.session import Confirmation, Confirmations
from cluster import confirmer
from cluster.confirmer import Confirmer
from cluster.store.call import Slot
from cluster.store.confirm import Need
from cluster.store.connection import Connection
from cluster.store.errors import SlotMoved, SlotMoving, StoreError, StoreUnavailable
from cluster.store.identity import Identities, Identity
from cluster.store.witness import Seat

pytestmark = pytest.mark.anyio
ONE = 2


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmer, "_PAUSE_SECONDS", 0.0)


class Server:
    """What connections lead to: so many replicas, and an identity."""

    def __init__(self, replication_id: str = "a") -> None:
        self.replicas = 1
        self.replication_id = replication_id
        self.is_away = False
        self.opened = 0
        self.writes = 0
        self.asked = 0
        self.gone: StoreError | None = None  # said of each slot
        self.on_asked: Callable[[], None] = lambda: None

    async def connect(self) -> Connection:
        if self.is_away:
            raise StoreUnavailable("away")
        self.opened += 1
        return cast(Connection, Talk(self))

    @property
    def identity(self) -> Identity:
        return Identity(f"run of {self.replication_id}", self.replication_id, "1")


class Talk:
    address = "here"

    def __init__(self, server: Server) -> None:
        self._server = server
        self.identity = server.identity
        self.is_closed = False

    async def ask(self, commands: bytes, count: int) -> list[object]:
        server = self._server
        await anyio.lowlevel.checkpoint()
        server.asked += 1
        server.on_asked()
        if server.is_away:
            raise StoreUnavailable("away")
        server.writes += b"PEXPIRE" in commands
        info = (
            f"role:master\r\nconnected_slaves:{server.replicas}\r\nmaster_replid:{server.replication_id}\r\n"
        )
        looks = [server.gone or 0] * commands.count(b"EXISTS")
        return [*([1] if b"PEXPIRE" in commands else []), server.replicas, *looks, info.encode()]

    def abort(self, reason: str) -> None:
        self.is_closed = True


class Asking:
    """A confirmer of `replicated(1)` and what it is tied to."""

    def __init__(self) -> None:
        self.server = Server()
        self.status = LevelStatus("replicated(1)")
        self.kept: list[Confirmation] = []
        self.doubts = 0
        self.troubles: list[StoreError] = []
        self.shards: list[tuple[str, tuple[Slot, ...], Server]] = []
        self.confirmations = Confirmations(lambda topic: ONE, ONE, lambda level: self.confirmer.want())
        self.confirmations.primary = self.server.identity
        self.confirmer = Confirmer(
            Need(1, False),
            lambda slot: "fence",
            self.seats,
            self.look_again,
            lambda: self.confirmations.take(ONE),
            self.keep,
            self.doubt,
            self.status,
            5.0,
        )

    def keep(self, confirmation: Confirmation) -> None:
        self.confirmations.keep(confirmation)
        self.kept.append(confirmation)

    def seats(self) -> list[Seat]:
        if not self.shards:
            return [Seat("", ("m",), (), lambda: self.server.connect())]
        return [
            Seat(name, slots, tuple(map(str, slots)), server.connect) for name, slots, server in self.shards
        ]

    async def look_again(self, trouble: StoreError) -> None:
        self.troubles.append(trouble)

    def doubt(self) -> None:
        self.doubts += 1

    async def run_until(self, is_done: Callable[[], bool]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.confirmer.run)
            with anyio.fail_after(2):
                while not is_done():
                    await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()


async def test_it_looks_before_anybody_waits() -> None:
    asking = Asking()
    asking.server.replicas = 0
    await asking.run_until(lambda: bool(asking.status.trouble))
    assert "0 replicas are connected" in asking.status.trouble
    assert asking.status.unavailable_seconds >= 0
    assert (asking.status.confirmations, asking.status.failures, asking.server.asked) == (0, 1, 1)


async def test_what_is_owed_is_confirmed() -> None:
    asking = Asking()
    wanted = asking.confirmations.at(ONE)
    await asking.run_until(lambda: asking.kept == [wanted])
    assert (asking.status.confirmations, asking.status.trouble) == (1, "")
    assert asking.status.seconds.count == 1
    assert asking.status.unavailable_seconds == 0


async def test_it_asks_until_a_replica_comes_and_writes_once() -> None:
    asking = Asking()
    asking.server.replicas = 0
    wanted = asking.confirmations.at(ONE)

    def come() -> None:
        asking.server.replicas = int(asking.server.asked > 3)

    asking.server.on_asked = come
    await asking.run_until(lambda: asking.kept == [wanted])
    assert (asking.server.asked, asking.server.writes, asking.status.failures) == (4, 1, 3)
    assert asking.status.trouble == ""


async def test_it_connects_again_and_writes_again() -> None:
    asking = Asking()
    asking.server.is_away = True
    wanted = asking.confirmations.at(ONE)
    await asking.run_until(lambda: asking.status.failures > 1)
    assert "Redis does not answer: away" in asking.status.trouble
    asking.server.is_away = False
    asking.confirmations.take(ONE)
    again = asking.confirmations.at(ONE)
    await asking.run_until(lambda: asking.kept == [again])
    assert not wanted.is_done
    assert asking.server.writes == 1


async def test_another_primary_confirms_nothing_that_was_answered_before() -> None:
    asking = Asking()
    first = asking.confirmations.at(ONE)
    await asking.run_until(lambda: asking.kept == [first])
    asking.server.replication_id = "b"
    old = asking.confirmations.at(ONE)
    await asking.run_until(lambda: asking.doubts > 1)
    assert "another primary" in asking.status.trouble
    assert not old.is_done
    asking.confirmations.turn_over(asking.server.identity)  # as the lane has found it, too
    new = asking.confirmations.at(ONE)
    await asking.run_until(lambda: asking.kept == [first, new])
    assert old.is_void


async def test_a_connection_to_the_wrong_server_is_made_anew() -> None:
    asking = Asking()
    other, asking.server = asking.server, Server("old")
    await asking.run_until(lambda: asking.server.asked == 1)  # a look
    wanted = asking.confirmations.at(ONE)
    stale, asking.server = asking.server, other
    del stale
    await asking.run_until(lambda: asking.kept == [wanted])
    assert asking.doubts == 0


# On a Redis Cluster


def sharded(asking: Asking) -> tuple[Server, Server]:
    """Two primaries, which have answered."""
    first, second = Server("a"), Server("b")
    asking.shards = [("one", ("m", 1), first), ("two", (2,), second)]
    asking.confirmations.primary = Identities({"m": first.identity, 1: first.identity, 2: second.identity})
    return first, second


async def test_each_primary_has_to_confirm() -> None:
    asking = Asking()
    first, second = sharded(asking)
    second.replicas = 0
    wanted = asking.confirmations.at(ONE)
    await asking.run_until(lambda: asking.status.failures > 2)
    assert asking.status.trouble.startswith("two: 0 replicas are connected, 1 needed")
    assert not wanted.is_done
    again = asking.confirmations.at(ONE)

    def come() -> None:
        second.replicas = 1

    first.on_asked = come
    await asking.run_until(lambda: asking.kept == [again])
    assert (asking.doubts, asking.troubles) == (0, [])


async def test_one_that_is_away_holds_all_and_is_named() -> None:
    asking = Asking()
    first, second = sharded(asking)
    first.is_away = True
    asking.confirmations.at(ONE)
    await asking.run_until(lambda: asking.status.failures > 2)
    assert asking.status.trouble == "Redis does not answer: away"
    assert len(asking.troubles) > 2
    assert second.writes == 1
    assert asking.kept == []


async def test_a_slot_that_is_on_its_way_is_waited_for_and_written_for_again() -> None:
    asking = Asking()
    first, second = sharded(asking)
    first.gone = SlotMoving("ASK 1 h:1")
    wanted = asking.confirmations.at(ONE)

    def arrive() -> None:
        if first.asked == 4:
            first.gone = None

    first.on_asked = arrive
    await asking.run_until(lambda: asking.kept == [wanted])
    assert (first.writes, second.writes) == (4, 1)
    assert asking.status.failures == 3


async def test_a_slot_that_has_moved_is_confirmed_by_nobody_until_it_is_stored_again() -> None:
    asking = Asking()
    first, second = sharded(asking)
    first.gone = SlotMoved("MOVED 1 two:1")
    old = asking.confirmations.at(ONE)

    def find_it() -> None:
        if first.asked == 3:
            first.gone = None
        elif first.asked == 2:
            asking.shards = [("one", ("m",), first), ("two", (1, 2), second)]

    first.on_asked = find_it
    await asking.run_until(lambda: asking.doubts > 1)
    assert "another primary" in asking.status.trouble
    asking.confirmations.turn_over(Identities({1: second.identity, 2: second.identity}))
    new = asking.confirmations.at(ONE)
    await asking.run_until(lambda: asking.kept == [new])
    assert old.is_void


async def test_where_nobody_has_a_slot_nothing_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking()

    def nobody() -> list[Seat]:
        raise StoreUnavailable("no primary serves slot 7")

    monkeypatch.setattr(asking.confirmer, "_seats", nobody)
    await asking.run_until(lambda: bool(asking.status.trouble))
    assert asking.status.trouble == "Redis does not answer: no primary serves slot 7"
