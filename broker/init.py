"""The start of the program, and what process 1 of a container owes to all others in it.

The kernel spares process 1 every signal that it has no handler for, so a SIGTERM that comes while Python
still loads the broker would be lost. And whatever loses its parent becomes a child of process 1, and stays as
a zombie until that has waited for it. Both are done here, in a process that does nothing else: as process 1
we fork before anything is loaded, the child is the broker, and the parent passes signals on and waits for
whoever ends. Any other process goes straight on: there is nothing to be configured, and no other init is
needed; where there is one, the broker isn't process 1.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

PASSED_ON: Final = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
)
_WAITED_FOR: Final = frozenset({*PASSED_ON, signal.SIGCHLD})
_KILLED: Final = 128
"""A shell's exit code for a process that a signal has ended is this and the signal's number."""


def main() -> None:
    """Entry point of the console script, and of `python -m broker`."""
    if os.getpid() == 1:
        child = fork_with_signals()
        if child:
            sys.exit(wait_for(child))
    # Not above: the parent would load what it doesn't need, and signals come meanwhile.
    from broker.cli import main as run

    run()


def fork_with_signals() -> int:
    """The child's process id in the parent, where signals wait for `wait_for`; 0 in the child, which gets
    them as if it had been started alone. None is lost in between."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    child = os.fork()
    if not child:
        os.setsid()  # a Ctrl-C at the terminal is for process 1, which passes it on: not twice
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR)
    return child


def wait_for(child: int) -> int:
    """Passes signals on, and waits for everybody, until it is the child that has ended; its exit code.

    Signals are taken one by one and not by handlers: Python runs those between two steps of its own, so one
    that comes just before a call that blocks would wait for the end of the child.
    """
    while True:
        number = signal.sigwait(_WAITED_FOR)
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):  # it has ended, and we are about to
                os.kill(child, number)
            continue
        for ended, status in _ended():
            if ended == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else _KILLED - code


def _ended() -> Iterator[tuple[int, int]]:
    """Those who have ended since the last time, with their status: there may be several for one SIGCHLD."""
    with suppress(ChildProcessError):  # nobody is left
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if not ended:
                return
            yield ended, status
