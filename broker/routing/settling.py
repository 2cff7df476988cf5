"""Acknowledges messages that are stored wherever they had to be: at once, or when that is confirmed as their
level of durability asks."""

from collections.abc import Sequence
from typing import Final

from broker.routing.filter_tree import FilterTree
from broker.routing.packing import Group, Part, buckets_of
from broker.routing.publication import Publication
from broker.session import STORED, Confirmation, Confirmations, Promise, Promises, Session, stronger
from cluster.store.identity import Identity, Primary

_NO_MATCHING_SUBSCRIBERS: Final = 0x10
_QUOTA_EXCEEDED: Final = 0x97
_TOPICS_REMEMBERED: Final = 65_536


def acknowledge(publication: Publication, spent: list[tuple[int, bytes]]) -> None:
    """Tells whoever waits for it. `spent` gets the tokens that nobody will ask for any more, and the buckets
    that remember them."""
    session = publication.session
    if session is not None:
        message = publication.message
        reason_code = publication.refusal
        # At QoS 2 nobody is told: an error would end the exchange, and if it got lost the message
        # would be sent, and delivered, again.
        if publication.is_not_retained and message.qos == 1:
            reason_code = _QUOTA_EXCEEDED
        elif not reason_code and not publication.is_matched:
            reason_code = _NO_MATCHING_SUBSCRIBERS
        if message.token:
            _forget_later(publication, session, spent)
        session.published(publication.packet_id, message.qos, reason_code, publication.size_bytes)
    elif publication.origin is not None:
        publication.origin.settled(publication)
        token = publication.message.token
        if token:
            spent += [(bucket, token) for bucket in buckets_of(publication)]


def _forget_later(publication: Publication, session: Session, spent: list[tuple[int, bytes]]) -> None:
    """The store need not remember for long who got this message: a client with a persistent session may
    send it again until the exchange has ended, any other client never."""
    token = publication.message.token
    buckets = buckets_of(publication)
    if not buckets:
        return
    if session.queued is not None:
        session.inbound.remember(publication.packet_id, token, buckets)
    else:
        spent += [(bucket, token) for bucket in buckets]


class TopicLevels:
    """Which level of durability messages have by their topic: the strongest of all filters that match it."""

    __slots__ = ("_levels", "_topics", "_tree", "strongest")

    def __init__(self, levels: dict[str, int]) -> None:
        self._tree = FilterTree()
        self._levels = levels
        self._topics: dict[str, int] = {}
        self.strongest = STORED
        for filter, level in levels.items():
            self._tree.add(filter)
            self.strongest = stronger(self.strongest, level)

    def of(self, topic: str) -> int:
        """The level of a Topic Name."""
        if not self._levels:
            return STORED
        level = self._topics.get(topic)
        if level is None:
            if len(self._topics) >= _TOPICS_REMEMBERED:
                self._topics.clear()
            level = STORED
            for filter in self._tree.matching(topic):
                level = stronger(level, self._levels[filter])
            self._topics[topic] = level
        return level


class PublicationPromise(Promise):
    """PUBACK or PUBREC. On another primary the message is routed again."""

    __slots__ = ("_level", "_publication", "_settling")

    def __init__(
        self, confirmation: Confirmation | None, publication: Publication, level: int, settling: "Settling"
    ) -> None:
        super().__init__(confirmation)
        self._publication = publication
        self._level = level
        self._settling = settling

    def keep(self) -> None:
        self._settling.acknowledge(self._publication, self._level)

    def again(self) -> bool:
        self._settling.unconfirmed.append(self._publication)
        return True


class Settling:
    """Of a node where not all is `STORED`. `unconfirmed` are messages to be routed again, in order."""

    __slots__ = ("_confirmations", "_seen", "_spent", "unconfirmed")

    def __init__(self, confirmations: Confirmations, spent: list[tuple[int, bytes]]) -> None:
        self._confirmations = confirmations
        self._seen: Primary | None = None  # of the connection that has answered last
        self._spent = spent
        self.unconfirmed: list[Publication] = []

    @property
    def is_waiting(self) -> bool:
        """Whether anything is owed that has to be confirmed."""
        return self._confirmations.is_waiting()

    def knows(self, primary: Primary) -> bool:
        """Whether this server, or each of these, has all that has been answered; the first one has."""
        if primary is self._seen:
            return True
        known = self._confirmations.primary
        if known is None:
            self._confirmations.primary = primary
        elif not (isinstance(known, Identity) and isinstance(primary, Identity) and known.is_same(primary)):
            return False
        self._seen = primary
        return True

    def turn_over(self, primary: Primary) -> list[Publication]:
        """It is another primary: the messages to be routed again, in order."""
        self._seen = primary
        self._confirmations.turn_over(primary)
        unconfirmed, self.unconfirmed = self.unconfirmed, []
        return unconfirmed

    def hold(self, parts: Sequence[Part]) -> None:
        """They are stored, and about to be handed over: what its subscriber may not get before that is
        confirmed will be read from its queue."""
        for part in parts:
            if not isinstance(part, Group):
                continue
            session = part.subscriber.session
            queued = session.queued if session is not None else None
            if queued is None:
                continue
            for delivery in part.deliveries:
                if delivery.qos == 2:
                    queued.hold(delivery.message.topic)

    def settle(self, publications: Sequence[Publication]) -> None:
        """They are stored: acknowledges them, now or when that is confirmed."""
        for publication in publications:
            session = publication.session
            promises = session.promises if session is not None else None
            if promises is None or publication.message.qos == 0:
                acknowledge(publication, self._spent)
            else:
                self._promise(publication, promises)

    def acknowledge(self, publication: Publication, level: int) -> None:
        """It is confirmed."""
        session = publication.session
        if publication.message.qos == 2 and session is not None and session.promises is not None:
            session.promises.begin_in(publication.packet_id, level)
        acknowledge(publication, self._spent)

    def _promise(self, publication: Publication, promises: Promises) -> None:
        # Of one that is refused nothing is stored.
        level = STORED if publication.refusal else promises.level_of(publication.message.topic)
        if promises.must_wait(level):
            self._remember(publication)
            promises.owe(PublicationPromise(promises.confirmation(level), publication, level, self))
        else:
            self.acknowledge(publication, level)

    def _remember(self, publication: Publication) -> None:
        """Its session is asked for the token if another primary comes meanwhile."""
        session, token = publication.session, publication.message.token
        if token and session is not None and session.queued is not None:
            session.inbound.remember(publication.packet_id, token, buckets_of(publication))
