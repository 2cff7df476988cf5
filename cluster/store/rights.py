"""What our user of Redis must be allowed to do: the least that a node can do with.

It is tried at the start, all at once: else a missing right would be found when the first client needs it, in
the middle of the night. What the function library does counts as done by who calls it.
"""

import secrets
from collections.abc import Sequence
from typing import Final

from cluster.store import keys
from cluster.store.call import pack_command
from cluster.store.connection import Connection
from cluster.store.errors import AccessDenied

_BY_NODES: Final = (
    "CLIENT|SETNAME", "DEL", "EXISTS", "FCALL", "FUNCTION|LIST", "GET", "HDEL", "HSCAN", "HSET", "INFO",
    "PEXPIRE", "PING", "PUBLISH", "SET", "SUBSCRIBE", "TIME", "UNSUBSCRIBE", "XADD", "XLEN", "XREAD",
    "ZRANGE",
)  # fmt: skip
_BY_THE_LIBRARY: Final = (
    "DECR", "DECRBY", "DEL", "EXISTS", "GET", "HDEL", "HEXISTS", "HGET", "HGETALL", "HLEN", "HMGET",
    "HSCAN", "HSET", "HSTRLEN", "INCR", "INCRBY", "INFO", "MEMORY|USAGE", "PERSIST", "PEXPIRE", "PUBLISH",
    "RENAME", "SADD", "SCARD", "SET", "SISMEMBER", "SMEMBERS", "SPOP", "SREM", "SSCAN", "TIME", "UNLINK",
    "XACK", "XADD", "XCLAIM", "XDEL", "XGROUP|CREATE", "XGROUP|DELCONSUMER", "XGROUP|DESTROY",
    "XINFO|CONSUMERS", "XLEN", "XPENDING", "XRANGE", "XREADGROUP", "XREVRANGE", "XTRIM", "ZADD", "ZCARD",
    "ZLEXCOUNT", "ZRANGE", "ZRANGEBYLEX", "ZRANGEBYSCORE", "ZREM", "ZSCORE",
)  # fmt: skip
_BY_THE_RELEASE_BEFORE: Final = ("HSETNX",)
"""Its nodes may share our user, and do not start without."""
COMMANDS: Final = tuple(sorted({*_BY_NODES, *_BY_THE_LIBRARY, *_BY_THE_RELEASE_BEFORE}))
FOR_OPERATORS: Final = ("DBSIZE", "RANDOMKEY")
"""For `moorline ctl redis`, which says so if they are missing. Nodes do without."""
LOADING: Final = "FUNCTION|LOAD"
"""Not for nodes whose library somebody else loads."""
OF_A_CLUSTER: Final = "CLUSTER|SLOTS"
"""For nodes on a Redis Cluster only. It is not tried: they ask it first of all."""

_TRY_MILLISECONDS: Final = 60_000
_FIRST: Final = ("SET", "PERSIST")
_LAST: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "UNLINK", "DEL")
_KEYLESS: Final[dict[str, tuple[str | int, ...] | None]] = {
    "CLIENT|SETNAME": None,  # done when the connection was made
    "INFO": None,
    "FUNCTION|LIST": ("LIBRARYNAME", "-"),
    "FCALL": ("-", 0),
    "PING": (),
    "TIME": (),
}
_ARGUMENTS: Final[dict[str, tuple[str | int, ...]]] = {
    "DECRBY": (0,), "INCRBY": (0,), "HDEL": ("-",), "HEXISTS": ("-",), "HGET": ("-",), "HMGET": ("-",),
    "HSCAN": (0,), "HSET": ("-", "-"), "HSETNX": ("-", "-"), "HSTRLEN": ("-",),
    "PEXPIRE": (_TRY_MILLISECONDS,), "PUBLISH": ("-",), "SADD": ("-",), "SISMEMBER": ("-",), "SREM": ("-",),
    "SSCAN": (0,),
    "XACK": ("-", "1-1"), "XADD": ("*", "-", "-"), "XCLAIM": ("-", "-", 0, "1-1"), "XDEL": ("1-1",),
    "XGROUP|CREATE": ("-", "$"), "XGROUP|DESTROY": ("-",), "XGROUP|DELCONSUMER": ("-", "-"),
    "XINFO|CONSUMERS": ("-",), "XPENDING": ("-",), "XRANGE": ("-", "+"), "XREVRANGE": ("+", "-"),
    "XTRIM": ("MAXLEN", 1), "ZADD": (0, "-"), "ZRANGE": (0, 0), "ZLEXCOUNT": ("-", "+"),
    "ZRANGEBYLEX": ("-", "+"), "ZRANGEBYSCORE": (0, 0), "ZREM": ("-",), "ZSCORE": ("-",),
}  # fmt: skip
"""Behind the key. It holds a string that is no number, so nearly all of them fail, after Redis has looked
whether they are allowed."""


def access_list(prefix: str, *, may_load: bool = True, in_cluster: bool = False) -> str:
    """For `ACL SETUSER name on >password ...`."""
    more = [*FOR_OPERATORS, *([LOADING] if may_load else ()), *([OF_A_CLUSTER] if in_cluster else ())]
    commands = sorted([*COMMANDS, *more])
    allowed = " ".join(f"+{command.lower()}" for command in commands)
    return f"resetkeys ~{prefix}* resetchannels &{prefix}* -@all {allowed}"


async def check_rights(connection: Connection, prefix: str, slot: int | str = keys.META_SLOT) -> None:
    """Raises AccessDenied, with all that is missing; StoreUnavailable. `slot`: one that this server has."""
    key = keys.rights(prefix, secrets.token_hex(8), slot)
    tries = _tries(key)
    replies = await connection.ask(b"".join(packed for _, packed in tries), len(tries))
    commands = set()
    places = set()
    for (command, _), reply in zip(tries, replies, strict=True):
        if isinstance(reply, AccessDenied):
            text = str(reply)
            if "channel" in text:
                places.add(f"channels &{prefix}*")
            elif "key" in text:
                places.add(f"keys ~{prefix}*")
            else:
                commands.add(f"+{command.lower()}")
    if missing := [*sorted(commands), *sorted(places)]:
        raise AccessDenied(
            f"{connection.address}: this user of Redis may not do all that a node does; it lacks"
            f" {', '.join(missing)} (`moorline redis acl` tells the whole list)"
        )


def _tries(key: str) -> Sequence[tuple[str, bytes]]:
    """Commands as they are sent, each with one reply. The key goes when all is done, or after a minute."""
    between = [name for name in COMMANDS if name not in (*_FIRST, *_LAST)]
    order = [*_FIRST, *between, *_LAST]
    return [(name, pack_command(*words)) for name in order if (words := _words(name, key)) is not None]


def _words(name: str, key: str) -> list[str | int] | None:
    verb, _, kind = name.partition("|")
    words: list[str | int] = [verb, kind] if kind else [verb]
    if name in _KEYLESS:
        arguments = _KEYLESS[name]
        return None if arguments is None else [*words, *arguments]
    match name:
        case "SET":
            return [*words, key, "-", "PX", _TRY_MILLISECONDS]
        case "RENAME":
            return [*words, key, key]
        case "XREAD":
            return [*words, "STREAMS", key, "0"]
        case "XREADGROUP":
            return [*words, "GROUP", "-", "-", "STREAMS", key, ">"]
    return [*words, key, *_ARGUMENTS.get(name, ())]
