"""What a batch has for the store, until it is sent: one part is one request."""

from broker.routing.packing import BY_FILTER, ENTRIES_PER_CALL, Group, Part, ShareGroup
from broker.routing.publication import Publication
from broker.routing.subscription import Share, Subscriber, Subscription
from broker.routing.transit import NodeMessages
from broker.session import Delivery


class Collecting:
    """Parts of the batch under way, each kind in the order in which it came. `readers`: nodes that read
    bursts."""

    __slots__ = ("_groups", "_readers", "_retains", "_sends", "_sends_of", "_shares", "_shares_of", "batch")

    def __init__(self, readers: set[str]) -> None:
        self._readers = readers
        self.batch = 0
        self._groups: list[Group] = []
        self._retains: list[Publication] = []
        self._sends: list[NodeMessages] = []
        self._sends_of: dict[str, NodeMessages] = {}  # of these, the one that a node's next message joins
        self._shares: list[ShareGroup] = []
        self._shares_of: dict[str, ShareGroup] = {}  # of these, the one that a group's next message joins

    def begin(self) -> None:
        """Another batch."""
        self.batch += 1

    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (self._groups or self._shares or self._retains or self._sends)

    def take(self) -> list[Part]:
        """All of it, in the order in which it is to be sent."""
        parts: list[Part] = [*self._groups, *self._shares, *self._retains, *self._sends]
        self._groups = []
        self._shares = []
        self._shares_of = {}
        self._retains = []
        self._sends = []
        self._sends_of = {}
        return parts

    def hold(self, part: Part) -> None:
        """It could not be stored: once more, before anything newer."""
        if isinstance(part, Group):
            self._groups.append(part)
        elif isinstance(part, ShareGroup):
            self._shares.append(part)
        elif isinstance(part, Publication):
            self._retains.append(part)
        else:
            self._sends.append(part)

    def retain(self, publication: Publication) -> None:
        """A message that changes a retained one."""
        self._retains.append(publication)

    def enqueue(
        self, publication: Publication, target: Subscription, delivery: Delivery, is_by_filter: bool
    ) -> None:
        """A message for the queue of a persistent session. `is_by_filter`: what it was matched by need not be
        the newest, but must still be there."""
        subscriber = target.subscriber
        groups = self._groups
        if subscriber.batch != self.batch or subscriber.group >= len(groups):
            group = self._new_group(subscriber, is_by_filter)
        else:
            group = groups[subscriber.group]
            if (
                group.subscriber is not subscriber
                or len(group.deliveries) >= ENTRIES_PER_CALL
                or (group.known == BY_FILTER) != is_by_filter
            ):
                group = self._new_group(subscriber, is_by_filter)
        group.publications.append(publication)
        group.deliveries.append(delivery)
        group.targets.append(target)

    def share(self, publication: Publication, share: Share) -> None:
        """A message for a shared subscription."""
        group = self._shares_of.get(share.name)
        if group is None or len(group.publications) >= ENTRIES_PER_CALL:
            group = self._shares_of[share.name] = ShareGroup(share)
            self._shares.append(group)
        group.publications.append(publication)

    def send(self, publication: Publication, node: str) -> None:
        """A message for the inbox of another node."""
        messages = self._sends_of.get(node)
        if messages is None or messages.is_full():
            messages = self._sends_of[node] = NodeMessages(node, node in self._readers)
            self._sends.append(messages)
        messages.add(publication)

    def _new_group(self, subscriber: Subscriber, is_by_filter: bool) -> Group:
        group = Group(subscriber, BY_FILTER if is_by_filter else subscriber.stamp)
        subscriber.batch = self.batch
        subscriber.group = len(self._groups)
        self._groups.append(group)
        return group
