"""A place among the workers, with small programs for its processes."""

import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psutil
import pytest

from broker.errors import StartError
from broker.flags import Sources
from broker.settings import load
from broker.supervisor import worker as module
from broker.supervisor.assignment import Assignment, Report
from broker.supervisor.backoff import LONGEST_SECONDS
from broker.supervisor.worker import Worker
from cluster.drain import Departure

ASSIGNMENT = Assignment(load(), Path("/nowhere"), 1, load(), Sources({}))
UP = f"import sys, time; sys.stdin.read(); print('''{Report().to_line()}''', flush=True)"
UP_FOR_LONG = f"{UP}; time.sleep(60)"
REFUSE = f"""print(r'''{Report("Redis says no").to_line()}''', flush=True); raise SystemExit(2)"""
SECONDS = 10.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


class _Programs:
    """What each process is to run, one after the other; the last one for ever."""

    def __init__(self, programs: Sequence[str]) -> None:
        self.started = 0
        self._programs = programs

    def __call__(self, _: str) -> list[str]:
        program = self._programs[min(self.started, len(self._programs) - 1)]
        self.started += 1
        return [sys.executable, "-c", program]


@pytest.fixture
def stopping() -> Departure:
    return Departure()


@pytest.fixture
def worker(stopping: Departure) -> Worker:
    return Worker("n-1", Path("/nowhere"), stopping, 5.0)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> _Programs:
    programs = _Programs(request.param)
    monkeypatch.setattr(module, "_command", programs)
    return programs


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing tells
        await anyio.sleep(0.02)


@asynccontextmanager
async def _running(worker: Worker) -> AsyncIterator[None]:
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run, lambda: ASSIGNMENT)
            yield


@pytest.mark.parametrize(
    "programs", [["raise SystemExit(3)", UP, "import os; os.abort()", UP_FOR_LONG]], indirect=True
)
async def test_whatever_ends_is_started_again(
    worker: Worker, programs: _Programs, stopping: Departure, caplog: pytest.LogCaptureFixture
) -> None:
    """However it ended, also well; with waits in between; until told to stop."""
    async with _running(worker):
        await worker.tried.wait()
        assert not worker.been_up.is_set()
        await _until(lambda: programs.started == 4)
        assert worker.been_up.is_set()
        assert worker.restarts == 3
        stopping.begin("test")
        worker.send_signal(signal.SIGTERM)
    assert programs.started == 4
    records = [record.__dict__ for record in caplog.records if record.msg.startswith("worker ended")]
    assert [record["ending"] for record in records] == ["exit code 3", "exit code 0", "signal SIGABRT"]
    assert [record["next_start_seconds"] for record in records] == [0.1, 0.2, 0.4]
    assert all(record["pid"] for record in records)


@pytest.mark.parametrize("programs", [[REFUSE]], indirect=True)
async def test_a_refusal_at_the_start_is_for_a_person(worker: Worker, programs: _Programs) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with _running(worker):
            pass
    (error,) = caught.value.exceptions
    assert isinstance(error, StartError)
    assert str(error) == "Redis says no"
    assert programs.started == 1


@pytest.mark.parametrize("programs", [["raise SystemExit(2)"]], indirect=True)
async def test_a_refusal_without_a_reason_names_the_worker(worker: Worker, programs: _Programs) -> None:
    with pytest.raises(StartError, match="worker n-1"), anyio.fail_after(SECONDS):
        await worker.run(lambda: ASSIGNMENT)
    assert programs.started == 1


@pytest.mark.parametrize("programs", [[UP, REFUSE]], indirect=True)
async def test_a_refusal_later_harms_nobody_else(
    worker: Worker, programs: _Programs, stopping: Departure, caplog: pytest.LogCaptureFixture
) -> None:
    """Others may serve for as long as they live: it is told, and tried again with the longest wait."""
    async with _running(worker):
        await _until(lambda: worker.restarts == 2)
        stopping.begin("test")
    last = caplog.records[-1].__dict__
    assert last["ending"] == "Redis says no"
    assert last["next_start_seconds"] == LONGEST_SECONDS
    assert programs.started == 2


@pytest.mark.parametrize("programs", [[UP_FOR_LONG]], indirect=True)
async def test_cancelling_ends_the_process(worker: Worker, programs: _Programs) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run, lambda: ASSIGNMENT)
        await worker.been_up.wait()
        process = psutil.Process(worker.pid)
        tasks.cancel_scope.cancel()
    assert not process.is_running()
    assert worker.pid == 0
    assert programs.started == 1


async def test_a_process_that_cannot_be_made_is_tried_again(
    worker: Worker, stopping: Departure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_command", lambda _: ["/no/such/program"])
    async with _running(worker):
        await _until(lambda: worker.restarts == 2)
        stopping.begin("test")
    assert worker.pid == 0
