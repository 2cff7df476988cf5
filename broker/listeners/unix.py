"""Unix sockets that listen: files, which stay when the process that made them is killed."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator

from broker.errors import StartError


class BoundSocket:
    """One that is bound and does not listen."""

    def __init__(self, bound: socket.socket, path: str) -> None:
        self.socket = bound
        self.path = path
        self._identity = _identity(path)
        self._is_removed = False

    def remove(self) -> None:
        """Takes the file away, unless somebody else has put his in its place. Does nothing when called again.
        While the socket is open: then no other file can have the same inode."""
        if self._is_removed:
            return
        self._is_removed = True
        with contextlib.suppress(OSError):
            if _identity(self.path) == self._identity:
                os.unlink(self.path)

    @contextlib.contextmanager
    def removed_on_error(self) -> Iterator[None]:
        """Leaves nothing behind if it doesn't come to listening."""
        try:
            yield
        except BaseException:
            self.remove()
            self.socket.close()
            raise


def bind_unix(path: str, mode: int | None) -> BoundSocket:
    """Raises StartError if the path can't be had. The file of a process that was killed is replaced."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        listening.bind(path)
        bound = BoundSocket(listening, path)
        with bound.removed_on_error():
            if mode is not None:
                os.chmod(path, mode)  # nobody has connected yet: it does not listen
            listening.setblocking(False)
        return bound
    except OSError as error:
        listening.close()
        raise StartError(f"can't listen on {path}: {error.strerror or error}") from error
    except StartError:
        listening.close()
        raise


def _clear(path: str) -> None:
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise StartError(f"can't listen on {path}: there is a file, which is no socket")
    if _is_alive(path):
        raise StartError(f"can't listen on {path}: another process does")
    os.unlink(path)


def _is_alive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(path)
    if code in (errno.ECONNREFUSED, errno.ENOENT):
        return False
    if code in (0, errno.EAGAIN):  # as its queue is full
        return True
    raise OSError(code, os.strerror(code))


def _identity(path: str) -> tuple[int, int]:
    """Device and inode."""
    found = os.lstat(path)
    return found.st_dev, found.st_ino
