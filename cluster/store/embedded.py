"""The private Redis of a node that was given none: a child process with its data in the node's directory.

It is started with the node, started again whenever it ends, and ended with the node: asked to, so that its
append-only file is complete. A node that is killed takes its server along (see `guard`); what that misses,
the next node on the same directory finds by its lock and ends (see `data_directory`).
"""

import logging
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from cluster.store import guard
from cluster.store.data_directory import DataDirectory
from cluster.store.errors import ServerFailed
from cluster.store.server_binary import find_server_binary

_READY: Final = b"ready to accept connections"
_LINE_MAXIMUM: Final = 65_536
_LAST_LINES: Final = 5
_LOG_LINE: Final = re.compile(r"\d+:[A-Z] .*? ([.*#-]) (.*)")
_FIRST_BACKOFF_SECONDS: Final = 0.1
_MAXIMUM_BACKOFF_SECONDS: Final = 5.0
_SLOW_START_SECONDS: Final = 5.0

OPTIONS: Final = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",  # the append-only file is the data; snapshots beside it would only cost
    "maxmemory-policy": "noeviction",
    "stream-node-max-bytes": "256",  # a short queue takes 0.55 KB in place of 4.4
    "hash-max-listpack-value": "512",  # a session with a filter of over 64 bytes takes half a KB less
}
"""How the server keeps its data; an external one should have the same (docs/operations.md)."""

logger = logging.getLogger(__name__)


class PrivateRedis:
    """A running server while the block lasts: `async with PrivateRedis(data_dir) as server: ... server.url`.

    Entering raises DataDirUnusable, DataDirInUse, ServerNotFound, ServerFailed. `stop_timeout_seconds` is
    what the server gets to complete its files before it is killed. `is_fsynced`: its disk has what it
    answers.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        binary: Path | None = None,
        stop_timeout_seconds: float = 10.0,
        is_fsynced: bool = False,
    ) -> None:
        self._data_dir = data_dir
        self._options = OPTIONS | {"appendfsync": "always"} if is_fsynced else OPTIONS
        self._binary = binary
        self._stop_timeout_seconds = stop_timeout_seconds
        self._stack = AsyncExitStack()
        self.url = ""
        """What `open_store` takes; empty outside the block."""
        self.pid = 0
        """The server's process; another one after each restart, 0 while there is none."""
        self.restarts = 0

    def __repr__(self) -> str:
        return f"<PrivateRedis {self.url or self._data_dir} pid={self.pid} restarts={self.restarts}>"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            directory = stack.enter_context(DataDirectory(self._data_dir))
            binary = self._binary or await find_server_binary()
            if await directory.end_stale_server(self._stop_timeout_seconds):
                logger.warning("ended the server that an earlier node had left in %s", directory.path)
            server = await self._start(binary, directory)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tasks.cancel_scope.cancel)
            tasks.start_soon(self._supervise, server, binary, directory)
            self.url = f"unix://{quote(str(directory.socket))}"
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Told of no error, the task group doesn't wrap the body's into a group.
        await self._stack.aclose()
        self.url = ""

    async def _supervise(self, server: "_Server", binary: Path, directory: DataDirectory) -> None:
        """Owns the server. Ends it when cancelled."""
        while True:
            try:
                ending = await server.wait()
            finally:
                self.pid = 0
                with anyio.CancelScope(shield=True):
                    await server.stop(self._stop_timeout_seconds)
            logger.error("the private Redis ended (%s): starting it again", ending)
            self.restarts += 1
            server = await self._start_again(binary, directory)
            logger.warning("the private Redis runs again")

    async def _start_again(self, binary: Path, directory: DataDirectory) -> "_Server":
        backoff_seconds = _FIRST_BACKOFF_SECONDS
        while True:
            try:
                return await self._start(binary, directory)
            except ServerFailed as error:
                logger.error("%s", error)
            await anyio.sleep(backoff_seconds)
            backoff_seconds = min(backoff_seconds * 2, _MAXIMUM_BACKOFF_SECONDS)

    async def _start(self, binary: Path, directory: DataDirectory) -> "_Server":
        """Starts the server and waits until it has loaded its data."""
        server = _Server(await _open_process(binary, directory, self._options))
        try:
            await server.until_ready()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await server.stop(self._stop_timeout_seconds)
            raise
        self.pid = server.pid
        return server


class _Server:
    """The process, and what it says."""

    def __init__(self, process: Process) -> None:
        self._process = process
        output = process.stdout
        assert output is not None  # it was opened with a pipe
        self._output: ByteReceiveStream = output
        self._lines = BufferedByteReceiveStream(output)
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._is_ready = False
        self.pid = process.pid

    async def until_ready(self) -> None:
        """Raises ServerFailed if it ends before."""
        while True:
            line = b""
            with anyio.move_on_after(_SLOW_START_SECONDS) as waiting:
                line = await self._next_line()
                if not line:
                    raise ServerFailed(f"the private Redis does not start: {await self._ending()}")
            if waiting.cancelled_caught:
                logger.warning("the private Redis is still loading its data")
            elif _READY in line.lower():
                self._is_ready = True
                self._last_lines.clear()
                return

    async def wait(self) -> str:
        """Waits for its end and says how it ended."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._forward_log)
            await self._process.wait()
            tasks.cancel_scope.cancel()
        return await self._ending()

    async def stop(self, timeout_seconds: float) -> None:
        """Lets it complete its files and end; kills it if that takes too long."""
        if self._process.returncode is None:
            self._process.terminate()
            with anyio.move_on_after(timeout_seconds):
                await self._process.wait()
        if self._process.returncode is None:
            logger.error("the private Redis did not end within %g s: killed", timeout_seconds)
            self._process.kill()
        await self._process.aclose()

    async def _next_line(self) -> bytes:
        """Empty at the end of the output."""
        try:
            line = await self._lines.receive_until(b"\n", _LINE_MAXIMUM)
        except (anyio.IncompleteRead, anyio.ClosedResourceError):
            return b""
        text = line.decode(errors="replace").strip()
        match = _LOG_LINE.fullmatch(text)
        self._last_lines.append(match[2] if match else text)
        is_important = self._is_ready and match is not None and match[1] == "#"
        logger.log(
            logging.WARNING if is_important else logging.DEBUG, "private Redis: %s", self._last_lines[-1]
        )
        return line + b"\n"

    async def _forward_log(self) -> None:
        """What a running server marks as important is a warning to us, too."""
        while await self._next_line():
            pass

    async def _ending(self) -> str:
        code = await self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{how}: {' | '.join(self._last_lines)}" if self._last_lines else how


async def _open_process(binary: Path, directory: DataDirectory, options: Mapping[str, str]) -> Process:
    lock = directory.server_lock
    os.ftruncate(lock, 0)
    guarded = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(lock)]
    return await anyio.open_process(
        [*guarded, str(binary), *_arguments(directory, options)],
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        pass_fds=(lock,),
        start_new_session=True,  # a Ctrl-C at the terminal is for the node, which ends its server last
    )


def _arguments(directory: DataDirectory, options: Mapping[str, str]) -> list[str]:
    place = {
        "dir": str(directory.path),
        "unixsocket": str(directory.socket),
        "unixsocketperm": "700",
        "port": "0",
        "databases": "1",
        "daemonize": "no",
        "loglevel": "notice",
    }
    return [part for name, value in {**place, **options}.items() for part in (f"--{name}", value)]
