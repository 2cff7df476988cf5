"""The way of a batch of Application Messages: match, deliver here, store, check, acknowledge.

Theory of operation. At QoS 0 a message is matched and delivered at once (`Nearby`). Everything else, and each
message that changes a retained one, becomes a Publication, and all Publications of one moment are one batch:

1. `next_calls` matches the batch, delivers to the direct sessions of this node and answers with the calls
that put the rest into the queues of the persistent sessions, and into the inboxes of nodes with direct ones.
2. `take_replies` sees which entries are stored, and hands them to the sessions that are connected here, or to
the node that owns them (`transit`). Entries for a session that has changed its subscriptions are refused;
then the store tells these, and the router routes once more by what they match. 3. If the subscriptions have
changed meanwhile (`is_outdated`), the caller brings the index up to date and calls `match_again`: whoever was
added is served as well. A subscription so counts from its SUBACK, on any node. 4. Only when nothing is left
to do is each message acknowledged, in the order of arrival.

One batch is worked on at a time, and the next one collects while it is: so a client's messages are matched
only when all its earlier ones are settled, which keeps their order. A batch whose outcome is unknown is sent
again by the caller.
"""

from collections.abc import Sequence
from typing import Final

from broker.routing.answers import Answers
from broker.routing.collecting import Collecting
from broker.routing.index import SubscriptionIndex
from broker.routing.nearby import Nearby
from broker.routing.packing import Overflow, Packing, Part, RetainedRoom, RouterStatistics
from broker.routing.publication import Publication
from broker.routing.settling import Settling, acknowledge
from broker.routing.subscription import (
    AT_MOST_ONCE_INTEREST,
    DIRECT_INTEREST,
    PERSISTENT_INTEREST,
    Share,
    Subscriber,
    Subscription,
)
from broker.routing.transit import Transit
from broker.session import Clock, Delivery, Message, Session
from cluster.store import receive
from cluster.store.errors import RedisFull
from cluster.store.lane import Call, PartlyRefused
from cluster.store.shares import Policy

_PUBLICATIONS_PER_BATCH: Final = 5000  # what can be matched without holding up the event loop for long
_BYTES_PER_BATCH: Final = 8 << 20
"""Of payloads, and one message more: the node has them up to three times more while they are on their way,
and Redis takes no argument above 512 MiB."""


