"""Looking at retained messages by prefix: names in the order of the index, and what there is under them.

A *member* is a topic as the index has it, as bytes with U+0000 between the levels: in their order what is
below a topic follows it directly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.store.call import Reply
from cluster.store.keys import BUCKETS, bucket_of_topic
from cluster.store.reply import as_bytes, as_int, as_list


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a retained message. `qos` and `deadline_ms` None: it is large and was not looked into, or damaged;
    then `size_bytes` is what it takes, else what its payload has. `deadline_ms` 0: it never expires."""

    size_bytes: int
    qos: int | None
    deadline_ms: int | None


@dataclass(frozen=True, slots=True)
class LevelFacts:
    """Of what has a level in common: whether it is the topic of a message, and how many topics are below."""

    has_message: bool
    below: int


def member_of(topic: str) -> bytes:
    """As the index has it."""
    return topic.replace("/", "\0").encode()


def topic_of(member: bytes) -> str:
    """As people write it. Raises ValueError if somebody has damaged the index."""
    return member.decode().replace("\0", "/")


def buckets_below(prefix: str) -> Sequence[int]:
    """Where topics that begin so may be: in one if the first level is whole."""
    return [bucket_of_topic(prefix)] if "/" in prefix else range(BUCKETS)


def names(bucket: int, prefix: bytes, beyond: bytes | None, limit: int, *, by_level: bool) -> list[object]:
    """Asks for the next members that begin so; by level, each up to the end of the level in which the prefix
    ends, once. Answer: `parse_names`."""
    return ["retained_names", bucket, prefix, False if beyond is None else beyond, by_level, limit]


def parse_names(reply: Reply) -> list[bytes]:
    """The answer to `names`; fewer than the limit: there are no more in this bucket."""
    return [as_bytes(name) for name in as_list(reply)]


def facts(bucket: int, topics: Sequence[str]) -> list[object]:
    """Asks what is retained under topics of this bucket, of which a hundred take half a millisecond. Answer:
    `parse_facts`."""
    return ["retained_facts", bucket, list(topics)]


def parse_facts(reply: Reply) -> list[Facts | None]:
    """The answer to `facts`, in the order of the topics; None where there is no message (any more)."""
    return [_facts(as_list(each)) if each else None for each in as_list(reply)]


def level_facts(bucket: int, members: Sequence[bytes]) -> list[object]:
    """Asks what there is at and below levels of this bucket. Answer: `parse_level_facts`."""
    return ["retained_levels", bucket, list(members)]


def parse_level_facts(reply: Reply) -> list[LevelFacts]:
    """The answer to `level_facts`, in the order of the levels."""
    found = [as_list(each) for each in as_list(reply)]
    return [LevelFacts(as_int(fields[0]) == 1, as_int(fields[1])) for fields in found]


def _facts(fields: list[object]) -> Facts:
    size_bytes, qos, deadline_ms = fields[:3]
    if qos is False:
        return Facts(as_int(size_bytes), None, None)
    return Facts(as_int(size_bytes), as_int(qos), as_int(deadline_ms))
