"""A client program that runs beside the test and prints what it receives, line by line."""

import queue
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS = 10.0


class Program:
    """A running program. What it prints is read as it comes."""

    def __init__(
        self, command: Sequence[str], directory: Path | None = None, seconds: float = SECONDS
    ) -> None:
        self._seconds = seconds  # how long it may take for a line, or to end
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=directory
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def line(self) -> str:
        """The next line, without its end."""
        try:
            line = self._lines.get(timeout=self._seconds)
        except queue.Empty:
            raise AssertionError(f"nothing printed within {self._seconds} s") from None
        assert line is not None, f"ended with {self._process.wait(self._seconds)}"
        return line

    def lines(self, count: int) -> list[str]:
        """The next lines."""
        return [self.line() for _ in range(count)]

    def wait_for(self, beginning: str) -> str:
        """Reads up to a line that begins like this."""
        seen = []
        while not (line := self.line()).startswith(beginning):
            seen.append(line)
            assert len(seen) < 10_000, seen
        return line

    def wait(self) -> list[str]:
        """Waits for a good end; the lines not read yet."""
        code = self._process.wait(self._seconds)
        self._reader.join(self._seconds)
        rest = []
        while (line := self._lines.get(timeout=self._seconds)) is not None:
            rest.append(line)
        self._lines.put(None)
        assert code == 0, f"exit code {code}: {rest}"
        return rest

    def send_signal(self, number: signal.Signals) -> None:
        """To stop it for a while, say."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(self._seconds)
        self._reader.join(self._seconds)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.decode(errors="replace").rstrip("\n"))
        self._lines.put(None)
