"""The way of a batch of Application Messages: match, deliver here, store, check, acknowledge.

Theory of operation. At QoS 0 a message is matched and delivered at once (`publish_at_most_once`). Everything
else, and each message that changes a retained one, becomes a Publication, and all Publications of one moment
are one batch:

1. `next_calls` matches the batch, delivers to the direct sessions of this node and answers with the calls
   that put the rest into the queues of the persistent sessions.
2. `take_replies` sees which entries are stored, and hands them to the sessions that are connected here.
3. If the subscriptions have changed meanwhile (`is_outdated`), the caller brings the index up to date and
   calls `match_again`: whoever was added is served as well. A subscription so counts from its SUBACK, on any
   node.
4. Only when nothing is left to do is each message acknowledged, in the order of arrival.

One batch is worked on at a time, and the next one collects while it is: so a client's messages are matched
only when all its earlier ones are settled, which keeps their order. A batch whose outcome is unknown is sent
again by the caller.
"""

from collections.abc import Sequence
from typing import Final

from broker.routing.index import Subscriber, Subscription, SubscriptionIndex, without_no_local
from broker.routing.publication import Publication
from broker.session import Clock, Delivery, Message, Session
from cluster.store import queues, records, retained
from cluster.store.errors import ItemError, RedisFull
from cluster.store.lane import Call

_ENTRIES_PER_CALL: Final = 200  # about a millisecond of Redis
_PUBLICATIONS_PER_BATCH: Final = 5000  # what can be matched without holding up the event loop for long
_TOKENS_REMEMBERED: Final = 1 << 18
_NO_MATCHING_SUBSCRIBERS: Final = 0x10

_APPENDED: Final = 0
_REFUSED: Final = 1
_DROPPED_NEW: Final = 3


class _Group:
    """What one persistent session gets in this batch: parallel lists."""

    __slots__ = ("deliveries", "publications", "subscriber", "targets")

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.publications: list[Publication] = []
        self.deliveries: list[Delivery] = []
        self.targets: list[Subscription] = []


class RouterStatistics:
    """Counts since the start of the node."""

    __slots__ = (
        "appended",
        "batches",
        "delivered_direct",
        "dropped_new",
        "dropped_oldest",
        "failed_items",
        "refused",
    )

    def __init__(self) -> None:
        self.batches = 0
        self.appended = 0
        self.delivered_direct = 0
        self.dropped_new = 0
        self.dropped_oldest = 0
        self.refused = 0


