"""A message on its way to one subscriber."""

from typing import Final

from broker.session.message import Message

NO_IDENTIFIERS: Final[tuple[int, ...]] = ()


class Delivery:
    """A message on its way to one subscriber, with what that subscriber's own subscriptions make of it.

    `gen` and `n` place it in the subscriber's queue (0 while it has no place there).
    """

    __slots__ = ("gen", "message", "n", "qos", "retain", "subscription_identifiers")

    def __init__(
        self,
        message: Message,
        qos: int,
        retain: bool,
        subscription_identifiers: tuple[int, ...] = NO_IDENTIFIERS,
        gen: int = 0,
        n: int = 0,
    ) -> None:
        self.message = message
        self.qos = qos
        self.retain = retain
        self.subscription_identifiers = subscription_identifiers
        self.gen = gen
        self.n = n

    def __repr__(self) -> str:
        return f"Delivery({self.gen}-{self.n}, {self.message!r}, qos={self.qos}, retain={self.retain})"
