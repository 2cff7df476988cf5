"""Three nodes behind HAProxy on the loopback, with the configuration that docs/haproxy.cfg shows.

Only what belongs to a machine is replaced there: addresses, ports, the log, chroot and user. Each replacement
must fit as often as it is meant to, so that the file can't change unnoticed.
"""

import contextlib
import csv
import re
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.node.harness import NodeProcess
from tests.node.redis_server import RedisServer, running_redis
from tests.ports import free_port

CONFIGURATION: Final = Path(__file__).parents[2] / "docs" / "haproxy.cfg"
NODES: Final = 3
_STOP_SECONDS: Final = 5.0
_STATE_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Server:
    """Where HAProxy finds a node, whether it is there or not."""

    name: str
    host: str
    port: int
    admin_port: int


class HaproxyProcess:
    """One HAProxy in front of nodes. Its peers are those of the same list that it is in."""

    def __init__(
        self, program: str, directory: Path, servers: Sequence[Server], name: str, peers: dict[str, int]
    ) -> None:
        self.port = free_port()
        self.name = name
        self.log = directory / f"{name}.log"
        self._servers = [server.name for server in servers]
        self._runtime_port = free_port()
        self._program = program
        self._file = directory / f"{name}.cfg"
        self._file.write_text(self._localised(CONFIGURATION.read_text(), servers, peers))
        self._processes: list[subprocess.Popen[bytes]] = []

    def _localised(self, text: str, servers: Sequence[Server], peers: dict[str, int]) -> str:
        peer_lines = "".join(f"    peer {name} 127.0.0.1:{port}\n" for name, port in peers.items())
        server_lines = "".join(
            f"    server {server.name} {server.host}:{server.port} port {server.admin_port} tcp-ut 15s\n"
            for server in servers
        )
        replacements = [
            (r"^    log /dev/log local0 info\n", "    log stdout format raw local0 info\n"),
            (r"^    chroot \S+\n    user haproxy\n    group haproxy\n", ""),
            (r"^    stats socket \S+ mode 660 ", f"    stats socket ipv4@127.0.0.1:{self._runtime_port} "),
            (r"^    localpeer haproxy-1\n", f"    localpeer {self.name}\n"),
            (r"^    peer haproxy-1 127\.0\.0\.1:10000\n", peer_lines),
            (r"^    bind :1883\n", f"    bind 127.0.0.1:{self.port}\n"),
            (r"(^    server node-\d 10\.0\.0\.1\d:1883 port 8080 tcp-ut 15s\n){3}", server_lines),
        ]
        for pattern, replacement in replacements:
            text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
            assert count == 1, f"{CONFIGURATION.name}: {count} times {pattern!r}"
        return text

    def start(self, away: Collection[str] = ()) -> None:
        """Starts it in the foreground of its own process, and waits until it uses all nodes but these."""
        self._run("-db", "-f", str(self._file))
        self.wait_for_states({name: "DOWN" if name in away else "UP" for name in self._servers})

    def reload(self) -> None:
        """A new process. The old one hands over its table, keeps its connections, and ends with the last."""
        # It hands over nothing before it has looked for a table to take over itself: 5 s if there is none.
        synchronised = re.compile(r"id=haproxies .* flags=0x[0-9a-f]*3 ")
        self._wait_until(lambda: bool(synchronised.search(self.ask("show peers"))))
        old = self._processes[-1]
        self._run("-db", "-f", str(self._file), "-sf", str(old.pid))
        new = self._processes[-1]
        self._wait_until(lambda: f"Pid: {new.pid}\n" in self.ask("show info"))

    def close(self) -> None:
        """Ends it with all connections."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(_STOP_SECONDS)

    def _run(self, *arguments: str) -> None:
        with self.log.open("ab") as output:
            self._processes.append(
                subprocess.Popen(
                    [self._program, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            )

    # What can be seen of it

    def ask(self, command: str) -> str:
        """The answer of the runtime API."""
        with socket.create_connection(("127.0.0.1", self._runtime_port), _STOP_SECONDS) as connection:
            connection.sendall(command.encode() + b"\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        return answer.decode()

    def statistics(self) -> list[dict[str, str]]:
        """Its row for each node, with the names of its `show stat`."""
        rows = csv.DictReader(self.ask("show stat").removeprefix("# ").splitlines())
        return [row for row in rows if row["svname"].startswith("node-")]

    def states(self) -> dict[str, str]:
        """What it thinks of each node: `UP`, `DOWN`; `UP 2/3` while it begins to doubt."""
        return {row["svname"]: row["status"] for row in self.statistics()}

    def table(self) -> dict[str, str]:
        """Client id -> node, for those whose node is known here."""
        found = re.findall(r"key=(\S*) .*server_key=(\S+)", self.ask("show table mqtt"))
        return dict(found)

    def wait_for_table(self, expected: dict[str, str]) -> None:
        """Waits until these are in it: it learns from peers, and from its own process before."""
        self._wait_until(lambda: expected.items() <= self.table().items())

    def wait_for_states(self, expected: dict[str, str]) -> None:
        """Waits until it thinks this of these nodes."""
        self._wait_until(lambda: expected.items() <= self.states().items())

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        """While it starts it answers nothing, and while it reloads perhaps cuts the runtime connection."""
        deadline = time.monotonic() + _STATE_SECONDS
        while True:
            with contextlib.suppress(OSError):
                if is_so():
                    return
            text = self.log.read_text()
            assert self._processes[-1].poll() is None, text
            assert time.monotonic() < deadline, f"not within {_STATE_SECONDS} s, HAProxy says:\n{text}"
            time.sleep(_POLL_SECONDS)


@dataclass(frozen=True)
class Cluster:
    """Nodes `node-1` ... on one Redis, and HAProxies in front of them."""

    redis: RedisServer
    nodes: dict[str, NodeProcess]
    proxies: list[HaproxyProcess]

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self.proxies[0].port

    def connects(self) -> list[tuple[int, str, str]]:
        """Epoch, client id and node of each, in order, as far as the last starts of the nodes go back."""
        for node in self.nodes.values():
            if node.is_running() and psutil.Process(node.pid).status() != psutil.STATUS_STOPPED:
                node.get("/healthz")  # the lines of a tick are written after what it sends
        return sorted(
            (int(str(event["epoch"])), str(event["client_id"]), name)
            for name, node in self.nodes.items()
            for event in node.events("connected")
        )

    def ways(self) -> dict[str, list[str]]:
        """Client id -> the nodes that it was connected to, in order."""
        ways: dict[str, list[str]] = {}
        for _, client_id, name in self.connects():
            ways.setdefault(client_id, []).append(name)
        return ways

    def way_of(self, client_id: str) -> list[str]:
        """One of them."""
        return self.ways()[client_id]

    def node_of(self, client_id: str) -> str:
        """The node that a client is connected to, or was last."""
        return self.way_of(client_id)[-1]

    def mend(self) -> None:
        """Starts whatever has been ended, and waits until all are in use again."""
        for node in self.nodes.values():
            if not node.is_running():
                node.start()
        for proxy in self.proxies:
            proxy.wait_for_states(dict.fromkeys(self.nodes, "UP"))


@contextlib.contextmanager
def running_cluster(
    program: str, directory: Path, proxies: int = 1, environment: dict[str, str] | None = None
) -> Iterator[Cluster]:
    """All of it; ended afterwards. `program`: where `haproxy` is; `environment`: settings of the nodes."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(running_redis(directory / "redis"))
        nodes: dict[str, NodeProcess] = {}
        for number in range(1, NODES + 1):
            name = f"node-{number}"
            (directory / name).mkdir()
            flags = ("--redis", redis.url, "--node-name", name)
            node = NodeProcess(directory / name, *flags, environment=environment)
            stack.callback(node.close)
            node.start()
            nodes[name] = node
        servers = [Server(name, "127.0.0.1", node.port, node.admin_port) for name, node in nodes.items()]
        peers = {f"haproxy-{number}": free_port() for number in range(1, proxies + 1)}
        started = []
        for name in peers:
            proxy = HaproxyProcess(program, directory, servers, name, peers)
            stack.callback(proxy.close)
            proxy.start()
            started.append(proxy)
        yield Cluster(redis, nodes, started)
