"""Messages on their way to other nodes, and those that come from there.

Theory of operation. A message takes one of three ways to the clients of another node:

- Its inbox, which answers before anything is acknowledged: messages at QoS 1 and 2 for direct subscribers,
which have no queue; and wills at every QoS, as those are to come exactly once. - Its channel, which answers
nothing: messages at QoS 0, and copies for subscribers at QoS 0. - Hand-over, by the inbox, too: entries that
this node has put into queues of sessions which the other one owns. Only a hint: what is lost of these is read
from the queue.

The packing is here, for both directions; who gets what decides the router.
"""

from collections.abc import Sequence
from typing import Final

from broker.routing.bursts import Bursts
from broker.routing.channel import Channel
from broker.routing.fields import body_of, pack_fields
from broker.routing.index import SubscriptionIndex
from broker.routing.publication import Publication
from broker.session import Delivery, Message
from cluster.store import inbox_records, inboxes
from cluster.store.call import Call
from cluster.store.reply import as_int, as_ints

_ENTRY_FIELDS: Final = 5
_RETAINED: Final = 4  # of a body
_RECORD_BYTES: Final = 262_144
_RECORD_MESSAGES: Final = 500


class NodeMessages:
    """Publications for the inbox of one node: one record. `reads_bursts`: it is of no older release."""

    __slots__ = ("node", "publications", "reads_bursts", "size_bytes")

    def __init__(self, node: str, reads_bursts: bool) -> None:
        self.node = node
        self.reads_bursts = reads_bursts
        self.publications: list[Publication] = []
        self.size_bytes = 0

    def __repr__(self) -> str:
        return f"NodeMessages({self.node!r}, {len(self.publications)} messages)"

    def add(self, publication: Publication) -> None:
        """A node may want one message for several reasons: it gets it once."""
        if self.publications and self.publications[-1] is publication:
            return
        self.publications.append(publication)
        self.size_bytes += len(publication.message.payload)

    def is_full(self) -> bool:
        """Whether the next message begins another record."""
        return self.size_bytes >= _RECORD_BYTES or len(self.publications) >= _RECORD_MESSAGES

    def request(self, call: Call) -> list[object]:
        """For the store, to be one of this call. What a lost client published is left out."""
        if self.reads_bursts:
            return inboxes.send(self.node, call.place(inbox_records.pack_bursts(self._bursts())))
        messages = [
            pack_fields(publication.message, publication.session is None, _token_of(publication))
            for publication in self.publications
            if not publication.is_lost()
        ]
        return inboxes.send(self.node, call.place(inbox_records.pack_direct(messages)))

    def _bursts(self) -> list[object]:
        bursts = Bursts()
        for publication in self.publications:
            if not publication.is_lost():
                bursts.add(publication.message, publication.session is None, _token_of(publication))
        return bursts.packed


class _Handover:
    """Entries for the sessions of one node: one record."""

    __slots__ = ("bodies", "count", "number", "sessions", "size_bytes")

    def __init__(self, number: int) -> None:
        self.number = number
        self.bodies: list[tuple[object, ...]] = []
        self.sessions: list[tuple[object, ...]] = []
        self.count = 0
        self.size_bytes = 0

    def body_index(self, publication: Publication) -> int:
        if publication.transit_record != self.number:
            message = publication.message
            publication.transit_record = self.number
            publication.transit_index = len(self.bodies)
            self.bodies.append(
                (message.topic, message.payload, message.properties, message.deadline_ms, message.retain)
            )
            self.size_bytes += len(message.payload)
        return publication.transit_index

    def is_full(self) -> bool:
        return self.size_bytes >= _RECORD_BYTES or self.count >= _RECORD_MESSAGES


