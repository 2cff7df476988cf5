"""A node as a user runs it: its own process, real sockets, killed for real."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 20.0
STOP_SECONDS = 15.0


class NodeProcess:
    """A node under test. It may be killed and started again on the same data directory and the same port."""

    def __init__(self, directory: Path, *flags: str, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.port = 0
        self.admin_port = 0
        self.log = directory / "node.log"
        self._flags = flags
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it and waits until it says where it listens."""
        command = [
            sys.executable, "-m", "broker", "serve",
            "--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}",
            "--data-dir", str(self.directory / "data"), *self._flags,
        ]  # fmt: skip
        position = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | self._environment,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            text = self.log.read_text(errors="replace")[position:]
            found = re.search(r"^  mqtt +\S+:(\d+)$.*^  redis ", text, re.MULTILINE | re.DOTALL)
            if found:
                self.port = int(found.group(1))
                admin = re.search(r"^  admin +http://\S+:(\d+)$", text, re.MULTILINE)
                self.admin_port = int(admin.group(1)) if admin else 0
                return
            if self._process.poll() is not None:
                raise AssertionError(f"the node exited with {self._process.returncode}:\n{text}")
            time.sleep(0.02)
        raise AssertionError(f"the node is not up after {START_SECONDS} s:\n{self.log.read_text()}")

    def kill(self) -> None:
        """kill -9: nothing is flushed, nobody is told."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to stop and waits; the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(STOP_SECONDS)

    def close(self) -> None:
        """Ends it, however it is."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()


@contextlib.contextmanager
def running_node(
    directory: Path, *flags: str, environment: dict[str, str] | None = None
) -> Iterator[NodeProcess]:
    """A node that is up; ended afterwards."""
    node = NodeProcess(directory, *flags, environment=environment)
    try:
        node.start()
        yield node
    finally:
        node.close()
