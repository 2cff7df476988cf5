"""What is in a Redis, as JSON that any server takes back: keys with type, content and time to live.

DUMP and RESTORE would be shorter, but what they write differs from server to server. Bytes are text in
Latin-1 here, which any bytes survive. Deadlines stay what they were: whoever writes a dump to be kept sees to
it that they are either in the past or more than a hundred years away.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

import redis

Entry: TypeAlias = dict[str, Any]  # JSON
"""`key`, `type`, `value`, and if there is one `ttl_ms`."""


def dump(client: redis.Redis, prefix: str) -> list[Entry]:
    """All keys with this prefix, in the order of their names."""
    entries = []
    for key in sorted(client.scan_iter(f"{prefix}*")):
        kind = cast(bytes, client.type(key)).decode()
        entry: Entry = {"key": _text(key), "type": kind, "value": _READERS[kind](client, key)}
        ttl_ms = client.pttl(key)
        if ttl_ms >= 0:
            entry["ttl_ms"] = ttl_ms
        entries.append(entry)
    return entries


def restore(client: redis.Redis, entries: list[Entry]) -> None:
    """Into a server that has none of them."""
    for entry in entries:
        key = _bytes(entry["key"])
        _WRITERS[entry["type"]](client, key, entry["value"])
        if "ttl_ms" in entry:
            client.pexpire(key, entry["ttl_ms"])


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


# Reading


def _read_string(client: Any, key: bytes) -> str:
    return _text(client.get(key))


def _read_hash(client: Any, key: bytes) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in sorted(client.hgetall(key).items())}


def _read_set(client: Any, key: bytes) -> list[str]:
    return sorted(_text(member) for member in client.smembers(key))


def _read_sorted_set(client: Any, key: bytes) -> list[list[object]]:
    return [[_text(member), score] for member, score in client.zrange(key, 0, -1, withscores=True)]


def _read_stream(client: Any, key: bytes) -> dict[str, object]:
    entries = [
        [_text(entry_id), [_text(part) for pair in fields.items() for part in pair]]
        for entry_id, fields in client.xrange(key)
    ]
    read: dict[str, object] = {
        "last_id": _text(client.xinfo_stream(key)["last-generated-id"]),
        "entries": entries,
    }
    groups = client.xinfo_groups(key)
    if groups:  # what its consumers have and did not settle is not kept
        read["groups"] = [[_text(group["name"]), _text(group["last-delivered-id"])] for group in groups]
    return read


# Writing


def _write_string(client: Any, key: bytes, value: str) -> None:
    client.set(key, _bytes(value))


def _write_hash(client: Any, key: bytes, value: Mapping[str, str]) -> None:
    client.hset(key, mapping={_bytes(name): _bytes(content) for name, content in value.items()})


def _write_set(client: Any, key: bytes, value: list[str]) -> None:
    client.sadd(key, *map(_bytes, value))


def _write_sorted_set(client: Any, key: bytes, value: list[tuple[str, float]]) -> None:
    client.zadd(key, {_bytes(member): score for member, score in value})


def _write_stream(client: Any, key: bytes, value: Mapping[str, Any]) -> None:
    client.xgroup_create(key, "none", mkstream=True)
    client.xgroup_destroy(key, "none")
    for entry_id, fields in value["entries"]:
        client.execute_command("XADD", key, entry_id, *map(_bytes, fields))
    if value["last_id"] != "0-0":
        client.execute_command("XSETID", key, value["last_id"])
    for name, last_id in value.get("groups", []):
        client.xgroup_create(key, name, id=last_id)


# Any: redis-py's types allow for every setting that a client could have; see tests/store/caller.py.
_READERS: Final[dict[str, Callable[[Any, bytes], object]]] = {
    "string": _read_string,
    "hash": _read_hash,
    "set": _read_set,
    "zset": _read_sorted_set,
    "stream": _read_stream,
}
_WRITERS: Final[dict[str, Callable[[Any, bytes, Any], None]]] = {
    "string": _write_string,
    "hash": _write_hash,
    "set": _write_set,
    "zset": _write_sorted_set,
    "stream": _write_stream,
}