class Router:
    """Routes messages of this node. `queue_limit` messages may wait in a session's queue; then the oldest or
    the new one is dropped. `incarnation` is this node as the store knows it."""

    __slots__ = (
        "_batch",
        "_call_number",
        "_current",
        "_delivered",
        "_drop_oldest",
        "_generation",
        "_groups",
        "_incarnation",
        "_queue_limit",
        "_retains",
        "_sent_groups",
        "_sent_retains",
        "clock",
        "damaged",
        "incoming",
        "index",
        "spent",
        "stale_rows",
        "statistics",
    )

    def __init__(
        self, index: SubscriptionIndex, clock: Clock, incarnation: str, queue_limit: int, drop_oldest: bool
    ) -> None:
        self.index = index
        self.clock = clock
        self.incoming: list[Publication] = []
        self.stale_rows: list[Subscription] = []
        self.damaged: list[tuple[str, str]] = []
        self.spent: list[tuple[int, bytes]] = []
        self.statistics = RouterStatistics()
        self._incarnation = incarnation.encode()
        self._queue_limit = queue_limit
        self._drop_oldest = drop_oldest
        self._batch = 0
        self._call_number = 0
        self._generation = 0
        self._current: list[Publication] = []
        self._delivered: dict[bytes, set[str]] = {}  # token -> subscribers that had it, oldest token first
        self._groups: list[_Group] = []
        self._retains: list[Publication] = []
        self._sent_groups: list[_Group] = []
        self._sent_retains: list[Publication] = []

    # What comes in

    def publish_at_most_once(self, message: Message, publisher: Session | None) -> None:
        """Delivers a message at QoS 0 to whoever is connected here. Never waits for the store."""
        client_id = publisher.client_id if publisher is not None else message.publisher
        token = message.token
        for target in self.index.match(message.topic):
            if target.no_local and target.subscriber.client_id == client_id:
                own = without_no_local(target)
                if own is None:
                    continue
                target = own
            session = target.subscriber.session
            if session is not None and not (token and self._had(token, target.subscriber.key)):
                retain = message.retain and target.retain_as_published
                if message.retain and target.subscriber.heard is not None:
                    target.subscriber.heard.add(message.topic)
                session.outbound.deliver_at_most_once(message, retain, target.subscription_identifiers)
                self.statistics.delivered_direct += 1

    def publish(self, publication: Publication) -> None:
        """Takes a message for the next batch. It will be acknowledged when it is stored everywhere."""
        if publication.message.qos == 0:  # retained: live subscribers don't wait for the store
            publication.targets = self.index.match(publication.message.topic)
            publication.is_delivered = True
            self.publish_at_most_once(publication.message, publication.session)
        self.incoming.append(publication)

    def has_work(self) -> bool:
        """Whether a batch is under way or waits to begin."""
        return bool(self.incoming or self._current)

    # The way of a batch

    def next_calls(self) -> list[Call]:
        """Begins a batch if none is under way; the calls that are to be made for it now."""
        if not self._current:
            if not self.incoming:
                return []
            self._begin()
        self._sent_groups = self._groups
        self._sent_retains = self._retains
        self._groups = []
        self._retains = []
        if not (self._sent_groups or self._sent_retains):
            return []
        return self._pack()

    def take_replies(self, calls: Sequence[Call], replies: Sequence[Sequence[object] | Exception]) -> bool:
        """The answers to `next_calls`, call by call. False if Redis is full: try again, after a pause."""
        groups = self._sent_groups
        retains = self._sent_retains
        position = 0
        retain_position = 0
        is_full = False
        for call, answer in zip(calls, replies, strict=True):
            for i in range(len(call.requests)):
                is_refused = isinstance(answer, Exception)
                reply = answer if isinstance(answer, Exception) else answer[i]
                if position < len(groups):
                    group = groups[position]
                    position += 1
                    if is_refused:
                        self._hold(group)
                    else:
                        self._take_group_reply_safely(group, reply)
                else:
                    publication = retains[retain_position]
                    retain_position += 1
                    if is_refused:
                        self._retains.append(publication)
                    elif isinstance(reply, ItemError):
                        self.damaged.append((publication.message.topic, str(reply)))
            if isinstance(answer, RedisFull):
                is_full = True
            elif isinstance(answer, Exception):
                raise answer
        return not is_full

    def is_outdated(self, version: str) -> bool:
        """Whether subscriptions have changed since this batch was matched; `version` is what the batch read
        last."""
        return version != self.index.version or self._generation != self.index.generation

    def match_again(self) -> None:
        """Serves those whom a change of the subscriptions has added to the targets of this batch."""
        self._generation = self.index.generation
        for publication in self._current:
            targets = self.index.match(publication.message.topic)
            known = publication.targets
            if targets is known:
                continue
            publication.targets = targets
            had = {target.subscriber.key for target in known}
            added = [target for target in targets if target.subscriber.key not in had]
            if added:
                self._route(publication, added)

    def is_settled(self) -> bool:
        """Whether all of the batch is stored and delivered, so that it may be acknowledged."""
        return not (self._groups or self._retains)

    def settle(self) -> None:
        """Acknowledges the batch, message by message, in the order of arrival [MQTT-4.6.0-2],
        [MQTT-4.6.0-3]."""
        current = self._current
        self._current = []
        for publication in current:
            session = publication.session
            if session is not None:
                message = publication.message
                reason_code = 0 if publication.is_matched else _NO_MATCHING_SUBSCRIBERS
                if message.token:
                    self._forget_later(publication, session)
                session.published(publication.packet_id, message.qos, reason_code, publication.size_bytes)
            elif publication.origin is not None:
                publication.origin.settled(publication)
                for bucket in _buckets(publication):
                    self.spent.append((bucket, publication.message.token))

    # Steps

    def _forget_later(self, publication: Publication, session: Session) -> None:
        """The store need not remember for long who got this message: a client with a persistent session may
        send it again until the exchange has ended, any other client never."""
        token = publication.message.token
        buckets = _buckets(publication)
        if not buckets:
            return
        if session.queued is not None:
            session.inbound.remember(publication.packet_id, token, buckets)
        else:
            for bucket in buckets:
                self.spent.append((bucket, token))

    def _begin(self) -> None:
        self._current = self.incoming[:_PUBLICATIONS_PER_BATCH]
        self.incoming = self.incoming[_PUBLICATIONS_PER_BATCH:]
        self._batch += 1
        self.statistics.batches += 1
        self._generation = self.index.generation
        for publication in self._current:
            message = publication.message
            if message.retain:
                self._retains.append(publication)
            if publication.is_delivered:
                self._generation = -1  # matched before this batch began: match again at its end
                continue
            publication.targets = self.index.match(message.topic)
            self._route(publication, publication.targets)

    def _route(self, publication: Publication, targets: Sequence[Subscription]) -> None:
        message = publication.message
        session = publication.session
        client_id = session.client_id if session is not None else message.publisher
        if targets:
            publication.is_matched = True
        # A client whose session ends with its connection never sends anything again.
        may_repeat = message.token != b"" and (session is None or session.queued is not None)
        for target in targets:
            if target.no_local and target.subscriber.client_id == client_id:
                own = without_no_local(target)
                if own is None:
                    continue
                target = own
            subscriber = target.subscriber
            qos = min(target.qos, message.qos)  # [MQTT-3.8.4-8]
            retain = message.retain and target.retain_as_published  # [MQTT-3.3.1-12], [MQTT-3.3.1-13]
            if qos > 0 and not subscriber.is_direct:
                self._enqueue(publication, target, qos, retain)
                continue
            receiver = subscriber.session
            if receiver is None or (may_repeat and self._had(message.token, subscriber.key)):
                continue
            self.statistics.delivered_direct += 1
            if message.retain and subscriber.heard is not None:
                subscriber.heard.add(message.topic)
            if qos == 0:
                receiver.outbound.deliver_at_most_once(message, retain, target.subscription_identifiers)
            elif receiver.direct is not None:
                receiver.direct.deliver(message, qos, retain, target.subscription_identifiers)

    def _had(self, token: bytes, key: str) -> bool:
        """Whether a subscriber connected here has had the message of this token; from now on it has.

        What the store remembers for queues, the router remembers for what it delivers in memory: a publisher
        that reconnects, or a will that is found twice, must not bring it again.
        """
        keys_of_token = self._delivered.get(token)
        if keys_of_token is None:
            if len(self._delivered) >= _TOKENS_REMEMBERED:
                del self._delivered[next(iter(self._delivered))]
            self._delivered[token] = {key}
            return False
        if key in keys_of_token:
            return True
        keys_of_token.add(key)
        return False

    def _enqueue(self, publication: Publication, target: Subscription, qos: int, retain: bool) -> None:
        subscriber = target.subscriber
        groups = self._groups
        if subscriber.batch != self._batch or subscriber.group >= len(groups):
            group = self._new_group(subscriber)
        else:
            group = groups[subscriber.group]
            if group.subscriber is not subscriber or len(group.deliveries) >= _ENTRIES_PER_CALL:
                group = self._new_group(subscriber)
        group.publications.append(publication)
        group.deliveries.append(Delivery(publication.message, qos, retain, target.subscription_identifiers))
        group.targets.append(target)

    def _new_group(self, subscriber: Subscriber) -> _Group:
        group = _Group(subscriber)
        subscriber.batch = self._batch
        subscriber.group = len(self._groups)
        self._groups.append(group)
        return group

    def _hold(self, group: _Group) -> None:
        """Redis is full and nothing of this group was done: it is tried again, before anything newer."""
        self._groups.append(group)

    def _pack(self) -> list[Call]:
        calls: list[Call] = []
        call = self._new_call(calls)
        count = 0
        for group in self._sent_groups:
            if count and count + len(group.deliveries) > _ENTRIES_PER_CALL:
                call = self._new_call(calls)
                count = 0
            count += len(group.deliveries)
            call.requests.append(self._pack_group(group, call))
        for publication in self._sent_retains:
            if count >= _ENTRIES_PER_CALL:
                call = self._new_call(calls)
                count = 0
            count += 1
            call.requests.append(_pack_retain(publication.message))
        return calls

    def _new_call(self, calls: list[Call]) -> Call:
        self._call_number += 1
        call = Call("write")
        calls.append(call)
        return call

    def _pack_group(self, group: _Group, call: Call) -> list[object]:
        bodies = call.bodies
        entries: list[object] = []
        for i in range(len(group.deliveries)):
            delivery = group.deliveries[i]
            publication = group.publications[i]
            message = delivery.message
            if publication.body_call != self._call_number:
                publication.body_call = self._call_number
                publication.body_index = len(bodies)
                bodies.append(
                    records.pack_body(message.topic, message.payload, message.properties, message.deadline_ms)
                )
            entries.append(group.targets[i].filter)
            entries.append(
                records.pack_head(delivery.qos, delivery.retain, delivery.subscription_identifiers)
            )
            entries.append(publication.body_index)
            entries.append(message.token or False)
            entries.append(message.token_ttl_ms)
        subscriber = group.subscriber
        return queues.enqueue(
            subscriber.bucket, subscriber.client_id, self._queue_limit, self._drop_oldest, entries
        )

    def _take_group_reply_safely(self, group: _Group, reply: object) -> None:
        """A session whose keys in Redis are damaged goes without; the others of the batch don't."""
        if isinstance(reply, ItemError):
            self.damaged.append((group.subscriber.client_id, str(reply)))
            return
        try:
            self._take_group_reply(group, reply)
        except (TypeError, ValueError, IndexError) as error:  # what an answer of another shape leads to
            self.damaged.append((group.subscriber.client_id, f"{type(error).__name__}: {error}"))

    def _take_group_reply(self, group: _Group, reply: object) -> None:
        subscriber = group.subscriber
        if not isinstance(reply, list):
            raise TypeError(f"enqueue answered {reply!r}")
        gen: int = reply[0]
        n: int = reply[1]
        owner: object = reply[2]  # False while nobody has the session
        statuses: Sequence[int] | bool = reply[3]
        self.statistics.dropped_oldest += reply[4]
        session = subscriber.session
        queued = session.queued if session is not None and owner == self._incarnation else None
        for i in range(len(group.deliveries)):
            status = _APPENDED if isinstance(statuses, bool) else statuses[i]
            if status == _APPENDED:
                n += 1
                self.statistics.appended += 1
                if queued is not None:
                    delivery = group.deliveries[i]
                    delivery.gen = gen
                    delivery.n = n
                    queued.take(delivery)
            elif status == _REFUSED:
                self._take_refusal(group, i)
            elif status == _DROPPED_NEW:
                self.statistics.dropped_new += 1

    def _take_refusal(self, group: _Group, i: int) -> None:
        """The session has no such subscription: our row is stale. What its other filters match is tried
        instead."""
        self.statistics.refused += 1
        subscriber = group.subscriber
        stale = group.targets[i]  # with the stamp that it was matched by
        if self.index.remove(subscriber, stale.filter, stale.stamp):
            self.stale_rows.append(stale)
        publication = group.publications[i]
        # The publication's own targets stay as they are: `match_again` has to see who came since.
        targets = self.index.match(publication.message.topic)
        self._route(publication, [target for target in targets if target.subscriber is subscriber])


def _buckets(publication: Publication) -> list[int]:
    """Where the store remembers who got this message: buckets of queues, and of the retained message."""
    buckets = {target.subscriber.bucket for target in publication.targets if not target.subscriber.is_direct}
    if publication.message.retain:
        buckets.add(retained.bucket_of_topic(publication.message.topic))
    return list(buckets)


def _pack_retain(message: Message) -> list[object]:
    record: bytes | None = None
    if message.payload:  # [MQTT-3.3.1-6]: an empty payload removes the retained message
        record = records.pack_retained(message.payload, message.qos, message.properties, message.deadline_ms)
    return retained.retain(
        message.topic, record, message.deadline_ms, message.token or False, message.token_ttl_ms
    )
