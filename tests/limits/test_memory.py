"""Memory is short: nobody gets in, and nothing piles up; and then it is enough again."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from broker.client import Client, Hub, Pressure
from broker.client.pressure import LITTLE_BYTES
from broker.observability.health import Health
from broker.observability.memory import MemoryMark
from broker.observability.metrics import Counters
from broker.observability.offences import Offences
from tests.limits.conftest import Limited
from tests.node.harness import refused_start, running_node

MARK = 1000 << 20
ALLOWED_BYTES = 1 << 20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    """A node for which there is never memory enough."""
    environment = {
        "MOORLINE_LIMITS__MEMORY_HIGH_WATER_BYTES": "33554432",
        "MOORLINE_NODE__LOG_FORMAT": "json",
    }
    with running_node(tmp_path_factory.mktemp("full"), environment=environment) as node:
        yield Limited(node, {})


def test_a_node_without_memory_takes_nobody(full: Limited) -> None:
    probe = full.node.wait_ready(503)
    assert "memory: " in probe.text
    assert "32 MiB are the mark" in probe.text
    for _ in range(100):
        assert full.refuses()
    assert full.refused("memory_high_water_bytes") == 100
    assert len(full.lines("memory_high_water_bytes")) == 1
    assert full.metric("moorline_memory_used_bytes") > full.metric("moorline_memory_high_water_bytes")
    (line,) = full.node.events("memory is short: no more connections are taken")
    assert line["level"] == "error"
    assert full.node.get("/healthz").status == 200  # to be restarted would not help its clients


@pytest.mark.parametrize("value", ["much", "1000", "-1"])
def test_a_mark_that_makes_no_sense_is_a_mistake(tmp_path: Path, value: str) -> None:
    code, output = refused_start(tmp_path, environment={"MOORLINE_LIMITS__MEMORY_HIGH_WATER_BYTES": value})
    assert code == 2
    assert "not a number of bytes from 33,554,432 on, nor auto or off" in output


class _Outbox:
    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.limit_bytes = ALLOWED_BYTES


class _Intake:
    def __init__(self, waiting: int) -> None:
        self.bytes = waiting


class _Client:
    """What `Pressure` sees of one."""

    def __init__(self, waiting: int, unread: int = 0) -> None:
        self.client_id = self.peer = "x"
        self.intake = _Intake(waiting)
        self.outbox = _Outbox(unread)
        self.is_held_back = False
        self.is_closed = False
        self.is_reading = True

    def stop_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


class _Settings:
    outbound_buffer_bytes = ALLOWED_BYTES


class _Hub:
    """What it sees of the others."""

    settings = _Settings()

    def __init__(self, clients: list[_Client]) -> None:
        self.counters = Counters()
        self.offences = Offences(self.counters)
        self.clients = cast(dict[str, Client], dict(enumerate(clients)))
        self.when_sure = asyncio.get_running_loop().call_soon


class _Memory:
    used = 0

    def __call__(self) -> int:
        return self.used


@pytest.mark.anyio
async def test_those_of_whom_most_waits_are_held_back_until_it_is_enough() -> None:
    memory, health = _Memory(), Health()
    mark = MemoryMark(MARK, memory)
    heavy = [_Client(LITTLE_BYTES + 1 + number) for number in range(150)]
    light, unread = _Client(LITTLE_BYTES), _Client(0, LITTLE_BYTES + 1)
    hub = _Hub([*heavy, light, unread, *(_Client(0) for _ in range(2000))])
    pressure = Pressure(cast(Hub, hub), mark, health.memory)
    health.started()
    health.redis_back()

    await pressure.look(mark)
    assert health.ready().ok

    memory.used = MARK
    await pressure.look(mark)
    assert not health.ready().ok
    assert [client.is_reading for client in heavy] == [True] * 50 + [False] * 100
    assert light.is_reading
    assert light.outbox.limit_bytes == ALLOWED_BYTES
    assert unread.outbox.limit_bytes == LITTLE_BYTES
    await pressure.look(mark)  # more of them
    assert not any(client.is_reading for client in heavy)
    assert hub.counters.throttled["memory_high_water_bytes"] == 150

    memory.used = MARK - 1  # it goes up and down
    await pressure.look(mark)
    assert not health.ready().ok
    assert not heavy[0].is_reading

    memory.used = MARK * 9 // 10
    await pressure.look(mark)
    await asyncio.sleep(0)
    assert health.ready().ok
    assert all(client.is_reading and not client.is_held_back for client in heavy)
    assert unread.outbox.limit_bytes == ALLOWED_BYTES


@pytest.mark.anyio
async def test_a_system_that_does_not_tell_is_no_reason_to_close() -> None:
    def used() -> int:
        raise OSError("no such file")

    health = Health()
    mark = MemoryMark(MARK, used)
    pressure = Pressure(cast(Hub, _Hub([])), mark, health.memory)
    await pressure.look(mark)
    assert not pressure.is_high
