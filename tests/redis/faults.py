"""What may happen to the Redis of a broker, each as one function: it does it, waits, and undoes it.

All of them block; they are called in a thread while traffic goes on. `hold_seconds` is for how long something
is stopped, cut or full: longer than a fail-over takes, so there is one wherever there may be one.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from tests.redis.network import NODES, Cut
from tests.redis.server import Server
from tests.redis.topology import Topology
from tests.tools import require_tool

HOLD_SECONDS: Final = 5.0
_DOWN_SECONDS: Final = 1.0
_ROOM_BYTES: Final = 8_192

_SHIM: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

static void wait_while(const char *hangs) {
  while (access(hangs, F_OK) == 0) usleep(5000);
}

int fdatasync(int fd) {
  wait_while("fsync-hangs");
  return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

int fsync(int fd) {
  wait_while("fsync-hangs");
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

ssize_t write(int fd, const void *data, size_t size) {
  struct stat found;
  if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode)) wait_while("write-hangs");
  return ((ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(fd, data, size);
}
"""


class SlowDisk:
    """The disk of each server that is started with `environment` can hang: fsync alone, or every write to a
    file, too. It is a library that is loaded before others, and looks for files in the server's directory."""

    def __init__(self, directory: Path) -> None:
        source, library = directory / "slow_disk.c", directory / "slow_disk.so"
        source.write_text(_SHIM)
        command = [require_tool("gcc"), "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True)
        self.environment = os.environ | {"LD_PRELOAD": str(library)}

    @contextlib.contextmanager
    def hanging(self, server: Server, writes: bool = True) -> Iterator[None]:
        """For the block, that of this server; others have disks of their own."""
        files = [server.directory / "fsync-hangs", *([server.directory / "write-hangs"] if writes else [])]
        for file in files:
            file.touch()
        try:
            yield
        finally:
            for file in files:
                file.unlink()


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault happens to. `chosen`: the shard whose primary is struck."""

    topology: Topology
    disk: SlowDisk | None = None
    chosen: int = 0
    hold_seconds: float = HOLD_SECONDS


def kill_primary(scene: Scene) -> None:
    """kill -9; whoever was killed comes back, as a replica if another one has taken over."""
    server = scene.topology.primary(scene.chosen)
    server.kill()
    _return(scene, server.start)


def terminate_primary(scene: Scene) -> None:
    """SIGTERM, as in an upgrade of Redis."""
    server = scene.topology.primary(scene.chosen)
    server.terminate()
    server.wait()
    _return(scene, server.start)


def _return(scene: Scene, start: Callable[[], None]) -> None:
    """After a fail-over, if there is one: a primary that is back too soon is taken for well."""
    is_alone = len(scene.topology.servers) == scene.topology.shards
    time.sleep(_DOWN_SECONDS if is_alone else scene.hold_seconds)
    start()


def pause_primary(scene: Scene) -> None:
    """SIGSTOP, SIGCONT."""
    server = scene.topology.primary(scene.chosen)
    server.freeze()
    time.sleep(scene.hold_seconds)
    server.thaw()


def cut_from_nodes(scene: Scene) -> None:
    """The nodes can't reach the primary; all others can."""
    _cut(scene, Cut(scene.topology.primary(scene.chosen).name, NODES))


def cut_from_replicas(scene: Scene) -> None:
    """The nodes can reach the primary; replicas, sentinels and other shards can't."""
    _cut(scene, Cut(scene.topology.primary(scene.chosen).name, "*"))


def _cut(scene: Scene, cut: Cut) -> None:
    network = scene.topology.network
    assert network is not None, "a topology with partitions=True"
    network.cut(cut)
    time.sleep(scene.hold_seconds)
    network.mend(cut)


def stall_disk(scene: Scene) -> None:
    """Neither fsync nor write returns."""
    assert scene.disk is not None
    with scene.disk.hanging(scene.topology.primary(scene.chosen)):
        time.sleep(scene.hold_seconds)


def fill_memory(scene: Scene) -> None:
    """There is room for some more messages, then for none: maxmemory, on all primaries."""
    topology = scene.topology
    primaries = [topology.primary(shard) for shard in range(topology.shards)]
    for primary in primaries:
        with primary.client() as client:
            used = cast(dict[str, int], client.info("memory"))["used_memory"]
            client.config_set("maxmemory", used + _ROOM_BYTES)
    time.sleep(scene.hold_seconds)
    for primary in primaries:
        with primary.client() as client:
            client.config_set("maxmemory", 0)


@dataclass(frozen=True, slots=True)
class Fault:
    """`is_lossy`: another server may take over, so `stored` does not promise that nothing is lost.
    `refuses`: messages may be answered with 0x97 meanwhile, which is no promise either."""

    strike: Callable[[Scene], None]
    is_lossy: bool = True
    needs_network: bool = False
    needs_disk: bool = False
    needs_replicas: bool = False
    refuses: bool = False


FAULTS: Final = {
    "kill -9 primary": Fault(kill_primary),
    "SIGTERM": Fault(terminate_primary),
    "pause": Fault(pause_primary),
    "cut off from nodes": Fault(cut_from_nodes, is_lossy=False, needs_network=True),
    "cut off from replicas": Fault(cut_from_replicas, needs_network=True, needs_replicas=True),
    "disk stall": Fault(stall_disk, needs_disk=True),
    "OOM": Fault(fill_memory, is_lossy=False, refuses=True),
}
