"""The private server's directory: who uses it, and what an earlier node may have left running in it.

Two files, two locks (flock, which ends with the processes that hold it, however they end):

    node.lock     held by the node
    server.lock   held by the node *and* its server, which inherits it; the server's process id is its content

So with node.lock free and server.lock taken, the server of a dead node is still there. It is asked to end:
only then its data is complete on the disk.
"""

import errno
import fcntl
import hashlib
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio

from cluster.store.errors import DataDirInUse, DataDirUnusable

# Bytes of a unix socket's path, without the terminating zero.
SOCKET_PATH_MAXIMUM: Final = 107 if sys.platform == "linux" else 103
_POLL_SECONDS: Final = 0.05
_KILL_TIMEOUT_SECONDS: Final = 5.0


class DataDirectory:
    """The directory while this node uses it; a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises DataDirUnusable, DataDirInUse."""
        self.path = path.resolve()
        self.socket = socket_path(self.path)
        with ExitStack() as opened:
            try:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                node_lock = _open_lock(self.path / "node.lock", opened)
                self.server_lock = _open_lock(self.path / "server.lock", opened)
                _check_writable(self.path)
            except OSError as error:
                raise DataDirUnusable(
                    f"data directory {self.path} can't be used: {error.strerror}"
                ) from error
            if not _try_lock(node_lock):
                user = _pid_in(node_lock) or "?"
                raise DataDirInUse(
                    f"data directory {self.path} is in use by another node (process {user}):"
                    " give each node its own --data-dir, or all of them the same --redis"
                )
            os.ftruncate(node_lock, 0)
            os.pwrite(node_lock, str(os.getpid()).encode(), 0)
            if self.socket.parent != self.path:
                opened.enter_context(_PrivateDirectory(self.socket.parent))
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.unlink(missing_ok=True)
        self._opened.close()

    async def end_stale_server(self, timeout_seconds: float) -> bool:
        """Takes the lock which the server will share. True if an earlier node's server was ended for it.

        Raises DataDirInUse if that does not end, even when killed.
        """
        if _try_lock(self.server_lock):
            return False
        for number, seconds in ((signal.SIGTERM, timeout_seconds), (signal.SIGKILL, _KILL_TIMEOUT_SECONDS)):
            pid = _pid_in(self.server_lock)
            if pid:
                _send(pid, number)
            with anyio.move_on_after(seconds):
                while not _try_lock(self.server_lock):  # noqa: ASYNC110 - nothing tells when it is free
                    await anyio.sleep(_POLL_SECONDS)
                return True
        raise DataDirInUse(
            f"data directory {self.path}: the server of an earlier node does not end"
            f" (process {_pid_in(self.server_lock) or '?'})"
        )


class _PrivateDirectory:
    """A directory in a place where everybody may write, for the socket; ours alone, removed at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            status = path.lstat()
            if status.st_uid != os.getuid() or status.st_mode & 0o170077 != 0o040000:
                raise DataDirUnusable(
                    f"{path} belongs to somebody else or is open to others: remove it"
                ) from None
        except OSError as error:
            raise DataDirUnusable(f"{path} can't be made for the socket: {error.strerror}") from error

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._path.rmdir()


def socket_path(directory: Path) -> Path:
    """In the directory; if that path is too long for a socket, in a directory of our own under /tmp."""
    path = directory / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAXIMUM:
        return path
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"moorline-{os.getuid()}-{digest}" / "redis.sock"


def _open_lock(path: Path, opened: ExitStack) -> int:
    """A descriptor that children don't inherit unless told so."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    opened.callback(os.close, descriptor)
    return descriptor


def _check_writable(directory: Path) -> None:
    with tempfile.TemporaryFile(dir=directory):
        pass


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _pid_in(descriptor: int) -> int:
    """0 if nobody wrote one yet."""
    text = os.pread(descriptor, 20, 0)
    return int(text) if text.isdigit() else 0


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # ended just now
