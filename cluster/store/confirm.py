"""Asks a primary whether replicas, or its disk, have all that it has answered so far.

What WAIT and WAITAOF wait for is the last write of the connection that asks. There is one stream of writes,
so a small one of our own, behind those that other connections were answered, stands for all of them. It is no
SET if the key is there: a Redis that is full still takes a PEXPIRE.

Not every WAITAOF says what it should. With `everysec` that of Redis 7.4, and of Valkey from 8.0 on, answers 1
as soon as the file was written, up to a second before the fsync (redis/redis#13793; Valkey 9.1.2 still does).
Such a server, and one without WAITAOF (before Redis 7.2), has on its disk what it answers if, and only if,
`appendfsync` is `always`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cluster.store.call import pack_command
from cluster.store.connection import Connection
from cluster.store.errors import (
    AccessDenied,
    SlotMoved,
    SlotMoving,
    StoreError,
    StoreUnavailable,
    UnsupportedRedis,
)
from cluster.store.reply import as_text
from cluster.store.server import ServerInfo, parse_info

_TTL_MS: Final = 3_600_000
_FIELD: Final = re.compile(rb"^(role|connected_slaves|master_replid2?):(\S*)", re.MULTILINE)
_ALWAYS: Final = {b"appendonly": b"yes", b"appendfsync": b"always", b"no-appendfsync-on-rewrite": b"no"}


@dataclass(frozen=True, slots=True)
class Need:
    """So many replicas are to have it; the disk of the primary, too."""

    replicas: int
    is_fsynced: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """`trouble`: why it is not confirmed, for people; empty if it is. Whoever asks has to see whether this is
    still the primary which it has had the answers from."""

    trouble: str
    replication_id: str
    second_id: str


class Asker:
    """Over one connection to a primary, which it owns. `absent` are keys that are not there, one in each slot
    that this server must still have, all of it, when it has waited."""

    def __init__(
        self, connection: Connection, key: str, need: Need, wait_ms: int, absent: Sequence[str] = ()
    ) -> None:
        self.connection = connection
        self._key = key
        self._need = need
        self._wait_ms = wait_ms
        self._looks = [pack_command("EXISTS", each) for each in absent]
        self._has_waitaof: bool | None = None  # not known yet

    async def ask(self, *, must_write: bool) -> Outcome:
        """Waits for some time. `must_write`: else it is what was asked before. Raises StoreError; SlotMoved
        or SlotMoving if this server has not all of those slots (any more)."""
        if self._need.is_fsynced and self._has_waitaof is None:
            info = parse_info(as_text(await self.connection.ask_one("INFO", "server")))
            self._has_waitaof = has_true_waitaof(info)
        replies = await self._ask(must_write)
        if must_write and replies[0] == 0:
            await self.connection.ask_one("SET", self._key, 1, "PX", _TTL_MS)
            replies = await self._ask(must_write)
        first_look = -1 - len(self._looks)
        fields = dict(_FIELD.findall(replies[-1] if isinstance(replies[-1], bytes) else b""))
        for reply in replies:
            if isinstance(reply, SlotMoved | SlotMoving):
                raise reply
            if isinstance(reply, StoreUnavailable) or str(reply).startswith("UNBLOCKED"):
                raise StoreUnavailable(f"{self.connection.address}: {reply}")
        if fields.get(b"role") != b"master":
            raise StoreUnavailable(f"{self.connection.address}: is no primary (any more)")
        return Outcome(
            self._trouble(replies[must_write:first_look], int(fields.get(b"connected_slaves", b"0"))),
            fields.get(b"master_replid", b"").decode(),
            fields.get(b"master_replid2", b"").decode(),
        )

    async def _ask(self, must_write: bool) -> list[object]:
        commands = [pack_command("PEXPIRE", self._key, _TTL_MS)] if must_write else []
        if self._need.replicas:
            commands.append(pack_command("WAIT", self._need.replicas, self._wait_ms))
        if self._need.is_fsynced and self._has_waitaof:
            commands.append(pack_command("WAITAOF", 1, 0, self._wait_ms))
        elif self._need.is_fsynced:
            commands.append(pack_command("CONFIG", "GET", *(name.decode() for name in _ALWAYS)))
        commands += self._looks
        commands.append(pack_command("INFO", "replication"))
        return await self.connection.ask(b"".join(commands), len(commands))

    def _trouble(self, replies: Sequence[object], connected: int) -> str:
        """Why not all that is needed has been confirmed."""
        rest = list(replies)
        if self._need.replicas:
            trouble = self._trouble_of_replicas(rest.pop(0), connected)
            if trouble:
                return trouble
        if self._need.is_fsynced:
            return self._trouble_of_disk(rest.pop(0))
        return ""

    def _trouble_of_replicas(self, reply: object, connected: int) -> str:
        needed = self._need.replicas
        if isinstance(reply, AccessDenied):
            return f"the user of Redis may not WAIT: allow it (+wait): {reply}"
        if not isinstance(reply, int):
            return f"WAIT answered {reply}"
        if reply >= needed:
            return ""
        if connected < needed:
            have = f"{connected} replica is" if connected == 1 else f"{connected} replicas are"
            return f"{have} connected, {needed} needed: start more, or choose a level with fewer"
        return (
            f"{reply} of {connected} replicas had it within {self._wait_ms} ms, {needed} needed: look at how"
            " far they are behind (INFO replication), and at the network between them"
        )

    def _trouble_of_disk(self, reply: object) -> str:
        if isinstance(reply, AccessDenied | UnsupportedRedis) and not self._has_waitaof:
            return (
                "this server has no WAITAOF that tells the truth (Redis 7.2 and 8 have), and does not say"
                " whether appendfsync is always (CONFIG GET): choose another level, or allow +config|get:"
                f" {reply}"
            )
        if isinstance(reply, AccessDenied):
            return f"the user of Redis may not WAITAOF: allow it (+waitaof): {reply}"
        if isinstance(reply, StoreError):
            return f"WAITAOF was refused: set appendonly yes: {reply}"
        if not isinstance(reply, list):
            return f"the server answered {reply!r}"
        if self._has_waitaof:
            if reply[0] == 1:
                return ""
            return f"its disk did not have it within {self._wait_ms} ms: look at the disk, and at appendfsync"
        values = dict(zip(reply[::2], reply[1::2], strict=True))
        wrong = [
            f"{name.decode()} {value.decode()}"
            for name, value in _ALWAYS.items()
            if values.get(name) != value
        ]
        if wrong:
            return (
                "this server has no WAITAOF that tells the truth (Redis 7.2 and 8 have): set "
                f"{', '.join(wrong)}, or choose another level"
            )
        return ""


def has_true_waitaof(info: ServerInfo) -> bool:
    """Whether what it says of the disk can be believed with `appendfsync everysec`, as far as is known."""
    parts = info.version.split(".")
    if not all(part.isdecimal() for part in parts[:2]) or len(parts) < 2:
        return False
    version = int(parts[0]), int(parts[1])
    is_before = (7, 2) <= version < (7, 4)  # it came in behind that; Valkey 7.2 is from there, too
    return is_before or (info.product == "Redis" and version >= (8, 0))
