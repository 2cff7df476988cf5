"""What process 1 of a container does, shown by a process that gets the orphans of its children like it."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans go to process 1 there")

PARENT = """
import ctypes, os, signal, sys, time
from broker.init import fork_with_signals, wait_for

PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
child = fork_with_signals()
if child:
    sys.exit(wait_for(child))
"""
ORPHAN = """
read, write = os.pipe()
if not os.fork():
    if not os.fork():
        os.write(write, b"%d" % os.getpid())
        os._exit(0)  # it is no child of ours
    os._exit(0)
os.wait()
orphan = os.read(read, 20).decode()
while os.path.exists(f"/proc/{orphan}"):  # also as a zombie
    time.sleep(0.01)
"""
SAYS_WHICH = """
def tell(number, _frame):
    print(signal.Signals(number).name, flush=True)
    sys.exit(5)

signal.signal(signal.%s, tell)
print("ready", flush=True)
time.sleep(30)
"""
SLEEPS = """
print("ready", flush=True)
time.sleep(30)
"""


def _started(child: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PARENT + child], stdout=subprocess.PIPE, text=True)


def _told(child: str, number: signal.Signals) -> tuple[str, int]:
    """The parent gets the signal when the child is ready. What the child says then; the exit code."""
    with _started(child) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.send_signal(number)
        return parent.stdout.read().strip(), parent.wait()


@pytest.mark.parametrize("child", ["sys.exit(7)", ORPHAN + "sys.exit(7)"], ids=["alone", "after an orphan"])
def test_the_exit_code_is_that_of_the_broker(child: str) -> None:
    with _started(child) as parent:
        assert parent.wait(10) == 7


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_signals_are_passed_on(name: str) -> None:
    assert _told(SAYS_WHICH % name, signal.Signals[name]) == (name, 5)


def test_a_signal_that_nobody_handles_yet_ends_it() -> None:
    """While the broker is loaded: process 1 itself would not get it at all."""
    assert _told(SLEEPS, signal.SIGTERM) == ("", 128 + signal.SIGTERM)


def test_the_child_has_a_session_of_its_own() -> None:
    """So that a terminal's Ctrl-C comes once."""
    with _started("sys.exit(os.getsid(0) == os.getpid())") as parent:
        assert parent.wait(10) == 1
