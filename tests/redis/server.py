"""One Redis, Valkey or Sentinel process of a topology."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redis

from tests.tools import Certificate

START_SECONDS: Final = 15.0
HOST: Final = "127.0.0.1"
_CLIENT_SECONDS: Final = 2.0
_STARTED: Final = 0.02


@dataclass
class Server:
    """Its data, its configuration (which it may rewrite) and its log are in `directory`.

    `port` is its own, `announced` what it tells others: the same, or that of the way to it (`network`). With
    a `certificate` it speaks nothing but TLS, to everybody.
    """

    name: str
    binary: Path
    directory: Path
    port: int
    announced: int
    shard: int = 0
    is_sentinel: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    certificate: Certificate | None = None
    _process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        """What it says."""
        return self.directory / "server.log"

    def configure(self, lines: list[str]) -> None:
        """Its configuration file; before the first start."""
        self.directory.mkdir()
        base = [
            *self._port_lines(),
            f"bind {HOST}",
            f"dir {self.directory}",
            "protected-mode no",
            f"logfile {self.log}",
        ]
        (self.directory / "server.conf").write_text("\n".join([*base, *lines]) + "\n")

    def launch(self) -> None:
        """Starts it, with what an earlier one has left; `wait_until_up` waits for it."""
        mode = ["--sentinel"] if self.is_sentinel else []
        self._process = subprocess.Popen(
            [str(self.binary), str(self.directory / "server.conf"), *mode],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=dict(self.environment) or None,
        )

    def wait_until_up(self, seconds: float = START_SECONDS) -> None:
        """Until it answers and has loaded its data."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            assert self.is_running(), f"{self.name} has ended: {self._said()}"
            assert time.monotonic() < deadline, f"{self.name} does not start: {self._said()}"
            time.sleep(_STARTED)

    def start(self) -> None:
        """Both."""
        self.launch()
        self.wait_until_up()

    def is_running(self) -> bool:
        """Whether the process is there, stopped or not."""
        return self._process is not None and self._process.poll() is None

    def client(self, seconds: float = _CLIENT_SECONDS, *, decodes: bool = True) -> redis.Redis:
        """A connection past any network between; to be used as a context manager."""
        if self.certificate is None:
            return redis.Redis(HOST, self.port, socket_timeout=seconds, decode_responses=decodes)
        return redis.Redis(
            "localhost",
            self.port,
            socket_timeout=seconds,
            decode_responses=decodes,
            ssl=True,
            ssl_ca_certs=str(self.certificate.file),
        )

    def answers(self) -> bool:
        """Whether it answers PING now."""
        with self.client() as client, contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM, which it obeys in its own time; `wait` waits for the end."""
        self._send(signal.SIGTERM)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """For its end; the exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def kill(self) -> None:
        """kill -9."""
        self._send(signal.SIGKILL)
        self.wait()

    def close(self) -> None:
        """Ends it, however it is."""
        if self.is_running():
            self.kill()

    def _port_lines(self) -> list[str]:
        if self.certificate is None:
            return [f"port {self.port}"]
        return [
            "port 0",
            f"tls-port {self.port}",
            f"tls-cert-file {self.certificate.file}",
            f"tls-key-file {self.certificate.key}",
            f"tls-ca-cert-file {self.certificate.file}",
            "tls-auth-clients no",
            "tls-replication yes",
        ]

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _said(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text().splitlines()[-20:])
        return "nothing"
