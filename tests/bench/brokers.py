"""Brokers to measure, each started for one run on a free port of the loopback, and stopped after it."""

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 20.0
_DEBIAN_SBIN: Final = "/usr/sbin/mosquitto"

MOSQUITTO_CONFIG: Final = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_inflight_messages 0
max_queued_messages 0
set_tcp_nodelay true
log_type error
"""
"""No limit drops messages. Nagle's algorithm is off, as in Moorline: it waits up to 40 ms for company."""


class BrokerFailed(Exception):
    """A broker didn't start; the message has what it said."""


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """A broker that takes connections."""

    name: str
    address: str
    pid: int


def find_mosquitto() -> str | None:
    """Where mosquitto is; Debian puts it where PATH may not look."""
    return shutil.which("mosquitto") or (_DEBIAN_SBIN if Path(_DEBIAN_SBIN).exists() else None)


def mosquitto_version() -> str:
    """`mosquitto 2.0.11`, or what it is. Raises BrokerFailed if there is none."""
    binary = find_mosquitto()
    if binary is None:
        raise BrokerFailed("mosquitto is not installed (apt-get install mosquitto)")
    text = subprocess.run([binary, "-h"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"mosquitto version (\S+)", text)
    return f"mosquitto {found.group(1)}" if found else "mosquitto"


@contextlib.contextmanager
def running_mosquitto(directory: Path) -> Iterator[RunningBroker]:
    """Run mosquitto with everything in memory. Raises BrokerFailed."""
    binary = find_mosquitto()
    if binary is None:
        raise BrokerFailed("mosquitto is not installed (apt-get install mosquitto)")
    port = _free_port()
    config = directory / "mosquitto.conf"
    config.write_text(MOSQUITTO_CONFIG.format(port=port))
    log = directory / "mosquitto.log"
    with _running([binary, "-c", str(config)], log) as process:
        _wait_until_listening(process, port, log)
        yield RunningBroker("mosquitto", f"127.0.0.1:{port}", process.pid)


@contextlib.contextmanager
def running_moorline(directory: Path, *flags: str) -> Iterator[RunningBroker]:
    """Run a Moorline node, with its private Redis or Valkey if the flags name none. Raises BrokerFailed."""
    log = directory / "moorline.log"
    port = _free_port()
    command = [
        sys.executable, "-m", "broker", "serve", "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0",
        "--data-dir", str(directory / "data"), *flags,
    ]  # fmt: skip
    with _running(command, log) as process:
        _wait_until_listening(process, port, log)
        yield RunningBroker("moorline", f"127.0.0.1:{port}", process.pid)


def moorline_version() -> str:
    """`moorline 0.1.0 (compiled)`, or pure."""
    command = [sys.executable, "-m", "broker", "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_listening(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _listens(port):
        said = log.read_text(errors="replace")[-2000:]
        if process.poll() is not None:
            raise BrokerFailed(f"exited with {process.returncode}: {said}")
        if time.monotonic() > deadline:
            raise BrokerFailed(f"not up after {_START_SECONDS:.0f} s: {said}")
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
