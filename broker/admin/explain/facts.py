"""All that is known of a client, from Redis and from nodes, and what is found in it. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broker.admin.exchange import time_text
from broker.client import ConnectionFacts, FlowFacts, NodeFacts
from cluster.store.events import StoredEvent
from cluster.store.explained import Letter, StoredSession
from cluster.store.membership import DEAD_TICKS


@dataclass(frozen=True, slots=True)
class Owner:
    """The node that has the session, or had it when it died. `unseen_seconds`: since its last life sign.
    `silence`: why it did not answer, empty if it did."""

    name: str
    incarnation: str
    is_member: bool
    unseen_seconds: int
    silence: str = ""

    @property
    def is_dead(self) -> bool:
        """To the others."""
        return not self.is_member or self.unseen_seconds >= DEAD_TICKS


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known. `redis_trouble`: why Redis was not asked, empty if it was; then there is no session
    and there are no events. `node`: what the owner, or else some node, says. `letters`: the newest first."""

    client_id: str
    now_ms: int
    redis_trouble: str = ""
    session: StoredSession | None = None
    owner: Owner | None = None
    node: NodeFacts | None = None
    events: Sequence[StoredEvent] = ()
    letters: Sequence[Letter] = ()

    @property
    def connection(self) -> ConnectionFacts | None:
        """If it is open."""
        return self.node.connection if self.node is not None else None

    @property
    def flow(self) -> FlowFacts | None:
        """If the connection is accepted."""
        return self.connection.flow if self.connection is not None else None

    @property
    def sent_up_to(self) -> int | None:
        """The number of the last entry of its queue that was sent, or may have been; None if it has none."""
        session = self.session
        if session is None or session.is_direct:
            return None
        highest = min(session.hi, session.n)
        return min(highest, self.flow.last_sent) if self.flow is not None else highest


@dataclass(frozen=True, slots=True)
class Finding:
    """`is_blocking`: it keeps messages from the client, or the client from coming in."""

    code: str
    text: str
    is_blocking: bool = True


Rule = Callable[[Facts], Finding | None]
"""Finds one thing, or nothing."""


def last_event(facts: Facts, *kinds: str) -> StoredEvent | None:
    """The newest of these kinds."""
    return next((event for event in facts.events if event.kind in kinds), None)


def describe_event(event: StoredEvent) -> str:
    """In some words."""
    kind = event.kind.replace("_", " ")
    detail = event.fields.get("reason") or event.fields.get("address") or event.fields.get("filters")
    if isinstance(detail, list):
        detail = ", ".join(map(str, detail))
    return f"{kind}: {detail}" if detail else kind


def moment(facts: Facts, seconds_ago: float) -> str:
    """So long ago, as text."""
    return time_text(facts.now_ms - int(seconds_ago * 1000))
