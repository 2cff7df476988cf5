"""A process that has imported what a node is made of, and forks one for whoever asks.

Half of what a short test costs is a new interpreter that imports the same modules again. A forked node has
its arguments, environment and output as if it had been executed, and is killed like any other; when it ends,
its template says how. What is about starting itself executes the real command: see `starts` in conftest.py.

Run as a program, this is the template: one thread, one request at a time. A request is a line, the arguments
and the environment, and two descriptors: for the node's output, and for its exit code.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import IO, Final, Protocol

_PARTS: Final = ("uvloop", "broker.cli", "broker.node", "broker.supervisor.parent")
_SECONDS: Final = 40.0


class Started(Protocol):
    """A node's process, to whoever started it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...


class Forked:
    """One that was forked: its template reaps it, and writes its exit code to a pipe."""

    def __init__(self, pid: int, ending: int) -> None:
        self.pid = pid
        self._ending = ending
        self._code: int | None = None
        self._reading = threading.Lock()
        weakref.finalize(self, os.close, ending)

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._code if self._code is not None else self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises TimeoutExpired."""
        code = self._code if self._code is not None else self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("node", timeout or 0.0)
        return code

    def send_signal(self, sig: int) -> None:
        """Nothing happens if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def _look(self, timeout: float | None) -> int | None:
        ends = select.poll()
        ends.register(self._ending, select.POLLIN)
        if not ends.poll(None if timeout is None else timeout * 1000):
            return None
        with self._reading:  # a thread may wait while another looks
            if self._code is None:
                text = os.read(self._ending, 16)
                assert text, "the template is gone"
                self._code = int(text)
            return self._code


class Template:
    """To be closed. The process starts with the first node. Threads may share it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._asking = threading.Lock()

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> Started:
        """Starts `python -m broker ARGUMENTS`."""
        with self._asking:
            return self._ask(self._channel or self._start(), arguments, environment, output)

    def close(self) -> None:
        """Nodes that still run go on."""
        if self._process is not None and self._channel is not None:
            self._channel.close()
            self._process.wait(_SECONDS)

    def _ask(
        self,
        channel: socket.socket,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        output: IO[bytes],
    ) -> Started:
        ending, told = os.pipe()
        try:
            request = json.dumps([list(arguments), dict(environment)]).encode() + b"\n"
            sent = socket.send_fds(channel, [request], [output.fileno(), told])
            channel.sendall(request[sent:])
        finally:
            os.close(told)
        return Forked(int(channel.recv(16)), ending)

    def _start(self) -> socket.socket:
        channel, theirs = socket.socketpair()
        channel.settimeout(_SECONDS)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._channel = channel
        return channel


def serve(channel: socket.socket) -> list[str] | None:
    """Forks until nobody can ask any more. Returns in each forked process: the arguments."""
    endings: dict[int, int] = {}
    signal.signal(signal.SIGCHLD, lambda *_: _reap(endings))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which closes the channel
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, 65_536, 2)
        if not request:
            return None
        while not request.endswith(b"\n"):
            request += channel.recv(65_536)
        output, told = descriptors
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # until we know whose end it is
        pid = os.fork()
        if pid == 0:
            channel.close()
            for descriptor in [told, *endings.values()]:
                os.close(descriptor)
            return _become(output, *json.loads(request))
        endings[pid] = told
        os.close(output)
        channel.send(b"%d" % pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])


def _reap(endings: dict[int, int]) -> None:
    while endings:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        told = endings.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # nobody wants to know
            os.write(told, b"%d" % os.waitstatus_to_exitcode(status))
        os.close(told)


def _become(output: int, arguments: list[str], environment: dict[str, str]) -> list[str]:
    """What fork leaves as it was, and exec wouldn't."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    return arguments


def _main() -> None:
    for part in _PARTS:
        import_module(part)
    gc.freeze()
    arguments = serve(socket.socket(fileno=int(sys.argv[1])))
    if arguments is not None:
        sys.argv[1:] = arguments
        import_module("broker.cli").main()


if __name__ == "__main__":
    _main()
