"""The image, as strictly held as a Pod can be: it serves, is an init, drains, and ends in time."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import broker
from tests.containers.podman import HARDENED, IMAGE, Container, Network, network, podman, start_redis

pytestmark = pytest.mark.timeout(60)

UP_SECONDS = 20.0
GRACE_SECONDS = 15
ANONYMOUS = ("--env", "MOORLINE_NODE__ALLOW_ANONYMOUS=true")
ORPHAN = """
import os, sys, time
read, write = os.pipe()
if not os.fork():
    if not os.fork():
        os.setsid()
        os.write(write, b"%d" % os.getpid())
        time.sleep(0.2)
        os._exit(0)
    os._exit(0)
os.wait()
print(os.read(read, 20).decode())
"""
IMPORT_ALL = """
import importlib, pkgutil
import broker, cluster, loadtest
for package in (broker, cluster, loadtest):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from loadtest.scenario import builtin_names
assert builtin_names()
"""
WRITABLE = "find / -xdev ( -type f -o -type d ) -writable -not -path /proc* -not -path /sys*"


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network() as net:
        yield net


@pytest.fixture(scope="module")
def redis(net: Network) -> Iterator[Container]:
    container = start_redis(net)
    yield container
    container.remove()


@contextmanager
def _serving(net: Network, number: int, *command: str) -> Iterator[Container]:
    """A node on the Redis, which is up."""
    name = f"{net.name}-image-{number}"
    settings = ("--env", f"MOORLINE_REDIS__URL=redis://{net.address(0)}:6379", *ANONYMOUS)
    container = Container(name, ("--network", net.name, *HARDENED, *settings), command)
    try:
        _until(lambda: "  redis  " in container.logs(), container)
        yield container
    finally:
        container.remove()


@pytest.fixture(scope="module")
def node(net: Network, redis: Container) -> Iterator[Container]:
    with _serving(net, 1) as node:
        yield node


def _until(is_so: Callable[[], bool], container: Container) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, container.logs()
        time.sleep(0.1)


def _processes(container: Container) -> dict[int, str]:
    """Process id -> state and parent, as they stand in the container."""
    lines = container.execute("sh", "-c", "cat /proc/[0-9]*/stat || true").stdout.splitlines()
    found = (re.match(r"(\d+) \(.*\) (\S \d+) ", line) for line in lines)
    return {int(match[1]): match[2] for match in found if match}


# What is in it


def test_it_is_compiled_and_of_this_version() -> None:
    said = podman("run", "--rm", *HARDENED, IMAGE, "--version").stdout
    assert said == f"moorline {broker.__version__} (compiled)\n"


def test_every_module_can_be_imported() -> None:
    """The image leaves out what it believes that nobody needs."""
    podman("run", "--rm", *HARDENED, "--entrypoint", '["python", "-P", "-c"]', IMAGE, IMPORT_ALL)


def test_its_description() -> None:
    (image,) = json.loads(podman("image", "inspect", IMAGE).stdout)
    labels, config = image["Labels"], image["Config"]
    assert labels["org.opencontainers.image.version"] == broker.__version__
    assert labels["org.opencontainers.image.revision"]
    assert config["User"] == "10001:10001"
    assert set(config["ExposedPorts"]) == {"1883/tcp", "8080/tcp"}
    assert (config["Entrypoint"], config["Cmd"]) == (["moorline"], ["serve"])
    base = _size_of(labels["org.opencontainers.image.base.name"])
    print(f"\nimage: {image['Size'] / 1e6:.0f} MB, its base {base / 1e6:.0f} MB")


def _size_of(name: str) -> int:
    return int(podman("image", "inspect", "--format", "{{.Size}}", name).stdout)


def test_there_is_no_compiler_and_nothing_to_install_with() -> None:
    names = "gcc cc mypy pip pip3"
    found = podman(
        *("run", "--rm", *HARDENED, "--entrypoint", '["sh", "-c"]', IMAGE),
        f"for name in {names}; do command -v $name; done; ls /tools /src /dist; true",
    )
    assert found.stdout == ""


def test_the_user_owns_nothing() -> None:
    """Even where the file system isn't read-only."""
    user = ("--user", "10001:10001", "--cap-drop", "ALL")
    found = podman("run", "--rm", *user, "--entrypoint", json.dumps(WRITABLE.split()), IMAGE, check=False)
    assert {path for path in found.stdout.split() if not path.startswith(("/dev", "/run/secrets"))} <= {
        "/tmp",
        "/var/tmp",
        "/run/lock",
    }


# What it does


def test_ctl_works_inside(node: Container) -> None:
    answer = node.execute("moorline", "ctl", "health")
    assert re.search(r"^status +ok$", answer.stdout, re.MULTILINE), answer.stdout


def test_it_is_ready_where_a_kubelet_asks(node: Container, net: Network) -> None:
    ask = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).status)"
    address = node.inspect(f'(index .NetworkSettings.Networks "{net.name}").IPAddress')
    for path in ("readyz", "healthz", "metrics"):
        url = f"http://{address}:8080/{path}"
        assert node.execute("python", "-c", ask, url).stdout == "200\n"


def test_process_1_waits_for_orphans(node: Container) -> None:
    orphan = int(node.execute("python", "-c", ORPHAN).stdout)
    assert _processes(node).get(orphan, "S 1").endswith(" 1"), (
        "it isn't process 1 that it has become a child of"
    )
    _until(lambda: orphan not in _processes(node), node)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_stop_drains_and_ends_in_order(net: Network, redis: Container, workers: str) -> None:
    with _serving(net, 2, "serve", "--workers", workers) as node:
        begun = time.monotonic()
        assert node.stop(GRACE_SECONDS) == 0, node.logs()
        assert time.monotonic() - begun < GRACE_SECONDS
        assert '"draining"' in node.logs()
        assert node.logs().count('"stopped"') == (1 if workers == "1" else 3)


def test_a_stop_while_it_loads_is_not_lost(net: Network) -> None:
    """Else it would go on, and wait for Redis until it is killed."""
    nobody = ("--env", "MOORLINE_REDIS__URL=redis://127.0.0.1:1")
    container = Container(f"{net.name}-early", (*HARDENED, *ANONYMOUS, *nobody))
    try:
        _until(lambda: _has_a_child(container.pid), container)
        code = container.stop(GRACE_SECONDS)
        assert code in (0, 128 + signal.SIGTERM), container.logs()
    finally:
        container.remove()


def _has_a_child(pid: int) -> bool:
    """Process 1 forks when signals wait for it, and not before."""
    return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def test_without_a_choice_nobody_is_let_in() -> None:
    """It listens where others can reach it, and there are no users: that must be said."""
    refused = podman("run", "--rm", *HARDENED, IMAGE, check=False)
    assert refused.returncode == 2
    assert "nothing would ask clients who they are" in refused.stderr
