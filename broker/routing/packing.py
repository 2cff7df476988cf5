"""What a batch of messages asks of the store, packed into calls of bounded size; and its counts."""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from broker.mqtt import SYS_PREFIX
from broker.routing.publication import Publication
from broker.routing.subscription import Share, Subscriber, Subscription
from broker.routing.transit import NodeMessages
from broker.session import Delivery, Message, Session
from cluster.store import queues, receive, records, retained, shares
from cluster.store.call import LARGE_BYTES
from cluster.store.entry import pack_entry, pack_head
from cluster.store.lane import Call
from cluster.store.reply import as_bytes, as_text, in_triples

ENTRIES_PER_CALL: Final = 200
"""About a millisecond of Redis."""
BY_FILTER: Final = -1
"""In place of a stamp."""
NO_ROOM: Final = -1
"""What the inbox of a node answers that has to read first."""


class Group:
    """What one persistent session gets in this batch: parallel lists. `known`: how far the index had followed
    its subscriptions when they were matched; BY_FILTER if each entry says by which of them it was."""

    __slots__ = ("deliveries", "known", "publications", "subscriber", "targets")

    def __init__(self, subscriber: Subscriber, known: int) -> None:
        self.subscriber = subscriber
        self.known = known
        self.publications: list[Publication] = []
        self.deliveries: list[Delivery] = []
        self.targets: list[Subscription] = []


class ShareGroup:
    """What one shared subscription gets in this batch."""

    __slots__ = ("publications", "share")

    def __init__(self, share: Share) -> None:
        self.share = share
        self.publications: list[Publication] = []


Overflow: TypeAlias = Callable[[str, str | None, int, bytes, int], None]
"""Hears of messages whose queue had to give up: whose, topic (None if only their number is known), QoS,
properties, how many."""
Part: TypeAlias = Group | ShareGroup | Publication | NodeMessages
"""What is one request of a batch; of a Publication it is the retained message."""


class RouterStatistics:
    """Counts since the start of the node, and who is told of them."""

    __slots__ = (
        "_on_overflow",
        "appended",
        "batches",
        "dropped_new",
        "dropped_oldest",
        "not_retained",
        "refused",
    )

    def __init__(self, on_overflow: Overflow | None = None) -> None:
        self._on_overflow = on_overflow
        self.batches = 0
        self.appended = 0
        self.dropped_new = 0
        self.dropped_oldest = 0
        self.refused = 0
        self.not_retained = 0  # for want of room

    @property
    def tells(self) -> bool:
        """Whether requests have to ask what was dropped."""
        return self._on_overflow is not None

    def drop_oldest(self, client_id: str, count: int, told: object) -> None:
        """They made room for newer ones; `told` is what the store says of them. Raises TypeError,
        ValueError."""
        self.dropped_oldest += count
        if self._on_overflow is None:
            return
        for topic, flags, properties in in_triples(told):
            qos = queues.qos_of_flags(flags)
            self._on_overflow(client_id, as_text(topic), qos, as_bytes(properties), 1)
            count -= 1
        if count:
            self._on_overflow(client_id, None, 0, b"", count)

    def drop_new(self, client_id: str, message: Message, qos: int) -> None:
        """There was no room for it."""
        self.dropped_new += 1
        if self._on_overflow is not None:
            self._on_overflow(client_id, message.topic, qos, message.properties, 1)


class RetainedRoom:
    """How many retained messages each bucket may hold, so that all together hold at most `maximum` (0: any
    number). A bucket is counted when another is asked for: what others have taken of the room is known from
    `counts`, as of the last look."""

    __slots__ = ("_counts", "_maximum", "_total")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._counts: list[int] = []
        self._total = 0

    def limit(self, maximum: int) -> None:
        """From now on."""
        self._maximum = maximum

    @property
    def total(self) -> int:
        """Retained messages of the whole cluster, as of the last look."""
        return self._total

    def look(self, counts: Sequence[int]) -> None:
        """What the buckets hold now."""
        self._counts = list(counts)
        self._total = sum(counts)

    def of(self, bucket: int) -> int | None:
        """How many messages this bucket may hold; None if any number. Not False: mypyc makes 0 of it, as an
        `int | bool` is an int."""
        if not self._maximum:
            return None
        others = self._total - self._counts[bucket] if self._counts else 0
        return max(0, self._maximum - others)


