"""Runs a program so that it ends when its parent does: `guard.py <parent's pid> <fd of a locked file>
<program> ...`.

Executed as a script of its own, in the place of a function between fork and exec, which may deadlock in a
process with threads. It writes its process id, which the program keeps, to the file; the lock ends when the
program does.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> bool:
    """Has the kernel send SIGTERM to this process when its parent ends (Linux); also after an exec.

    False if the parent has ended already: then no signal comes.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    return os.getppid() == parent


def main(parent: int, lock: int, command: list[str]) -> None:
    """Does not return: becomes the program, or exits with 127."""
    if not end_with(parent):
        sys.exit(1)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
