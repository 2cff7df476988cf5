"""What a member has of shared subscriptions: messages that stay in their group until its client has them.

A message that was not yet acknowledged when the connection ends is the group's again, so none of this
outlives the connection. Only at QoS 2 a persistent session has them in its own queue; then the group just
waits to hear that a place in the window is free.
"""

from collections import deque
from typing import Final

from broker.session.delivery import Delivery

IN_QUEUE: Final = ""
"""In place of an id: the group does not have this message any more."""


class SharedDelivery:
    """A message of a group on its way to this member. `name` is the group's, `id` the message's in there."""

    __slots__ = ("delivery", "id", "name")

    def __init__(self, name: str, id: str, delivery: Delivery) -> None:
        self.name = name
        self.id = id
        self.delivery = delivery


class SharedWork:
    """Of one session. `places` names what is in flight: number of the delivery -> group and id. `waiting` has
    no place in the window yet. `settled` is to be told to the groups. `origins`: what those that are in the
    session's queue were in their group."""

    __slots__ = ("number", "origins", "places", "settled", "waiting")

    def __init__(self) -> None:
        self.number = 0
        self.places: dict[int, tuple[str, str]] = {}
        self.origins: dict[int, str] = {}
        self.waiting: deque[SharedDelivery] = deque()
        self.settled: list[tuple[str, str]] = []

    def settle(self, n: int) -> bool:
        """The exchange has ended. False if it was of no group."""
        place = self.places.pop(n, None)
        if place is None:
            return False
        self.origins.pop(n, None)
        self.settled.append(place)
        return True

    def held(self, name: str) -> set[str]:
        """Messages of a group that its member is not done with."""
        found = {id for group, id in self.places.values() if group == name and id != IN_QUEUE}
        return found | {each.id for each in self.waiting if each.name == name}

    def queued(self, name: str) -> set[str]:
        """Messages of a group that take a place and are in the session's queue."""
        return {id for n, id in self.origins.items() if self.places[n][0] == name}

    def take_settled(self) -> list[tuple[str, str]]:
        """Group and id of each message that a group may forget, or that frees a place (IN_QUEUE)."""
        settled = self.settled
        self.settled = []
        return settled
