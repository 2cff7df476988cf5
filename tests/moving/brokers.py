"""A broker of some nodes, and `moorline ctl export` and `import` as an operator gives them."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from typer.testing import Result

from tests.cli.program import run
from tests.node.harness import NodeProcess, running_node
from tests.store.servers import running_server

Json = dict[str, Any]


@dataclass(frozen=True)
class Broker:
    """Its nodes, and how their Redis is reached."""

    nodes: list[NodeProcess]
    url: str
    prefix: str

    @property
    def port(self) -> int:
        """Of the first node."""
        return self.nodes[0].port

    def redis(self) -> redis.Redis:
        """A connection to look at keys."""
        return redis.Redis(unix_socket_path=self.url.removeprefix("unix://"))

    def ctl(self, *arguments: str) -> Result:
        """`moorline ctl ARGUMENTS`, asked of the last node."""
        environment = {"MOORLINE_ADMIN_URL": f"127.0.0.1:{self.nodes[-1].admin_port}"}
        return run("ctl", *arguments, environment=environment)

    def export(self, file: Path, *options: str) -> list[Json]:
        """Writes the file; its records."""
        result = self.ctl("export", str(file), *options)
        assert result.exit_code == 0, result.output
        return [record for line in file.read_text().splitlines() if "kind" in (record := json.loads(line))]

    def import_(self, file: Path, *options: str) -> Json:
        """What has become of it."""
        result = self.ctl("import", str(file), "--json", *options)
        assert result.exit_code == 0, result.output
        told: Json = json.loads(result.stdout)
        return told


@contextlib.contextmanager
def running_broker(directory: Path, kind: str, prefix: str, count: int) -> Iterator[Broker]:
    """So many nodes on a server of that kind."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_server(kind, directory, "--appendonly", "yes"))
        nodes = []
        for number in range(1, count + 1):
            place = directory / f"node-{number}"
            place.mkdir()
            flags = ("--redis", server.url, "--prefix", prefix, "--node-name", f"node-{number}")
            nodes.append(
                stack.enter_context(
                    running_node(place, *flags, environment={"MOORLINE_TOPICS__EXCLUSIVE": "true"})
                )
            )
        yield Broker(nodes, server.url, prefix)
