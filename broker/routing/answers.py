"""What the store answers to the parts of a batch: who has which message, and what is still to be done."""

from collections.abc import Sequence
from typing import Final

from broker.mqtt import SHARE_PREFIX
from broker.routing.index import SubscriptionIndex
from broker.routing.packing import NO_ROOM, Group, Part, RouterStatistics, ShareGroup
from broker.routing.publication import Publication
from broker.routing.rows import learn
from broker.routing.subscription import Subscription
from broker.routing.transit import NodeMessages, Transit
from cluster.store import retained, shares
from cluster.store.errors import ItemError
from cluster.store.reply import as_int, as_ints, as_list
from cluster.store.shares import Given

_APPENDED: Final = 0
_REFUSED: Final = 1
_HAD: Final = 2
_DROPPED_NEW: Final = 3


class Answers:
    """Hands what is stored to the sessions that are connected here, or to the nodes that own them.

    What others have to do collects: `again` are messages that were refused, with the subscriber's key, to be
    routed once more; `stale_rows` are to be deleted; `damaged` to be told (whose keys, why); `given` are
    messages that shared subscriptions, by name, have for members. `full_inbox` is a node whose inbox had no
    room for this batch."""

    __slots__ = (
        "_incarnation",
        "_index",
        "_transit",
        "again",
        "damaged",
        "full_inbox",
        "given",
        "stale_rows",
        "statistics",
    )

    def __init__(
        self, index: SubscriptionIndex, transit: Transit, incarnation: str, statistics: RouterStatistics
    ) -> None:
        self._index = index
        self._transit = transit
        self._incarnation = incarnation.encode()
        self.statistics = statistics
        self.again: list[tuple[Publication, str]] = []
        self.stale_rows: list[Subscription] = []
        self.damaged: list[tuple[str, str]] = []
        self.given: list[tuple[str, Given]] = []
        self.full_inbox = ""

    def take(self, part: Part, reply: object) -> bool:
        """What a part was answered. False if there was no room, and nothing was done."""
        if isinstance(part, Group):
            self._take_group_safely(part, reply)
        elif isinstance(part, ShareGroup):
            self._take_share(part, reply)
        elif isinstance(reply, ItemError):
            name = part.message.topic if isinstance(part, Publication) else part.node
            self.damaged.append((name, str(reply)))
        elif isinstance(part, Publication):
            if reply == retained.NOT_RETAINED:
                part.is_not_retained = True
                self.statistics.not_retained += 1
        elif reply == NO_ROOM and isinstance(part, NodeMessages):
            self.full_inbox = part.node
            return False
        return True

    def _take_group_safely(self, group: Group, reply: object) -> None:
        """A session whose keys in Redis are damaged goes without; the others of the batch don't."""
        if isinstance(reply, ItemError):
            self._note_damage(group, str(reply))
            return
        try:
            if not isinstance(reply, list):
                raise TypeError(f"enqueue answered {reply!r}")
            if reply[3] is True:
                self._take_outdated(group, as_int(reply[5]), as_list(reply[6]))
            else:
                self._take_group(group, reply)
        except (TypeError, ValueError, IndexError) as error:  # what an answer of another shape leads to
            self._note_damage(group, f"{type(error).__name__}: {error}")

    def _note_damage(self, group: Group, reason: str) -> None:
        self.damaged.append((group.subscriber.client_id, reason))
        for publication in group.publications:
            publication.is_matched = True

    def _take_outdated(self, group: Group, stamp: int, told: list[object]) -> None:
        """The session's subscriptions were changed behind our back, perhaps long before the message came.
        What the store tells of them counts for this message, whatever they become meanwhile."""
        self.statistics.refused += len(group.publications)
        subscriber = group.subscriber
        self.stale_rows += learn(self._index, subscriber.client_id, stamp, told)
        self.again += [(publication, subscriber.key) for publication in group.publications]

    def _take_group(self, group: Group, reply: list[object]) -> None:
        subscriber = group.subscriber
        gen = as_int(reply[0])
        n = as_int(reply[1])
        owner = reply[2]  # False while nobody has the session
        statuses: Sequence[int] = () if reply[3] is False else as_ints(reply[3])
        are_appended = reply[3] is False  # all of them
        dropped = as_int(reply[4])
        if dropped:
            self.statistics.drop_oldest(subscriber.client_id, dropped, reply[5] if len(reply) > 5 else [])
        session = subscriber.session
        queued = session.queued if session is not None and owner == self._incarnation else None
        is_elsewhere = isinstance(owner, bytes) and owner != self._incarnation
        if queued is not None and _HAD in statuses:
            # Appended by a call whose answer got lost, perhaps: nobody has handed it over.
            queued.look(n)
        numbers: list[int] = []
        places: list[int] = []
        for i in range(len(group.deliveries)):
            status = _APPENDED if are_appended else statuses[i]
            if status == _REFUSED:
                self._take_refusal(group, i)
                continue
            group.publications[i].is_matched = True
            if status == _APPENDED:
                n += 1
                self.statistics.appended += 1
                if queued is not None:
                    delivery = group.deliveries[i]
                    delivery.gen = gen
                    delivery.n = n
                    queued.take(delivery)
                elif is_elsewhere:
                    numbers.append(n)
                    places.append(i)
            elif status == _DROPPED_NEW:
                delivery = group.deliveries[i]
                self.statistics.drop_new(subscriber.client_id, delivery.message, delivery.qos)
        if numbers and isinstance(owner, bytes):
            self._transit.hand_over(
                owner.decode(),
                subscriber.client_id,
                gen,
                numbers,
                [group.publications[i] for i in places],
                [group.deliveries[i] for i in places],
            )

    def _take_refusal(self, group: Group, i: int) -> None:
        """The session has no such subscription: our row is stale. Perhaps its other filters match."""
        self.statistics.refused += 1
        stale = group.targets[i]  # with the stamp that it was matched by
        if self._index.remove(group.subscriber, stale.filter, stale.stamp):
            self.stale_rows.append(stale)
        self.again.append((group.publications[i], group.subscriber.key))

    def _take_share(self, group: ShareGroup, reply: object) -> None:
        try:
            if isinstance(reply, ItemError):
                raise reply
            statuses, dropped, given, told = shares.parse_share(reply)
            if dropped:
                self.statistics.drop_oldest(SHARE_PREFIX + group.share.name, dropped, told)
        except (ItemError, TypeError, ValueError, LookupError) as error:
            self.damaged.append((group.share.name, f"{type(error).__name__}: {error}"))
            return
        for publication, status in zip(group.publications, statuses, strict=False):  # empty if there are none
            if status == _DROPPED_NEW:
                message = publication.message
                self.statistics.drop_new(SHARE_PREFIX + group.share.name, message, message.qos)
        self.statistics.appended += statuses.count(_APPENDED) if statuses else len(group.publications)
        self.given += [(group.share.name, each) for each in given]
