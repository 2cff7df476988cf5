"""A node as a user runs it: its own process, real sockets, killed for real."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import httpx
import psutil
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tests.node.template import Started
from tests.tools import NO_TLS

START_SECONDS = 40.0
STOP_SECONDS = 25.0
PROGRAM = (sys.executable, "-m", "broker")
"""This very broker."""
_POLL_SECONDS = 0.02
_REDIS_SECONDS = 5.0


Starter: TypeAlias = Callable[[Sequence[str], Mapping[str, str], IO[bytes]], Started]
"""Starts `python -m broker ARGUMENTS` with an environment, and a file for its output."""


@dataclass(frozen=True)
class Probe:
    """What the admin address answered; status 0 if nobody did."""

    status: int
    text: str


def execute(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    output: IO[bytes],
    program: Sequence[str] = PROGRAM,
) -> Started:
    """Starts `python -m broker ARGUMENTS`."""
    return subprocess.Popen(
        [*program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment,
    )


class NodeProcess:
    """A node under test. It may be killed and started again on the same data directory and the same ports."""

    starter: Starter = staticmethod(execute)
    """A fixture may name another for all, which takes less time."""

    def __init__(
        self,
        directory: Path,
        *flags: str,
        environment: dict[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
        starter: Starter | None = None,
    ) -> None:
        if starter is not None:
            self.starter = starter
        self.directory = directory
        self.program = program  # from the next start on
        self.port = 0
        self.admin_port = 0
        self.log = directory / "node.log"
        self._flags = flags
        self._environment = environment or {}
        self._process: Started | None = None
        self._position = 0

    # Life

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def data_dir(self) -> Path:
        """Of the private Redis."""
        return self.directory / "data"

    def start(self, seconds: float = START_SECONDS) -> None:
        """Starts it and waits until it says where it listens."""
        self.launch()
        self.wait_until_up(seconds)

    def launch(self) -> None:
        """Starts it and waits for nothing."""
        arguments = [
            "serve", "--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}",
            "--data-dir", str(self.data_dir), *self._flags,
        ]  # fmt: skip
        self._position = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            environment = _own_environment() | self._environment
            if self.program == PROGRAM:
                self._process = self.starter(arguments, environment, output)
            else:
                self._process = execute(arguments, environment, output, self.program)

    def wait_until_up(self, seconds: float = START_SECONDS) -> None:
        """Waits for the lines that say where it listens, and learns the ports from them."""
        found = re.search(
            r"^  mqtt +\S+:(\d+)$.*^  redis .*$",
            self.wait_for(r"^  redis .*\n", seconds),
            re.MULTILINE | re.DOTALL,
        )
        assert found is not None, self.output()
        self.port = int(found.group(1))
        admin = re.search(r"^  admin +https?://\S+:(\d+)$", self.output(), re.MULTILINE)
        self.admin_port = int(admin.group(1)) if admin else 0

    def kill(self) -> None:
        """kill -9: nothing is flushed, nobody is told. Its Redis is asked to end by the kernel."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(STOP_SECONDS)

    def kill_all(self) -> None:
        """kill -9 of the private Redis and of the node in the same moment."""
        self.kill_redis()
        self.kill()

    def kill_redis(self) -> None:
        """kill -9 of the private Redis; the node has to start it again."""
        pid = self.redis_pid()
        # While an fsync hangs, on a disk as busy as that of tests, `everysec` answers before anything is
        # written: a gap that docs/architecture.md names. Who asks for "no" has it closed up to here.
        with self.redis() as connection:
            connection.config_set("appendfsync", "no")
        os.kill(pid, signal.SIGKILL)

    def restart(self) -> None:
        """kill -9 of the node, and a new one on the same ports and data."""
        self.kill()
        self.start()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to stop and waits; the exit code."""
        self.send_signal(number)
        return self.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Of the node, not of its Redis."""
        assert self._process is not None
        self._process.send_signal(number)

    def freeze(self) -> None:
        """It keeps its connections and does nothing, until it gets SIGCONT or is killed."""
        self.send_signal(signal.SIGSTOP)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Waits for its end; the exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """Ends it, however it is."""
        if self.is_running():
            self.send_signal(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()

    # What can be seen of it

    def redis_pid(self) -> int:
        """The process of its private Redis. Waits for it, as it may be about to be started again."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for child in psutil.Process(self.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.name().startswith(("redis-server", "valkey-server")):
                        return child.pid
            time.sleep(_POLL_SECONDS)
        raise AssertionError("the node has no private Redis")

    def redis(self) -> redis.Redis:
        """A connection to its private Redis, to look at keys. It waits while that starts."""
        return redis.Redis(
            unix_socket_path=str(self.data_dir / "redis.sock"),
            socket_timeout=START_SECONDS,
            retry=Retry(ConstantBackoff(_POLL_SECONDS), int(_REDIS_SECONDS / _POLL_SECONDS)),
        )

    def output(self) -> str:
        """What it has written since its last start."""
        with self.log.open("rb") as file:
            file.seek(self._position)
            return file.read().decode(errors="replace")

    def wait_for(self, pattern: str, seconds: float = START_SECONDS) -> str:
        """Waits for something in the output since the last start; the output."""
        deadline = time.monotonic() + seconds
        while True:
            is_running = self.is_running()
            text = self.output()
            if re.search(pattern, text, re.MULTILINE):
                return text
            if not is_running:
                raise AssertionError(f"the node exited with {self.wait()}:\n{text}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no {pattern!r} within {seconds} s:\n{text}")
            time.sleep(_POLL_SECONDS)

    def events(self, message: str) -> list[dict[str, object]]:
        """The structured log lines with this message since the last start."""
        found = []
        for line in self.output().splitlines():
            if line.startswith("{"):
                event: dict[str, object] = json.loads(line)
                if event["message"] == message:
                    found.append(event)
        return found

    def get(self, path: str) -> Probe:
        """GET on the admin address."""
        try:
            answer = httpx.get(
                f"http://127.0.0.1:{self.admin_port}{path}", timeout=5.0, trust_env=False, verify=NO_TLS
            )
        except httpx.HTTPError:
            return Probe(0, "")
        return Probe(answer.status_code, answer.text)

    def post(self, path: str, body: object) -> Probe:
        """POST of JSON to the admin address."""
        answer = httpx.post(
            f"http://127.0.0.1:{self.admin_port}{path}",
            json=body,
            timeout=5.0,
            trust_env=False,
            verify=NO_TLS,
        )
        return Probe(answer.status_code, answer.text)

    def wait_ready(self, status: int, seconds: float = START_SECONDS) -> Probe:
        """Waits until `/readyz` answers with this status."""
        deadline = time.monotonic() + seconds
        while True:
            probe = self.get("/readyz")
            if probe.status == status:
                return probe
            assert time.monotonic() < deadline, f"/readyz stays at {probe}:\n{self.output()}"
            time.sleep(_POLL_SECONDS)


def _own_environment() -> dict[str, str]:
    """Ours, without settings: those of a node under test are what its test says."""
    return {
        variable: value
        for variable, value in os.environ.items()
        if variable == "MOORLINE_PURE" or not variable.startswith("MOORLINE_")
    }


@contextlib.contextmanager
def running_node(
    directory: Path,
    *flags: str,
    environment: dict[str, str] | None = None,
    program: Sequence[str] = PROGRAM,
    starter: Starter | None = None,
) -> Iterator[NodeProcess]:
    """A node that is up; ended afterwards."""
    node = NodeProcess(directory, *flags, environment=environment, program=program, starter=starter)
    try:
        node.start()
        yield node
    finally:
        node.close()


def refused_start(directory: Path, *flags: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Starts a node which can't start; its exit code and what it says."""
    directory.mkdir(exist_ok=True)
    node = NodeProcess(directory, *flags, environment=environment)
    node.launch()
    try:
        return node.wait(START_SECONDS), node.output()
    finally:
        node.close()
