"""A message on its way through the router, and who waits for it."""

from typing import Protocol

from broker.routing.subscription import Subscription
from broker.session import Message, Session


class Settled(Protocol):
    """Whom a Publication without a session (a will, say) tells that it has been routed."""

    def settled(self, publication: "Publication") -> None:
        """Everything this message stands for is stored."""


class Publication:
    """A message on its way through the router, and who waits for it.

    Either `session` gets the acknowledgement of `packet_id`, or `origin` is told: then it is a will, or what
    a node says of itself. `is_delivered` says that the direct subscribers have it already (a retained message
    at QoS 0). One with a `refusal`, a Reason Code, reaches nobody: it is here to be answered in its turn.
    `is_not_retained`: it was routed, but there was no room to retain it.
    """

    __slots__ = (
        "body_call",
        "body_index",
        "is_delivered",
        "is_matched",
        "is_not_retained",
        "message",
        "origin",
        "packet_id",
        "refusal",
        "session",
        "size_bytes",
        "targets",
        "transit_index",
        "transit_record",
    )

    def __init__(
        self,
        message: Message,
        session: Session | None,
        packet_id: int = 0,
        size_bytes: int = 0,
        origin: Settled | None = None,
        refusal: int = 0,
    ) -> None:
        self.message = message
        self.session = session
        self.packet_id = packet_id
        self.size_bytes = size_bytes
        self.origin = origin
        self.refusal = refusal
        self.is_not_retained = False
        self.targets: list[Subscription] = []
        self.is_delivered = False
        self.is_matched = False
        self.body_call = 0
        self.body_index = 0
        self.transit_record = 0
        self.transit_index = 0

    def is_lost(self) -> bool:
        """Whether another node has its publisher now, which will send it again there: it must not be sent
        from here any more."""
        return self.session is not None and self.session.is_lost

    def __repr__(self) -> str:
        return f"Publication({self.message!r}, packet_id={self.packet_id})"
