"""A message on its way through the router, and who waits for it."""

from typing import Protocol

from broker.routing.subscription import Subscription, without_no_local
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

    def publisher_id(self) -> str:
        """The Client Identifier of whoever has sent it."""
        return self.session.client_id if self.session is not None else self.message.publisher

    def match_again(self, targets: list[Subscription], batch: int) -> list[Subscription]:
        """Takes other targets; those that came since it was matched are to be served, too. What was put into
        a queue was by the options of that moment: the store has seen to it. But what went past the queue, at
        QoS 0, perhaps to nobody, or did not go to its own publisher, was by options that may have been
        replaced before. `batch`: which of them have been handed it in that."""
        known, self.targets = self.targets, targets
        had = {target.subscriber.key: target for target in known}
        if self.is_delivered:  # at QoS 0 a node has it, whatever it wanted it for
            had_nodes = {target.subscriber.node for target in known}
            for target in targets:
                if target.subscriber.node and target.subscriber.node in had_nodes:
                    had[target.subscriber.key] = target
        added = []
        for target in targets:
            before = had.get(target.subscriber.key)
            if before is None or (
                before is not target
                and self.queued_part(before) is None
                and self.queued_part(target) is not None
                and target.subscriber.handed != batch
            ):
                added.append(target)
        return added

    def queued_part(self, target: Subscription) -> Subscription | None:
        """What of a match puts this message into a session's queue."""
        subscriber = target.subscriber
        if self.message.qos == 0 or subscriber.is_direct or subscriber.share is not None:
            return None
        part: Subscription | None = target
        if target.no_local and subscriber.client_id == self.publisher_id():
            part = without_no_local(target)
        return part if part is not None and part.qos > 0 else None

    def is_lost(self) -> bool:
        """Whether another node has its publisher now, which will send it again there: it must not be sent
        from here any more."""
        return self.session is not None and self.session.is_lost

    def afresh(self) -> "Publication":
        """To be routed once more."""
        again = Publication(
            self.message, self.session, self.packet_id, self.size_bytes, self.origin, self.refusal
        )
        if self.is_delivered:
            again.is_delivered = True
            again.targets = self.targets
        return again

    def __repr__(self) -> str:
        return f"Publication({self.message!r}, packet_id={self.packet_id})"