class Packing:
    """Packs the parts of a batch, in their order: a request each. What lost clients have published is packed,
    too, but does nothing: the replies must fit, however often it is packed.

    Each call begins with a fence for its persistent publishers: `fenced` has them, call by call. Others never
    send again what was not acknowledged.
    """

    __slots__ = (
        "_byte_limit",
        "_call_number",
        "_drop_oldest",
        "_fence",
        "_policy",
        "_queue_limit",
        "_queue_limits",
        "_retained_room",
        "_tells",
        "fenced",
    )

    def __init__(
        self,
        queue_limit: int,
        drop_oldest: bool,
        policy: shares.Policy,
        retained_room: RetainedRoom,
        queue_limits: dict[str, int] | None,
        tells: bool,
        byte_limit: int,
    ) -> None:
        self._retained_room = retained_room
        self._policy = policy
        self._queue_limit = queue_limit
        self._queue_limits = queue_limits
        self._byte_limit = byte_limit
        self._drop_oldest = drop_oldest
        self._tells = tells  # of what is dropped
        self._call_number = 0
        self._fence: list[object] = []
        self.fenced: list[list[Session]] = []

    def limit_queues(self, queue_limit: int, byte_limit: int, drop_oldest: bool) -> None:
        """From now on."""
        self._queue_limit = queue_limit
        self._byte_limit = byte_limit
        self._drop_oldest = drop_oldest

    def calls(self, parts: Sequence[Part]) -> list[Call]:
        """None if there is nothing to ask."""
        calls: list[Call] = []
        self.fenced = []
        if not parts:
            return calls
        call = self._new_call(calls)
        count = 0
        for part in parts:
            size = _size_of(part)
            if count and count + size > ENTRIES_PER_CALL:
                call = self._new_call(calls)
                count = 0
            count += size
            call.requests.append(self._request(part, call))
        return calls

    def _request(self, part: Part, call: Call) -> list[object]:
        if isinstance(part, Group):
            return self._group(part, call)
        if isinstance(part, ShareGroup):
            return self._share(part, call)
        if isinstance(part, Publication):
            self._guard(part)
            return self._retain(part, call)
        for publication in part.publications:
            self._guard(publication)
        return part.request(call)

    def _new_call(self, calls: list[Call]) -> Call:
        self._call_number += 1
        self._fence = []
        self.fenced.append([])
        call = Call("write", [queues.fence(self._fence)])
        calls.append(call)
        return call

    def _guard(self, publication: Publication) -> None:
        """The call under way does nothing if this message's publisher is lost."""
        session = publication.session
        if session is None or session.fenced_in == self._call_number or session.is_lost:
            return
        session.fenced_in = self._call_number
        if session.queued is not None:
            self.fenced[-1].append(session)
            self._fence.append(session.bucket)
            self._fence.append(session.client_id)
            self._fence.append(session.epoch)

    def _group(self, group: Group, call: Call) -> list[object]:
        bodies = call.bodies
        entries: list[object] = []
        is_by_filter = group.known == BY_FILTER
        for i in range(len(group.deliveries)):
            delivery = group.deliveries[i]
            publication = group.publications[i]
            message = delivery.message
            entries.append(group.targets[i].filter if is_by_filter else False)
            self._guard(publication)
            identifiers = delivery.subscription_identifiers
            head = pack_head(delivery.qos, delivery.retain, identifiers, message.retain)
            if publication.is_lost():
                entries.append(False)
                entries.append(queues.WHOLE)
            elif len(publication.targets) == 1:  # nobody to share the body with
                entry = _entry(head, message)
                if len(entry) < LARGE_BYTES:
                    entries.append(entry)
                    entries.append(queues.WHOLE)
                else:
                    entries.append(queues.NO_HEAD)
                    entries.append(len(bodies))
                    bodies.append(entry)
            else:
                self._add_body(publication, bodies)
                entries.append(head)
                entries.append(publication.body_index)
            entries.append(message.token or False)
            entries.append(message.token_ttl_ms)
        subscriber = group.subscriber
        limit = self._queue_limit
        byte_limit = self._byte_limit
        limits = self._queue_limits
        if limits is not None and subscriber.client_id in limits:
            limit = limits[subscriber.client_id]
            byte_limit = 0
        return queues.enqueue(
            subscriber.bucket,
            subscriber.client_id,
            limit,
            self._drop_oldest,
            entries,
            None if is_by_filter else group.known,
            byte_limit,
            self._tells,
        )

    def _share(self, group: ShareGroup, call: Call) -> list[object]:
        entries: list[object] = []
        for publication in group.publications:
            message = publication.message
            self._add_body(publication, call.bodies)
            self._guard(publication)
            is_lost = publication.is_lost()
            entries.append(False if is_lost else pack_head(message.qos, message.retain, ()))
            entries.append(publication.body_index)
            entries.append(message.token or False)
            entries.append(message.token_ttl_ms)
        return shares.share(
            group.share.name, self._queue_limit, self._drop_oldest, self._policy, entries, self._tells
        )

    def _retain(self, publication: Publication, call: Call) -> list[object]:
        message = publication.message
        bucket = retained.bucket_of_topic(message.topic)
        if publication.is_lost():
            return receive.settle_tokens(bucket, [])
        record = _record(message)
        return retained.retain(
            message.topic,
            None if record is None else call.place(record),
            message.deadline_ms,
            message.token or False,
            message.token_ttl_ms,
            # What nodes tell of themselves always finds room.
            None if message.topic.startswith(SYS_PREFIX) else self._retained_room.of(bucket),
        )

    def _add_body(self, publication: Publication, bodies: list[bytes]) -> None:
        """Once a call, however many want it."""
        if publication.body_call != self._call_number:
            message = publication.message
            publication.body_call = self._call_number
            publication.body_index = len(bodies)
            bodies.append(_entry(b"", message))


def _entry(head: bytes, message: Message) -> bytes:
    return pack_entry(head, message.topic, message.payload, message.properties, message.deadline_ms)


def _size_of(part: Part) -> int:
    """In entries of a queue."""
    if isinstance(part, Group):
        return len(part.deliveries)
    if isinstance(part, ShareGroup):
        return len(part.publications)
    return 1 if isinstance(part, Publication) else 0


def buckets_of(publication: Publication) -> list[int]:
    """Where the store remembers who got this message: buckets of queues, and of the retained message."""
    buckets = {target.subscriber.bucket for target in publication.targets if not target.subscriber.is_direct}
    if publication.message.retain:
        buckets.add(retained.bucket_of_topic(publication.message.topic))
    return list(buckets)


def _record(message: Message) -> bytes | None:
    if not message.payload:  # [MQTT-3.3.1-6]: an empty payload removes the retained message
        return None
    return records.pack_retained(message.payload, message.qos, message.properties, message.deadline_ms)
