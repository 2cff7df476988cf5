"""One node at the edge of a network: behind proxies, with unix sockets, on IPv6; for pages of chosen origins.

Its rules tell clients apart by where they are: each may publish and subscribe below `from/` and the name of
its network only, and everybody below `all/`.
"""

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.listeners.frames import trusting
from tests.node.harness import NodeProcess, running_node
from tests.tools import Certificate

HASTY_SECONDS = 0.5
_LISTENERS = """
[listeners]
unix = {{address = "unix://{directory}/mqtt.sock"}}
unix-proxied = {{address = "unix://{directory}/proxied.sock", socket_mode = "0600", proxy_protocol = true}}
proxied = {{address = "mqtt://127.0.0.1:0", {trusted}}}
proxied-tls = {{address = "mqtts://127.0.0.1:0", {trusted}, {files}}}
proxied-ws = {{address = "ws://127.0.0.1:0", {trusted}}}
proxied-wss = {{address = "wss://127.0.0.1:0", {trusted}, {files}}}
hasty = {{address = "mqtts://127.0.0.1:0", {trusted}, {files}, handshake_timeout_seconds = {hasty}}}
strict = {{address = "mqtt://127.0.0.1:0", proxy_protocol = true, trusted_proxies = ["192.0.2.0/24"]}}
six = {{address = "mqtt://[::1]:0"}}
six-any = {{address = "mqtt://[::]:0"}}
six-tls = {{address = "mqtts://[::1]:0", {files}}}
six-ws = {{address = "ws://[::1]:0"}}
six-proxied = {{address = "mqtt://[::1]:0", proxy_protocol = true, trusted_proxies = ["::1"]}}
pages = {{address = "ws://127.0.0.1:0", origins = ["https://app.example"]}}
"""
_RULES = """
[[rules]]
effect = "allow"
filters = ["all/#"]
[[rules]]
effect = "allow"
addresses = ["192.0.2.0/24"]
filters = ["from/four/#"]
[[rules]]
effect = "allow"
addresses = ["2001:db8::/32"]
filters = ["from/six/#"]
[[rules]]
effect = "allow"
addresses = ["127.0.0.0/8"]
filters = ["from/loopback/#"]
[[rules]]
effect = "allow"
addresses = ["::1"]
filters = ["from/loopback-six/#"]
[[rules]]
effect = "deny"
addresses = ["0.0.0.0/0", "::/0"]
filters = ["#"]
[[rules]]
effect = "allow"
filters = ["from/nowhere/#"]
"""
PLACES = ("four", "six", "loopback", "loopback-six", "nowhere")


@dataclass(frozen=True)
class Edge:
    """The node, and where it listens."""

    node: NodeProcess
    certificate: Certificate
    ports: dict[str, int]
    sockets: dict[str, Path]

    @property
    def context(self) -> ssl.SSLContext:
        """A client's side of TLS."""
        return trusting(str(self.certificate.file))

    def by_unix(self, name: str = "unix") -> socket.socket:
        """A connection to a unix socket."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(5.0)
        connection.connect(str(self.sockets[name]))
        return connection

    def peer_of(self, client_id: str) -> str:
        """What the log says of where it is."""
        self.node.get("/healthz")  # lines of a tick are written after what it sends
        (event,) = [event for event in self.node.events("connected") if event["client_id"] == client_id]
        return str(event["peer"])


@contextlib.contextmanager
def running_edge(directory: Path, certificate: Certificate) -> Iterator[Edge]:
    """The node, ended afterwards."""
    text = _LISTENERS.format(
        directory=directory,
        trusted='proxy_protocol = true, trusted_proxies = ["127.0.0.1"]',
        files=f'certificate = "{certificate.file}", key = "{certificate.key}"',
        hasty=HASTY_SECONDS,
    )
    rules = directory / "rules.toml"
    rules.write_text(_RULES)
    config = directory / "moorline.toml"
    config.write_text(f'[auth]\nrules_file = "{rules}"\n[node]\nlog_level = "debug"\n{text}')
    with running_node(directory, "--config", str(config), "--allow-anonymous") as node:
        _, *lines = re.findall(r"^  (?:mqtts?|wss?|unix) +(\S+)$", node.output(), re.MULTILINE)
        places = dict(zip(re.findall(r"^([\w-]+) = ", text, re.MULTILINE), lines, strict=True))
        yield Edge(
            node,
            certificate,
            {
                name: int(place.rpartition(":")[2].partition("/")[0])
                for name, place in places.items()
                if ":" in place
            },
            {name: Path(place) for name, place in places.items() if ":" not in place},
        )
