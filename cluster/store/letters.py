"""Dead letters: messages that were dropped, and why. The functions that drop write their own."""

from dataclasses import dataclass

from cluster.store.call import Reply
from cluster.store.keys import bucket_of
from cluster.store.reply import as_list, as_text

_GROUP = "$share/"


@dataclass(frozen=True, slots=True)
class Letter:
    """`id` is `<ms of Redis time>-<n>`, of this bucket. `client_id` is `$share/<group>/<filter>` if nobody
    in particular has lost it."""

    bucket: int
    id: str
    client_id: str
    topic: str
    reason: str

    @property
    def at_ms(self) -> int:
        """When it was dropped."""
        return int(self.id.partition("-")[0])


def letter(client_id: str, topic: str, reason: str) -> list[object]:
    """Notes that a message for this client was dropped. Answer: 1."""
    return ["letter", bucket_of(client_id), client_id, topic, reason]


def letters(bucket: int, bound: str, limit: int) -> list[object]:
    """Asks for the newest up to `bound`, as XREVRANGE takes it; fewer than `limit` are all."""
    return ["letters", bucket, bound, limit]


def parse_letters(bucket: int, reply: Reply) -> list[Letter]:
    """The answer to `letters`."""
    items = iter(map(as_text, as_list(reply)))
    return [Letter(bucket, *found) for found in zip(items, items, items, items, strict=True)]


def bucket_of_letters(client_id: str) -> int:
    """Where those of a client are, or of a shared subscription."""
    return bucket_of(client_id.removeprefix(_GROUP))
