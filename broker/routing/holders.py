"""Who has a filter, as far as one wants to read: for a person who asks."""

from broker.routing.subscription import Subscription


class Holders:
    """`persistent` are some of `persistent_count` sessions, `held` some of `held_count` others: direct
    sessions of this node, other nodes, shared subscriptions."""

    __slots__ = ("filter", "held", "held_count", "persistent", "persistent_count")

    def __init__(
        self,
        filter: str,
        persistent_count: int,
        persistent: list[Subscription],
        held_count: int,
        held: list[Subscription],
    ) -> None:
        self.filter = filter
        self.persistent_count = persistent_count
        self.persistent = persistent
        self.held_count = held_count
        self.held = held

    def __repr__(self) -> str:
        return f"Holders({self.filter!r}, {self.persistent_count} persistent, {self.held_count} others)"
