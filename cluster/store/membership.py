"""Which nodes there are, by incarnation: each start of a node is another one, and none ever comes back."""

from dataclasses import dataclass

from cluster.store.call import Reply
from cluster.store.keys import META_SLOT
from cluster.store.reply import as_int, as_list


@dataclass(frozen=True, slots=True)
class Beat:
    """The time of Redis, and how often the cluster's heart has beaten."""

    time_ms: int
    tick: int


def join(incarnation: str) -> list[object]:
    """Becomes a member; once, before the first beat. Answer: 1."""
    return ["join", META_SLOT, incarnation]


def beat(incarnation: str) -> list[object]:
    """A life sign. The whole call is refused (NodeGone) if this incarnation is no member."""
    return ["beat", META_SLOT, incarnation]


def parse_beat(reply: Reply) -> Beat:
    """The answer to `beat`."""
    time_ms, tick = as_list(reply)
    return Beat(as_int(time_ms), as_int(tick))


def leave(incarnation: str) -> list[object]:
    """Stops being a member, with all its interest. Answer: the version of the change log then."""
    return ["leave", META_SLOT, incarnation]
