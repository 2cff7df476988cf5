"""What Redis knows of a client, a message or a topic, for a person who asks: `cluster.store.explained`, in
calls that are small enough for any Redis.

Beside the lane, also when Redis is full. All of it raises StoreError."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cluster.store import explained, membership
from cluster.store.call import Reply, Request
from cluster.store.errors import ItemError
from cluster.store.explained import Brief, Explained, Letter, PlaceOfEntry
from cluster.store.keys import BUCKETS
from cluster.store.membership import Member
from cluster.store.store import Store

LETTERS_LOOKED_AT: Final = 600
"""Of the dead letters of a bucket the newest are looked at, until"""
LETTERS_FOUND: Final = 100
_REQUESTS_AT_A_TIME: Final = 16


@dataclass(frozen=True, slots=True)
class FoundLetters:
    """The newest first. `is_all`: no older ones were left out."""

    letters: list[Letter]
    looked_at: int
    is_all: bool


@dataclass(frozen=True, slots=True)
class Holders:
    """Who has the message of a token: client ids, shared subscriptions (`group/filter`), the retained store.
    `uncounted` are not named, as too many of a bucket have it."""

    client_ids: list[str]
    groups: list[str]
    is_retained: bool
    uncounted: int


class Explainer:
    """Reads; nothing is changed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def client(self, client_id: str) -> tuple[Explained, list[Member]]:
        """All of a client, and the nodes as they are in the same moment."""
        found, members = await self._ask(explained.explain(client_id), membership.members())
        return explained.parse_explain(found), membership.parse_members(members)

    async def letters(self, client_id: str) -> FoundLetters:
        """Messages that did not reach it."""
        letters: list[Letter] = []
        looked_at = 0
        before: str | None = None
        while looked_at < LETTERS_LOOKED_AT and len(letters) < LETTERS_FOUND:
            (reply,) = await self._ask(explained.explain_letters(client_id, before))
            page = explained.parse_letters(reply)
            letters += page.letters
            looked_at += page.looked_at
            before = page.before
            if before is None:
                break
        return FoundLetters(letters[:LETTERS_FOUND], looked_at, before is None)

    async def entry(self, client_id: str, n: int) -> PlaceOfEntry | None:
        """Where the entry with a number is; None if there is no session."""
        (reply,) = await self._ask(explained.explain_entry(client_id, n))
        return explained.parse_place(reply)

    async def holders(self, token: bytes) -> Holders:
        """Who has a message."""
        client_ids: list[str] = []
        groups: list[str] = []
        is_retained = False
        uncounted = 0
        for reply in await self._ask_in_parts([explained.explain_token(b, token) for b in range(BUCKETS)]):
            count, names = explained.parse_holders(reply)
            uncounted += count - len(names)
            client_ids += [name[2:] for name in names if name.startswith("s:")]
            groups += [name[2:] for name in names if name.startswith("g:")]
            is_retained = is_retained or "r" in names
        return Holders(client_ids, groups, is_retained, uncounted)

    async def briefs(self, client_ids: Sequence[str]) -> dict[str, Brief | None]:
        """Sessions in three facts each."""
        replies = await self._ask_in_parts([explained.explain_queue(client_id) for client_id in client_ids])
        return {
            client_id: explained.parse_brief(reply)
            for client_id, reply in zip(client_ids, replies, strict=True)
        }

    async def retained(self, topic: str) -> tuple[int, int] | None:
        """Bytes of the retained message of a topic, and its deadline in ms or 0; None if there is none."""
        (reply,) = await self._ask(explained.explain_retained(topic))
        return explained.parse_retained(reply)

    async def _ask_in_parts(self, requests: Sequence[Request]) -> list[Reply]:
        replies: list[Reply] = []
        for first in range(0, len(requests), _REQUESTS_AT_A_TIME):
            replies += await self._ask(*requests[first : first + _REQUESTS_AT_A_TIME])
        return replies

    async def _ask(self, *requests: Request) -> list[Reply]:
        replies = await self._store.call(requests, function="free")
        for reply in replies:
            if isinstance(reply, ItemError):
                raise reply
        return replies
