"""A Redis of the tests' own, which a node is told to use; it may be stopped, killed and started again."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import redis

from cluster.store.server_binary import find_server_binary
from tests.ports import free_port

START_SECONDS = 40.0


class RedisServer:
    """On a free port of this machine, with its data in `directory`."""

    def __init__(self, directory: Path, *options: str, binary: Path | None = None) -> None:
        self.port = free_port()
        self._options = options
        self._binary = binary
        self.url = f"redis://127.0.0.1:{self.port}"
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, with what an earlier one has left."""
        self.directory.mkdir(exist_ok=True)
        binary = self._binary or anyio.run(find_server_binary)
        self._process = subprocess.Popen(
            [
                *[
                    str(binary),
                    "--port",
                    str(self.port),
                    "--bind",
                    "127.0.0.1",
                    "--dir",
                    str(self.directory),
                ],
                *["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"],
                # Every write is with the kernel when it is answered, so a kill loses none. While an fsync
                # hangs, as on a disk that several tests use, "everysec" holds writes back for up to two
                # seconds.
                *["--appendfsync", "no"],
                *["--repl-diskless-sync-delay", "0"],
                *self._options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "Redis does not start"
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        """A connection; to be used as a context manager."""
        return redis.Redis(port=self.port)

    def follow(self, primary: "RedisServer") -> None:
        """Becomes a replica of that one, and has all that it has."""
        with self.client() as client:
            client.replicaof("127.0.0.1", primary.port)
            deadline = time.monotonic() + START_SECONDS
            while client.info("replication").get("master_link_status") != "up":
                assert time.monotonic() < deadline, "the replica does not find its primary"
                time.sleep(0.02)

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def fill(self) -> None:
        """From now on it refuses whatever needs memory."""
        with self.client() as client:
            client.config_set("maxmemory", 1)

    def make_room(self) -> None:
        """It takes everything again."""
        with self.client() as client:
            client.config_set("maxmemory", 0)

    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """Ends it, however it is."""
        if self.is_running():
            self.kill()

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@contextlib.contextmanager
def running_redis(directory: Path, *options: str, binary: Path | None = None) -> Iterator[RedisServer]:
    """A server that is up; ended afterwards."""
    server = RedisServer(directory, *options, binary=binary)
    try:
        server.start()
        yield server
    finally:
        server.close()