class Transit:
    """What this tick has for other nodes, beside the inboxes of a batch. Its owner takes it and sends it.
    `readers`: nodes that read bursts. `waiting`: messages for channels, with `waiting_bytes` of payloads."""

    __slots__ = (
        "_bursts",
        "_channels",
        "_handovers",
        "_number",
        "_readers",
        "_records",
        "handed_over",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, readers: set[str]) -> None:
        self.handed_over = 0  # entries, since the start
        self.waiting = 0
        self.waiting_bytes = 0
        self._readers = readers
        self._bursts: dict[str, Bursts] = {}
        self._channels: dict[str, Channel] = {}
        self._handovers: dict[str, _Handover] = {}
        self._records: list[tuple[str, bytes]] = []
        self._number = 0

    def publish(self, node: str, message: Message) -> None:
        """A message for the channel of a node, once."""
        self.waiting += 1
        self.waiting_bytes += len(message.payload)
        bursts = self._bursts.get(node)
        if bursts is None and node in self._readers:
            bursts = self._bursts[node] = Bursts()
        if bursts is not None:
            bursts.add(message, False, b"")
            return
        channel = self._channels.get(node)
        if channel is None:
            channel = self._channels[node] = Channel()
        channel.add(message)

    def publish_shared(self, node: str, name: str, message: Message) -> None:
        """A message for one client of a node, a member of a shared subscription."""
        self.waiting += 1
        self.waiting_bytes += len(message.payload)
        channel = self._channels.get(node)
        if channel is None:
            channel = self._channels[node] = Channel()
        channel.add_shared(name, message)

    def take_messages(self) -> list[tuple[str, bytes]]:
        """Node and record of each channel."""
        bursts = self._bursts
        channels = self._channels
        self.waiting = 0
        self.waiting_bytes = 0
        self._bursts = {}
        self._channels = {}
        # A node that has just said that it reads bursts is sent what was for it before that first.
        records = [(node, inbox_records.pack_runs(channel.runs())) for node, channel in channels.items()]
        return records + [(node, inbox_records.pack_bursts(each.packed)) for node, each in bursts.items()]

    def hand_over(
        self,
        node: str,
        client_id: str,
        gen: int,
        numbers: Sequence[int],
        publications: Sequence[Publication],
        deliveries: Sequence[Delivery],
    ) -> None:
        """Entries that are in a queue now, for the node that owns its session."""
        handover = self._handovers.get(node)
        if handover is None:
            self._number += 1
            handover = self._handovers[node] = _Handover(self._number)
        entries: list[object] = []
        for i in range(len(numbers)):
            delivery = deliveries[i]
            entries.append(numbers[i])
            entries.append(delivery.qos)
            entries.append(delivery.retain)
            entries.append(delivery.subscription_identifiers)
            entries.append(handover.body_index(publications[i]))
        handover.sessions.append((client_id, gen, entries))
        handover.count += len(numbers)
        self.handed_over += len(numbers)
        if handover.is_full():
            self._close(node)

    def take_handovers(self) -> list[tuple[str, bytes]]:
        """Node and record of each."""
        if self._handovers:
            for node in list(self._handovers):
                self._close(node)
        records = self._records
        self._records = []
        return records

    def _close(self, node: str) -> None:
        handover = self._handovers.pop(node)
        self._records.append((node, inbox_records.pack_handover(handover.bodies, handover.sessions)))


def take_handover(index: SubscriptionIndex, bodies: Sequence[object], sessions: Sequence[object]) -> None:
    """Gives entries that another node has queued to the sessions that are connected here. Raises what a
    damaged record leads to."""
    messages: list[Message | None] = [None] * len(bodies)
    for fields in sessions:
        if not isinstance(fields, list):
            raise TypeError(f"no hand-over: {fields!r}")
        client_id: bytes = fields[0]
        gen: int = fields[1]
        entries: list[object] = fields[2]
        subscriber = index.subscribers.get(client_id.decode())
        session = subscriber.session if subscriber is not None else None
        if session is None or session.queued is None:
            continue
        if session.queued.promises is not None:
            for i in range(0, len(entries), _ENTRY_FIELDS):
                if entries[i + 1] == 2:
                    session.queued.hold(_handed_over(bodies[as_int(entries[i + 4])]).topic)
        for i in range(0, len(entries), _ENTRY_FIELDS):
            place = as_int(entries[i + 4])
            message = messages[place]
            if message is None:
                message = messages[place] = _handed_over(bodies[place])
            session.queued.take(
                Delivery(
                    message,
                    as_int(entries[i + 1]),
                    bool(entries[i + 2]),
                    tuple(as_ints(entries[i + 3])),
                    gen,
                    as_int(entries[i]),
                )
            )


def _handed_over(body: object) -> Message:
    # A node of an older release does not say whether the message was retained.
    return body_of(body, 0, isinstance(body, list) and len(body) > _RETAINED and bool(body[_RETAINED]))


def _token_of(publication: Publication) -> bytes:
    """A client whose session ends with its connection never sends anything again: nobody has to remember."""
    session = publication.session
    return publication.message.token if session is None or session.queued is not None else b""
