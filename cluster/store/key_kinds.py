"""What a key in Redis is for, by its name: the other way round than `keys`.

Also of other brokers in the same Redis, whose keys begin with another prefix. What does not look like a key
of ours is somebody else's.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from cluster.store import keys

SESSIONS: Final = "sessions"
NOT_OURS: Final = "not of a broker"
OTHER: Final = "other"

_KINDS: Final = {
    SESSIONS: ("s", "ids", "sessions", "rel", "rx", "n", "bell", "ended", "replay", "due"),
    "queues": ("q", "aside", "share", "member"),
    "retained": ("retained",),
    "subscriptions": ("subs", "interest", "log", "exclusive"),
    "wills and delayed": ("will", "wills", "delayed"),
    "inboxes": ("inbox",),
    "dead letters": ("letters",),
    "tokens": ("once",),
    "history": ("events",),
}
KINDS: Final = (*_KINDS, OTHER, NOT_OURS)
_KIND_OF: Final = {word: kind for kind, words in _KINDS.items() for word in words}
_OTHER_WORDS: Final = frozenset(
    (
        *("ctr", "primary", "ver", "schema", "migration", "info", "nodes", "tick", "turn", "fence", "users"),
        *("rules", "bans", "alarms", "gone", "answers", "tap", "trace", "rights"),
    )
)
_NAME: Final = re.compile(rb"([^{}]{0,200})\{([^{}]{1,400})\}:([a-z]+)(?::|$)")


class Named(NamedTuple):
    """A key. `prefix` is empty if it is of no broker."""

    prefix: str
    kind: str
    is_session: bool = False


def name_of(key: bytes) -> Named:
    """What this key is for."""
    match = _NAME.match(key)
    if match is None:
        return Named("", NOT_OURS)
    word = match[3].decode()
    kind = _KIND_OF.get(word) or (OTHER if word in _OTHER_WORDS else NOT_OURS)
    prefix = "" if kind == NOT_OURS else match[1].decode(errors="replace")
    return Named(prefix, kind, word == "s" and bool(prefix))


def common_keys(prefix: str) -> Iterator[str]:
    """Keys that may hold much, of which there is a fixed number: their names need no search."""
    yield from (keys.subscriptions(prefix, shard) for shard in range(keys.SUBSCRIPTION_SHARDS))
    yield keys.change_log(prefix)
    yield keys.users(prefix)
    yield keys.bans(prefix)
    for bucket in range(keys.BUCKETS):
        yield keys.retained(prefix, bucket)
        yield keys.retained_index(prefix, bucket)
        yield keys.letters(prefix, bucket)
        yield keys.due(prefix, bucket)
        yield keys.exclusive(prefix, bucket)
