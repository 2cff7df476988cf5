"""A node under attack, with honest clients beside it; what came of it."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from broker.auth.password_file import hash_password
from tests.attacks import attack, honest
from tests.attacks.attack import ATTACKS, Target
from tests.node.harness import PROGRAM, NodeProcess, execute, running_node
from tests.ports import free_port
from tests.tools import make_certificate

SETTINGS: Final[Mapping[str, str]] = {
    "MOORLINE_NODE__ALLOW_ANONYMOUS": "true",
    "MOORLINE_LIMITS__CONNECTS_PER_SECOND": "1000",
    "MOORLINE_LIMITS__MESSAGES_PER_SECOND": "200",
    "MOORLINE_LIMITS__BYTES_PER_SECOND": "1000000",
    "MOORLINE_LIMITS__TOPIC_LEVELS": "16",
    "MOORLINE_LIMITS__TOPIC_BYTES": "512",
}
"""Of the node in all attacks; the honest ones say nothing of themselves. The limits are those of
docs/security.md, but for the ones of an address (all attackers have the same here), and more connects."""
MEGABYTE: Final = 1 << 20
_SAMPLE_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Outcome:
    """Of one attack. `honest` is what `honest.Record.answer` says; memory of the node in bytes."""

    name: str
    seconds: float
    seen: Mapping[str, int]
    honest: Mapping[str, Any]
    before: int
    peak: int
    after: int
    processor: float
    """Of the node, cores."""
    is_alive: bool


class Memory:
    """Watches a process."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self.peak = 0

    def now(self) -> int:
        """Bytes that are in memory."""
        size = int(self._process.memory_info().rss)
        self.peak = max(self.peak, size)
        return size

    def processor_seconds(self) -> float:
        """Used so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """`peak` is that of the block."""
        self.peak = 0
        self._ended.clear()
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        try:
            yield
        finally:
            self._ended.set()
            watcher.join()

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.now()


class Stage:
    """A node that is up, with its honest clients."""

    def __init__(self, node: NodeProcess, ports: tuple[int, int], crowd: "subprocess.Popen[str]") -> None:
        self.node = node
        self.memory = Memory(node.pid)
        self._ports = ports
        self._crowd = crowd

    def run(self, name: str, seconds: float, scale: float, settle_seconds: float = 0.0) -> Outcome:
        """One attack, from a process of its own; then the memory is looked at once more, a little later."""
        target = Target(self.node.port, *self._ports, seconds, scale)
        self.ask()
        before, spent = self.memory.now(), self.memory.processor_seconds()
        with self.memory.watched():
            ended = subprocess.run(
                attack.command(name, target),
                capture_output=True,
                text=True,
                timeout=seconds + _PATIENCE_SECONDS,
                check=False,
            )
        assert ended.returncode == 0, f"{name}:\n{ended.stderr}"
        answer = json.loads(ended.stdout)
        felt = self.ask()
        processor = (self.memory.processor_seconds() - spent) / answer["seconds"]
        time.sleep(settle_seconds)
        return Outcome(
            name,
            answer["seconds"],
            answer["seen"],
            felt,
            before,
            self.memory.peak,
            self.memory.now(),
            processor,
            self.node.get("/healthz").status == 200,
        )

    def ask(self) -> Mapping[str, Any]:
        """How the honest ones have fared since the last time."""
        assert self._crowd.stdin is not None
        assert self._crowd.stdout is not None
        self._crowd.stdin.write("?\n")
        self._crowd.stdin.flush()
        answer: Mapping[str, Any] = json.loads(self._crowd.stdout.readline())
        return answer


@contextlib.contextmanager
def staged(
    directory: Path,
    clients: int,
    settings: Mapping[str, str] | None = None,
    program: Sequence[str] = PROGRAM,
) -> Iterator[Stage]:
    """A node with a password file, TLS and WebSocket, and so many honest clients."""
    certificate = make_certificate(directory)
    passwords = directory / "passwords"
    passwords.write_text(f"{honest.USER}:{hash_password(honest.PASSWORD.decode())}\n")
    tls_port, ws_port = free_port(), free_port()
    environment = {
        **SETTINGS,
        "MOORLINE_AUTH__PASSWORD_FILE": str(passwords),
        "MOORLINE_LISTENERS__TLS__ADDRESS": f"mqtts://127.0.0.1:{tls_port}",
        "MOORLINE_LISTENERS__TLS__CERTIFICATE": str(certificate.file),
        "MOORLINE_LISTENERS__TLS__KEY": str(certificate.key),
        "MOORLINE_LISTENERS__WS__ADDRESS": f"ws://127.0.0.1:{ws_port}/mqtt",
        **(settings or {}),
    }
    with (
        running_node(directory, environment=environment, program=program, starter=execute) as node,
        _crowd(node.port, clients) as crowd,
    ):
        yield Stage(node, (tls_port, ws_port), crowd)


@contextlib.contextmanager
def _crowd(port: int, clients: int) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "tests.attacks.honest", str(port), str(clients)]
    crowd = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == "ready\n"
        yield crowd
    finally:
        assert crowd.stdin is not None
        crowd.stdin.close()
        try:
            crowd.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            crowd.kill()
            crowd.wait()
        assert crowd.stdout is not None
        crowd.stdout.close()


def own_settings(name: str) -> frozenset[tuple[str, str]]:
    """Attacks with the same share a node."""
    return frozenset(ATTACKS[name].settings.items())
