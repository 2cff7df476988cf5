"""What nodes write for somebody who watches: a capped stream that ends by itself, so nothing is left if
whoever watches dies. Commands on a connection of one's own, not calls of the library: nothing in here has to
be atomic, and nothing of it may get in the way of the lane.

An entry is a record with its number, which counts what a node had to tell, also what it left out: a gap
shows how much that was, and so does an entry that has a number and no record.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cluster.store import keys
from cluster.store.call import pack_command
from cluster.store.reply import as_bytes, as_list, as_text

ENTRIES_MAXIMUM: Final = 2000
TTL_MS: Final = 60_000
_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Told:
    """What a node writes. `record` is JSON, empty if there is only something to count: `number` and `unseen`
    grow with what was left out, and with what was not even looked at."""

    number: int
    unseen: int
    record: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """The same, as it is read."""

    id: str
    incarnation: str
    told: Told


def write(prefix: str, tap_id: str, incarnation: str, told: Sequence[Told]) -> list[bytes]:
    """Commands, with a reply each."""
    key = keys.tap(prefix, tap_id)
    head = ("XADD", key, "MAXLEN", "~", ENTRIES_MAXIMUM, "*")
    commands = [
        pack_command(*head, "node", incarnation, "n", each.number, "u", each.unseen, "r", each.record)
        for each in told
    ]
    return [*commands, pack_command("PEXPIRE", key, TTL_MS)]


def read(prefix: str, tap_id: str, after: str, block_ms: int) -> bytes:
    """A command that waits for what comes behind the entry `after`."""
    return pack_command(
        "XREAD", "COUNT", _PAGE, "BLOCK", block_ms, "STREAMS", keys.tap(prefix, tap_id), after
    )


def parse_read(reply: object) -> list[Entry]:
    """Raises TypeError, ValueError for what no node writes."""
    if reply is None:
        return []
    ((_, entries),) = (as_list(stream) for stream in as_list(reply))
    return [_entry(*as_list(each)) for each in as_list(entries)]


def _entry(entry_id: object, flat: object) -> Entry:
    fields = as_list(flat)
    by_name = dict(zip(map(as_text, fields[::2]), map(as_bytes, fields[1::2]), strict=True))
    told = Told(int(by_name["n"]), int(by_name["u"]), by_name["r"])
    return Entry(as_text(entry_id), by_name["node"].decode(), told)


def remove(prefix: str, tap_id: str) -> bytes:
    """A command: nobody reads it any more."""
    return pack_command("DEL", keys.tap(prefix, tap_id))


def keep_trace(prefix: str, trace_id: str, text: bytes, milliseconds: int) -> bytes:
    """A command: the trace goes on for so long, unless it is removed."""
    return pack_command("SET", keys.trace(prefix, trace_id), text, "PX", milliseconds)


def get_trace(prefix: str, trace_id: str) -> bytes:
    """A command; the reply is None when the trace has ended."""
    return pack_command("GET", keys.trace(prefix, trace_id))


def remove_trace(prefix: str, trace_id: str) -> bytes:
    """A command: ends the trace. The reply is 0 if there was none."""
    return pack_command("DEL", keys.trace(prefix, trace_id))
