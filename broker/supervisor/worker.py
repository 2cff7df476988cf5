"""A place among the workers: a process, and another one whenever that ends, until told to stop."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Final

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from broker.errors import StartError
from broker.observability.logs import get_logger
from broker.supervisor.assignment import Assignment, Report, read_report
from broker.supervisor.backoff import LONGEST_SECONDS, Backoff
from cluster.drain import Departure

EXIT_REFUSED: Final = 2
_LINE_MAXIMUM: Final = 65_536

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a process ended."""

    pid: int
    how: str
    refusal: str | None = None
    """What a person has to change first, if that is so."""


class Worker:
    """Runs once: `run` ends when the process has ended after `stopping` was set."""

    def __init__(self, name: str, socket: Path, stopping: Departure, stop_timeout_seconds: float) -> None:
        self.name = name
        self.socket = socket
        """Where it answers questions while it lives."""
        self.restarts = 0
        self.tried = anyio.Event()
        """Set once the first process is up or has ended."""
        self.been_up = anyio.Event()
        """Set once a process has served."""
        self._stopping = stopping
        self._stop_timeout_seconds = stop_timeout_seconds
        self._process: Process | None = None
        self._is_up = False
        self._is_hung_up = False

    def __repr__(self) -> str:
        return f"<Worker {self.name} pid={self.pid} restarts={self.restarts}>"

    @property
    def pid(self) -> int:
        """0 while there is no process."""
        return self._process.pid if self._process is not None else 0

    def send_signal(self, number: signal.Signals) -> None:
        """To the process, if there is one."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def hang_up(self) -> None:
        """Has it read its settings again: now, or when it is up, as it may begin with older ones."""
        self._is_hung_up = not self._is_up
        if self._is_up:
            self.send_signal(signal.SIGHUP)

    async def run(self, assignment: Callable[[], Assignment]) -> None:
        """`assignment` is asked for before each start. Raises StartError if it never was up, and won't be
        until a person changes something.

        When cancelled, ends the process first.
        """
        backoff = Backoff()
        while not self._stopping.is_set():
            started = time.monotonic()
            ending = await self._live(assignment().to_bytes())
            self.tried.set()
            if self._stopping.is_set():
                break
            if ending.refusal is not None and not self.been_up.is_set():
                raise StartError(ending.refusal)
            ran_seconds = time.monotonic() - started
            wait_seconds = backoff.after(ran_seconds) if ending.refusal is None else LONGEST_SECONDS
            self._tell(ending, ran_seconds, wait_seconds)
            self.restarts += 1
            with anyio.move_on_after(wait_seconds):
                await self._stopping.wait()

    async def _live(self, order: bytes) -> _Ending:
        """A process from its start to its end."""
        try:
            process = await anyio.open_process(
                _command(self.name),
                stdin=PIPE,
                stdout=PIPE,
                stderr=None,
                start_new_session=True,  # a Ctrl-C at the terminal is for the parent, which tells the workers
            )
        except OSError as error:  # too many processes, or no memory for one
            return _Ending(0, f"no process: {error}")
        self._process = process
        try:
            if self._stopping.is_set():  # since we looked
                process.terminate()
            await _hand_over(process, order)
            refusal = await self._hear(process)
            code = await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await self._end(process)
            self._process = None
            self._is_up = False
        if code != EXIT_REFUSED:
            return _Ending(process.pid, _how_it_ended(code))
        return _Ending(
            process.pid, _how_it_ended(code), refusal or f"worker {self.name} can't start, and has said why"
        )

    async def _hear(self, process: Process) -> str | None:
        """Takes its reports until its output ends; the refusal, if there is one."""
        assert process.stdout is not None  # it was opened with a pipe
        lines = BufferedByteReceiveStream(process.stdout)
        refusal = None
        while (report := await _next_report(lines)) is not None:
            if report.is_up:
                logger.info("worker is up", extra={"worker": self.name, "pid": process.pid})
                self.been_up.set()
                self.tried.set()
                self._is_up = True
                if self._is_hung_up:
                    self.hang_up()
            refusal = report.refusal
        return refusal

    async def _end(self, process: Process) -> None:
        """Nothing to do if it has ended; else it is told to, and killed if that takes too long."""
        if process.returncode is None:
            process.terminate()
            with anyio.move_on_after(self._stop_timeout_seconds):
                await process.wait()
        if process.returncode is None:
            process.kill()
        await process.aclose()

    def _tell(self, ending: _Ending, ran_seconds: float, wait_seconds: float) -> None:
        logger.error(
            "worker ended: starting it again",
            extra={
                "worker": self.name,
                "pid": ending.pid,
                "ending": ending.refusal or ending.how,
                "ran_seconds": round(ran_seconds, 3),
                "next_start_seconds": wait_seconds,
            },
        )


async def _next_report(lines: BufferedByteReceiveStream) -> Report | None:
    """None at the end of the output."""
    while True:
        try:
            line = await lines.receive_until(b"\n", _LINE_MAXIMUM)
        except (anyio.IncompleteRead, anyio.ClosedResourceError):
            return None
        report = read_report(line)
        if report is not None:
            return report


def _command(name: str) -> list[str]:
    """The same program with the same import path; the name is for people who read the list of processes."""
    safe_path = [] if sys.path[0] == os.getcwd() else ["-P"]  # `-m` puts the current directory there
    return [sys.executable, *safe_path, "-m", "broker", "worker", name]


async def _hand_over(process: Process, order: bytes) -> None:
    assert process.stdin is not None  # it was opened with a pipe
    try:
        await process.stdin.send(order)
        await process.stdin.aclose()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # it has ended: so its output ends, and its exit code tells


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    names = {int(number): number.name for number in signal.Signals}
    return f"signal {names.get(-code, -code)}"
