"""Containers of the image under test, by the podman command. All of it blocks.

Without podman, or where a container can't start, the tests that ask here are skipped with the reason; with
CI=true they fail.
"""

import contextlib
import ipaddress
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.tools import find_tool, missing

IMAGE: Final = os.environ.get("MOORLINE_IMAGE", "localhost/moorline:test")
"""Made by `make containers` (.ci/test-image)."""
CONFIGURATION: Final = Path(__file__).with_name("containers.conf")
HARDENED: Final = (
    *("--user", "10001:10001", "--read-only", "--read-only-tmpfs=false"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
"""As strict as a Pod can be."""
_COMMAND_SECONDS: Final = 60.0


def podman(
    *arguments: str, seconds: float = _COMMAND_SECONDS, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs it to its end. Raises AssertionError, with what it has said, if it fails and `check` is set."""
    done = subprocess.run(
        [find_tool("podman") or "podman", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={"CONTAINERS_CONF": str(CONFIGURATION), **os.environ},
        timeout=seconds,
        check=False,
    )
    assert not check or done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr or done.stdout}"
    return done


def require_containers() -> None:
    """Ends this test where a container of the image can't be started."""
    if find_tool("podman") is None:
        missing("podman is not installed (.ci/deps-containers)")
    if podman("image", "exists", IMAGE, check=False).returncode:
        missing(f"there is no image {IMAGE} (make containers)")
    tried = podman("run", "--rm", IMAGE, "--version", check=False)
    if tried.returncode:
        missing(f"no container can be started: {tried.stderr.strip()}")


class Container:
    """One of them, started at once; `remove` ends it."""

    def __init__(self, name: str, flags: Sequence[str], command: Sequence[str] = ()) -> None:
        self.name = name
        podman("run", "--detach", "--name", name, *flags, IMAGE, *command)

    def __repr__(self) -> str:
        return f"<Container {self.name}>"

    def inspect(self, field: str) -> str:
        """A field by its Go template, `.State.Pid`."""
        return podman("inspect", "--format", f"{{{{{field}}}}}", self.name).stdout.strip()

    @property
    def pid(self) -> int:
        """Of its process 1, as the host sees it."""
        return int(self.inspect(".State.Pid"))

    def execute(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in it."""
        return podman("exec", self.name, *command, check=check)

    def logs(self) -> str:
        """All that it has said."""
        said = podman("logs", self.name)
        return said.stdout + said.stderr

    def stop(self, seconds: int) -> int:
        """SIGTERM, and SIGKILL after so long; the exit code."""
        podman("stop", "--time", str(seconds), self.name, seconds=seconds + _COMMAND_SECONDS)
        return int(self.inspect(".State.ExitCode"))

    def kill(self) -> None:
        """kill -9."""
        podman("kill", "--signal", "KILL", self.name)

    def pause(self) -> None:
        """It stands still, with its connections."""
        podman("pause", self.name)

    def unpause(self) -> None:
        """It goes on."""
        podman("unpause", self.name)

    def cut_off(self, address: str) -> None:
        """Nothing passes between it and this address any more; nobody is told."""
        rules = f"""
            table inet partition {{
                chain to {{ type filter hook output priority 0; ip daddr {address} drop; }}
                chain from {{ type filter hook input priority 0; ip saddr {address} drop; }}
            }}
        """
        self._nft(rules)

    def join_again(self) -> None:
        """Undoes `cut_off`."""
        self._nft("delete table inet partition")

    def _nft(self, rules: str) -> None:
        subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", find_tool("nft") or "nft", "-f", "-"],
            input=rules,
            text=True,
            check=True,
        )

    def remove(self) -> None:
        """Ends it, however it is."""
        podman("rm", "--force", "--time", "0", self.name, check=False)


class Network:
    """A private one; the host is in it, too."""

    def __init__(self) -> None:
        self.name = f"moorline-{secrets.token_hex(4)}"
        podman("network", "create", "--disable-dns", self.name)
        (described,) = json.loads(podman("network", "inspect", self.name).stdout)
        self._subnet = ipaddress.ip_network(described["subnets"][0]["subnet"])

    def address(self, number: int) -> str:
        """One of those that are given to nobody else."""
        return str(self._subnet[100 + number])

    def remove(self) -> None:
        """No container may be in it any more."""
        podman("network", "rm", "--force", self.name, check=False)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """One, removed afterwards."""
    made = Network()
    try:
        yield made
    finally:
        made.remove()


def start_redis(network: Network) -> Container:
    """The Valkey that the image has for a private server, for anybody in the network; without a disk."""
    become = (
        "from cluster.store.server_binary import bundled_binary; import os, sys;"
        " os.execv(bundled_binary(), sys.argv[1:])"
    )
    server = (
        *("valkey-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/data"),
        *("--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"),
    )
    flags = (
        *("--network", network.name, "--ip", network.address(0)),
        *(*HARDENED, "--tmpfs", "/data:mode=1777", "--entrypoint", '["python", "-c"]'),
    )
    return Container(f"{network.name}-redis", flags, (become, *server))
