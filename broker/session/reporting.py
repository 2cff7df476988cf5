"""Sessions of a node that is asked to tell what becomes of messages: who has acknowledged them, who has lost
them. Where nobody asks there are none of these, and nothing is paid for it.

A client of a persistent session has a message when it acknowledges it (PUBACK, PUBREC); but here it counts
only when the report of it is stored (`Taken.stored`): the entry is not deleted sooner. So a kill in between
makes the client get the message again, and there is a report in the end, at least one. A direct session has
nothing that outlives a kill; its reports are made at once.
"""

from collections.abc import Callable, Sequence
from typing import Final

from broker.session.clock import Clock
from broker.session.delivery import Delivery
from broker.session.direct import DirectOutbound
from broker.session.drops import Drops
from broker.session.outbound import PUBREC_BEING_STORED
from broker.session.outbox import Outbox
from broker.session.queued import QueuedOutbound
from broker.session.stored import StoredSession

_REFUSED: Final = 0x80  # reason codes from here on are errors [MQTT 5: 2.4]


class Taken:
    """A message that a client has acknowledged; `properties` in wire form."""

    __slots__ = ("_n", "_outbound", "_packet_id", "client_id", "properties", "qos", "topic")

    def __init__(
        self,
        client_id: str,
        delivery: Delivery,
        outbound: "ReportingQueuedOutbound | None" = None,
        n: int = 0,
        packet_id: int = 0,
    ) -> None:
        self.client_id = client_id
        self.topic = delivery.message.topic
        self.properties = delivery.message.properties
        self.qos = delivery.qos
        self._outbound = outbound
        self._n = n
        self._packet_id = packet_id

    def __repr__(self) -> str:
        return f"Taken({self.client_id!r}, {self.topic!r}, qos={self.qos})"

    def stored(self) -> None:
        """To be called once, when the report can't be lost any more: now the acknowledgement counts."""
        if self._outbound is not None:
            self._outbound.reported(self._n, self._packet_id)


class Reports(Drops):
    """Drops that are told, too, with client, topic, reason, QoS and properties (in wire form); and what
    clients have acknowledged."""

    __slots__ = ("on_dropped", "on_taken")

    def __init__(
        self, on_dropped: Callable[[str, str, str, int, bytes], None], on_taken: Callable[[Taken], None]
    ) -> None:
        super().__init__()
        self.on_dropped = on_dropped
        self.on_taken = on_taken

    def add(
        self, bucket: int, client_id: str, topic: str, reason: str, qos: int = 1, properties: bytes = b""
    ) -> None:
        super().add(bucket, client_id, topic, reason, qos, properties)
        self.on_dropped(client_id, topic, reason, qos, properties)


class ReportingDirectOutbound(DirectOutbound):
    """What is in flight is remembered until it is acknowledged."""

    __slots__ = ("_reports", "_sent")

    def __init__(
        self,
        stored: StoredSession,
        reports: Reports,
        outbox: Outbox,
        clock: Clock,
        version: int,
        window: int,
        maximum_packet_size: int,
        backlog_limit: int,
        drop_oldest: bool,
        topic_aliases: int,
        mount_point: str,
        backlog_bytes_limit: int,
    ) -> None:
        super().__init__(
            stored,
            reports,
            outbox,
            clock,
            version,
            window,
            maximum_packet_size,
            backlog_limit,
            drop_oldest,
            topic_aliases,
            mount_point,
            backlog_bytes_limit,
        )
        self._reports = reports
        self._sent: dict[int, Delivery] = {}

    def pubrec(self, packet_id: int, reason_code: int) -> bool:
        if reason_code >= _REFUSED:
            self._sent.pop(self.inflight.get(packet_id, 0) >> 2, None)
        return super().pubrec(packet_id, reason_code)

    def _transmit(self, delivery: Delivery, n: int, dup: bool) -> bool:
        is_sent = super()._transmit(delivery, n, dup)
        if is_sent:
            self._sent[n] = delivery
        return is_sent

    def _settle(self, n: int) -> None:
        self._report(n)
        super()._settle(n)

    def _receive_pubrec(self, packet_id: int, n: int) -> None:
        self._report(n)
        super()._receive_pubrec(packet_id, n)

    def _report(self, n: int) -> None:
        delivery = self._sent.pop(n, None)
        if delivery is not None:
            self._reports.on_taken(Taken(self.stored.client_id, delivery))


class ReportingQueuedOutbound(QueuedOutbound):
    """The same; an acknowledgement counts when it has been reported."""

    __slots__ = ("_reports", "_sent")

    def __init__(
        self,
        stored: StoredSession,
        reports: Reports,
        outbox: Outbox,
        clock: Clock,
        version: int,
        window: int,
        maximum_packet_size: int,
        gen: int,
        n: int,
        sent: int,
        hi: int,
        released: Sequence[int],
        has_queue: bool,
        topic_aliases: int,
        mount_point: str,
    ) -> None:
        super().__init__(
            stored,
            reports,
            outbox,
            clock,
            version,
            window,
            maximum_packet_size,
            gen,
            n,
            sent,
            hi,
            released,
            has_queue,
            topic_aliases,
            mount_point,
        )
        self._reports = reports
        self._sent: dict[int, Delivery] = {}

    def pubrec(self, packet_id: int, reason_code: int) -> bool:
        if reason_code >= _REFUSED:
            self._sent.pop(self.inflight.get(packet_id, 0) >> 2, None)
        return super().pubrec(packet_id, reason_code)

    def reported(self, n: int, packet_id: int) -> None:
        """What `Taken.stored` says. `packet_id`: at QoS 2, 0 at QoS 1."""
        if packet_id:
            super()._receive_pubrec(packet_id, n)
        else:
            super()._settle(n)

    def _transmit(self, delivery: Delivery, n: int, dup: bool) -> bool:
        is_sent = super()._transmit(delivery, n, dup)
        if is_sent:
            self._sent[n] = delivery
        return is_sent

    def _settle(self, n: int) -> None:
        delivery = self._sent.pop(n, None)
        if delivery is None:
            super()._settle(n)
        else:
            self._reports.on_taken(Taken(self.stored.client_id, delivery, self, n))

    def _receive_pubrec(self, packet_id: int, n: int) -> None:
        delivery = self._sent.pop(n)
        self.inflight[packet_id] = n << 2 | PUBREC_BEING_STORED  # a repeated one changes nothing
        self._reports.on_taken(Taken(self.stored.client_id, delivery, self, n, packet_id))
