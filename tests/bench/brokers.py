"""Brokers to measure, each started for one run on a free port of the loopback, and stopped after it."""

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
    with _running([binary, "-c", str(config)], directory / "mosquitto.log") as process:
        _wait(process, directory / "mosquitto.log", lambda _: _listens(port) or None)
        yield RunningBroker("mosquitto", f"127.0.0.1:{port}", process.pid)


@contextlib.contextmanager
def running_moorline(directory: Path) -> Iterator[RunningBroker]:
    """Run a Moorline node with its private Redis or Valkey. Raises BrokerFailed."""
    log = directory / "moorline.log"
    command = [
        sys.executable, "-m", "broker", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
        "--data-dir", str(directory / "data"),
    ]  # fmt: skip
    with _running(command, log) as process:
        address = _wait(process, log, _mqtt_address)
        yield RunningBroker("moorline", address, process.pid)


def _mqtt_address(text: str) -> str | None:
    """Where a node says that it takes MQTT connections."""
    found = re.search(r"mqtt[^\n]{0,60}?(127\.0\.0\.1:\d+)", text, re.IGNORECASE)
    return found.group(1) if found else None


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


def _wait(process: "subprocess.Popen[bytes]", log: Path, look: Callable[[str], str | None]) -> str:
    """Wait until `look` finds in the log, or elsewhere, that the broker is up."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        text = log.read_text(errors="replace")
        if process.poll() is not None:
            raise BrokerFailed(f"exited with {process.returncode}: {text[-2000:]}")
        if (found := look(text)) is not None:
            return found
        time.sleep(0.02)
    raise BrokerFailed(f"not up after {_START_SECONDS:.0f} s: {log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> str | None:
    with socket.socket() as probe:
        return str(port) if probe.connect_ex(("127.0.0.1", port)) == 0 else None