class Router:
    """Routes messages of this node. `queue_limit` messages, or `queue_bytes` (0: any number), may wait in a
    session's queue; then the oldest or the new one is dropped. `queue_limits`: of sessions that have another
    one, and none in bytes. `on_overflow` hears of messages that a queue had to give up. `incarnation` is this
    node as the store knows it."""

    __slots__ = (
        "_collecting",
        "_current",
        "_generation",
        "_has_lost",
        "_is_rewound",
        "_packing",
        "_sent",
        "_unkept",
        "answers",
        "clock",
        "incoming",
        "index",
        "lost",
        "nearby",
        "retained_room",
        "settling",
        "spent",
        "statistics",
        "transit",
    )

    def __init__(
        self,
        index: SubscriptionIndex,
        clock: Clock,
        incarnation: str,
        queue_limit: int,
        drop_oldest: bool,
        policy: Policy,
        retained_maximum: int = 0,
        queue_limits: dict[str, int] | None = None,
        on_overflow: Overflow | None = None,
        queue_bytes: int = 0,
    ) -> None:
        self.index = index
        self.clock = clock
        self.incoming: list[Publication] = []
        self.spent: list[tuple[int, bytes]] = []
        self.statistics = RouterStatistics(on_overflow)
        self.transit = Transit(index.readers)
        self.nearby = Nearby(index, self.transit)
        self.lost: list[Session] = []  # of which a fence has found that others have claimed them
        self.answers = Answers(index, self.transit, incarnation, self.statistics)
        self.retained_room = RetainedRoom(retained_maximum)
        self._packing = Packing(
            queue_limit,
            drop_oldest,
            policy,
            self.retained_room,
            queue_limits,
            self.statistics.tells,
            queue_bytes,
        )
        self._collecting = Collecting(index.readers)
        self._generation = 0
        self._has_lost = False  # since the last batch began
        self._current: list[Publication] = []
        self._unkept: list[tuple[Publication, Share]] = []  # of this batch, for groups that nobody keeps yet
        self._sent: list[Part] = []
        self._is_rewound = False  # since the calls were made
        self.settling: Settling | None = None  # if not all is acknowledged as soon as it is stored

    def limit_queues(self, queue_limit: int, queue_bytes: int, drop_oldest: bool) -> None:
        """From the next batch on."""
        self._packing.limit_queues(queue_limit, queue_bytes, drop_oldest)

    # What comes in

    def publish(self, publication: Publication) -> None:
        """Takes a message for the next batch. It will be acknowledged when it is stored everywhere."""
        message = publication.message
        session = publication.session
        if message.qos == 0 and session is not None:  # retained: live subscribers don't wait for the store
            self._deliver_at_once(publication, session)
        self.incoming.append(publication)

    def announce(self, publication: Publication) -> None:
        """A retained message of this node's own at QoS 0: who is connected gets it now, who subscribes later
        from the store."""
        self._deliver_at_once(publication, None)
        self.incoming.append(publication)

    def _deliver_at_once(self, publication: Publication, publisher: Session | None) -> None:
        publication.targets = self.index.match(publication.message.topic)
        publication.is_delivered = True
        self.nearby.publish_at_most_once(publication.message, publisher)

    def tokens_under_way(self) -> dict[str, dict[int, bytes]]:
        """Of messages at QoS 2 of persistent sessions that are not acknowledged yet: by client, by Packet
        Identifier."""
        found: dict[str, dict[int, bytes]] = {}
        for publications in (self._current, self.incoming):
            for publication in publications:
                session = publication.session
                if session is not None and session.queued is not None and publication.message.token:
                    tokens = found.setdefault(session.client_id, {})
                    tokens[publication.packet_id] = publication.message.token
        return found

    def lose(self, session: Session) -> None:
        """Another connection has this client now, and gets again what is not acknowledged. What waits here
        would come to direct subscribers behind newer messages."""
        session.is_lost = True
        self._has_lost = True

    def strike_lost(self) -> None:
        """What lost clients have published and is not under way yet is left out: their new node gets it
        again."""
        self.incoming = [publication for publication in self.incoming if not publication.is_lost()]

    def has_work(self) -> bool:
        """Whether a batch is under way or waits to begin."""
        return bool(self.incoming or self._current)

    def trim(self) -> None:
        """Lets go of what the index remembers and has not to, if that is much. Not while a batch is under
        way: it collects by subscriber."""
        if not self._current:
            self.index.trim()

    # The way of a batch

    def next_calls(self) -> list[Call]:
        """Begins a batch if none is under way; the calls that are to be made for it now."""
        if not self._current:
            if not self.incoming:
                return []
            self._begin()
        self.answers.full_inbox = ""
        self._is_rewound = False
        self._sent = self._collecting.take()
        return self._packing.calls(self._sent)

    def pack_again(self) -> list[Call]:
        """The calls of `next_calls` once more, request by request, as their outcome is unknown; but what lost
        clients have published does nothing, nor does any of it that will be routed again."""
        calls = self._packing.calls(self._sent)
        if not self._is_rewound:
            return calls
        nothing = receive.settle_tokens(0, [])
        return [Call(call.function, [nothing] * len(call.requests)) for call in calls]

    def take_replies(self, calls: Sequence[Call], replies: Sequence[Sequence[object] | Exception]) -> bool:
        """The answers to `next_calls`, call by call. False if Redis is full: try again, after a pause."""
        if self._is_rewound:
            return True
        if self.settling is not None:
            self.settling.hold(self._sent)
        fenced = self._packing.fenced
        position = 0
        has_room = True
        for number in range(len(calls)):
            answer = replies[number]
            is_held = isinstance(answer, Exception) or self._note_lost(fenced[number], answer[0])
            if isinstance(answer, RedisFull):
                has_room = False
            elif isinstance(answer, Exception):
                raise answer
            elif isinstance(answer, PartlyRefused):
                has_room = False
                if not is_held:
                    position = self._take_partly(position, answer)
                    continue
            for i in range(1, len(calls[number].requests)):
                part = self._sent[position]
                position += 1
                if is_held or isinstance(answer, Exception):
                    self._collecting.hold(part)
                elif not self.answers.take(part, answer[i]):
                    self._collecting.hold(part)
                    has_room = False
        self._route_again()
        return has_room

    def _take_partly(self, position: int, answer: Sequence[object]) -> int:
        """A call whose parts went to several primaries of Redis, of which some are full; where the next one
        begins."""
        for i in range(1, len(answer)):
            part = self._sent[position]
            position += 1
            if isinstance(answer[i], RedisFull) or not self.answers.take(part, answer[i]):
                self._collecting.hold(part)
        return position

    def _note_lost(self, fenced: Sequence[Session], places: object) -> bool:
        """Whether the fence has found publishers that belong to others now: nothing of the call was done."""
        if not isinstance(places, list) or not places:
            return False
        for place in places:
            session = fenced[place]
            self.lose(session)
            self.lost.append(session)
        return True

    def is_outdated(self, version: str) -> bool:
        """Whether subscriptions have changed since this batch was matched; `version` is what the batch read
        last."""
        return version != self.index.version or self._generation != self.index.generation

    def match_again(self) -> None:
        """Serves those whom a change of the subscriptions has added to the targets of this batch."""
        self._generation = self.index.generation
        self._share_again()
        for publication in self._current:
            targets = self.index.match(publication.message.topic)
            if targets is publication.targets or publication.refusal or publication.is_lost():
                continue
            added = publication.match_again(targets, self._collecting.batch)
            if added:
                self._route(publication, added)

    def is_settled(self) -> bool:
        """Whether all of the batch is stored and delivered, so that it may be acknowledged."""
        return self._collecting.is_empty()

    def settle(self) -> None:
        """Acknowledges the batch, message by message, in the order of arrival [MQTT-4.6.0-2],
        [MQTT-4.6.0-3]."""
        current = self._current
        self._current = []
        self._unkept = []
        if self.settling is not None:
            self.settling.settle(current)
            return
        for publication in current:
            acknowledge(publication, self.spent)

    def rewind(self, unconfirmed: Sequence[Publication]) -> None:
        """Another primary may lack what was not confirmed: that is routed again, then what was under way, in
        the order in which it came. The answers to what was under way mean nothing any more."""
        again = [publication.afresh() for publication in (*unconfirmed, *self._current)]
        self.incoming = again + self.incoming
        self._current, self._unkept = [], []
        self._collecting.take()
        self._is_rewound = True

    # Steps

    def _begin(self) -> None:
        self.trim()
        if self._has_lost:
            self._has_lost = False
            self.strike_lost()
        self._current = self._next_batch()
        self._collecting.begin()
        self.statistics.batches += 1
        self._generation = self.index.generation
        for publication in self._current:
            message = publication.message
            if publication.refusal:
                continue
            if message.retain:
                self._collecting.retain(publication)
            if publication.is_delivered:
                self._generation = -1  # matched before this batch began: match again at its end
                continue
            publication.targets = self.index.match(message.topic)
            self._route(publication, publication.targets)

    def _next_batch(self) -> list[Publication]:
        """Of what waits, as much as may be under way at once."""
        count = 0
        room_bytes = _BYTES_PER_BATCH
        for publication in self.incoming:
            if room_bytes <= 0 or count == _PUBLICATIONS_PER_BATCH:
                break
            room_bytes -= publication.size_bytes
            count += 1
        batch = self.incoming[:count]
        self.incoming = self.incoming[count:]
        return batch

    def _route(
        self, publication: Publication, targets: Sequence[Subscription], is_by_filter: bool = False
    ) -> None:
        message = publication.message
        session = publication.session
        client_id = publication.publisher_id()
        # A client whose session ends with its connection sends nothing again; but we may route it again.
        is_once = session is not None and session.queued is None and self.settling is None
        may_repeat = message.token != b"" and not is_once
        for target in targets:
            subscriber = target.subscriber
            if subscriber.share is not None:
                self._share(publication, subscriber.share)
                continue
            qos = min(target.qos, message.qos)  # [MQTT-3.8.4-8]
            if qos > 0 and not subscriber.is_direct:
                self._enqueue(publication, target, client_id, is_by_filter)
                continue
            if subscriber.node:
                self._route_to_node(publication, subscriber)
                continue
            publication.is_matched = True
            if subscriber.session is not None and not (
                may_repeat and self.nearby.had(message.token, subscriber.key)
            ):
                self._hand_to(subscriber, target, message, qos, client_id)

    def _share(self, publication: Publication, share: Share) -> None:
        """One copy, for whichever member the group gives it to."""
        if publication.message.qos == 0:
            publication.is_matched = True
            self.nearby.share_at_most_once(share, publication.message)
            return
        if not share.keepers:
            self._unkept.append((publication, share))
            return
        publication.is_matched = True
        self._collecting.share(publication, share)

    def _share_again(self) -> None:
        """The interest of another node may make a group known before the row of its first member does."""
        unkept, self._unkept = self._unkept, []
        for publication, share in unkept:
            if not publication.is_lost():
                self._share(publication, self.index.shares.get(share.name, share))

    def _route_to_node(self, publication: Publication, subscriber: Subscriber) -> None:
        message = publication.message
        kind = subscriber.interest
        if publication.session is None:  # a will: exactly once at any QoS, and a channel may lose it
            if message.qos == 0 or kind != PERSISTENT_INTEREST:
                self._send_to(subscriber.node, publication)
        elif message.qos > 0 and kind == DIRECT_INTEREST:
            self._send_to(subscriber.node, publication)
        elif message.qos == 0 or kind == AT_MOST_ONCE_INTEREST:
            publication.is_matched = True
            self.transit.publish(subscriber.node, message)

    def _send_to(self, node: str, publication: Publication) -> None:
        publication.is_matched = True
        self._collecting.send(publication, node)

    def _enqueue(
        self, publication: Publication, target: Subscription, client_id: str, is_by_filter: bool
    ) -> None:
        message = publication.message
        subscriber = target.subscriber
        if target.no_local and subscriber.client_id == client_id:
            own = publication.queued_part(target)
            if own is None:  # nothing is left, or something at QoS 0
                self._hand_to(subscriber, target, message, 0, client_id)
                return
            target = own
        retain = message.retain and target.retain_as_published
        qos = min(target.qos, message.qos)  # [MQTT-3.8.4-8]
        delivery = Delivery(message, qos, retain, target.subscription_identifiers)
        self._collecting.enqueue(publication, target, delivery, is_by_filter)

    def _hand_to(
        self, subscriber: Subscriber, target: Subscription, message: Message, qos: int, client_id: str
    ) -> None:
        if subscriber.session is not None:
            subscriber.handed = self._collecting.batch
            self.nearby.hand_to(subscriber, target, message, qos, client_id)

    def _route_again(self) -> None:
        """Routes what was refused by what the index knows now, once all of the replies have told it. The
        publications' own targets stay as they are: `match_again` has to see who came since."""
        again, self.answers.again = self.answers.again, []
        matches: dict[str, dict[str, Subscription]] = {}  # by topic, by the subscriber's key
        for publication, key in again:
            topic = publication.message.topic
            targets = matches.get(topic)
            if targets is None:
                targets = {target.subscriber.key: target for target in self.index.match(topic)}
                matches[topic] = targets
            target = targets.get(key)
            if target is not None and not publication.is_lost():
                self._route(publication, [target], True)
