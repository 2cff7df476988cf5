"""What a kill of Redis loses of what it had answered while an fsync of its append-only file was under way.

    python -m tests.redis.fsync

With `everysec` Redis does not write while an fsync is under way, for up to two seconds, and answers all the
same (`flushAppendOnlyFile`); what it holds back is in its own memory, and a kill -9 loses it. With `no` there
is no such fsync, with `always` nobody is answered before it. The disk is that of `faults.SlowDisk`.
"""

import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast, get_args

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.redis.faults import SlowDisk
from tests.redis.server import HOST, Server
from tests.redis.topology import Software, Sync, standalone

WRITE_SECONDS: Final = 1.5
"""Less than the two seconds after which Redis writes in spite of the fsync, and then hangs with it."""
_EVERY_SECONDS: Final = 0.001
_KEY: Final = "written"


@dataclass(frozen=True, slots=True)
class Loss:
    """Of one kill."""

    answered: int
    lost: int


def kill_while_disk_hangs(directory: Path, software: Software, appendfsync: Sync, hangs: bool = True) -> Loss:
    """A client appends numbers, one after the other; how many that were answered a restart does not have."""
    disk = SlowDisk(directory)
    place = directory / "servers"
    place.mkdir()
    environment = disk.environment
    with standalone(place, software=software, appendfsync=appendfsync, environment=environment) as topology:
        server = topology.primary()
        before = _write(server, WRITE_SECONDS)  # so that an fsync is due
        with disk.hanging(server, writes=False) if hangs else contextlib.nullcontext():
            answered = max(before, _write(server, WRITE_SECONDS))
            server.kill()
        server.start()
        with server.client() as client:
            kept = cast(int, client.llen(_KEY))
    return Loss(answered, max(0, answered - kept))  # one more may be kept than was answered


def _write(server: Server, seconds: float) -> int:
    """For so long, or until no answer comes; how many there are, as the last answer says."""
    deadline = time.monotonic() + seconds
    answered = 0
    once = Retry(NoBackoff(), 0)
    with (
        redis.Redis(HOST, server.port, socket_timeout=seconds, retry=once) as client,
        contextlib.suppress(redis.TimeoutError),
    ):
        while time.monotonic() < deadline:
            answered = cast(int, client.rpush(_KEY, "x" * 100))
            time.sleep(_EVERY_SECONDS)
    return answered


def main() -> None:
    """All cases, as lines of a table."""
    for software in get_args(Software):
        for appendfsync in get_args(Sync):
            for hangs in (False, True):
                with tempfile.TemporaryDirectory(prefix="moorline-fsync-") as directory:
                    loss = kill_while_disk_hangs(Path(directory), software, appendfsync, hangs)
                state = "hangs" if hangs else "well"
                print(
                    f"| {software} | {appendfsync} | {state} | {loss.answered:,} | {loss.lost:,} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
