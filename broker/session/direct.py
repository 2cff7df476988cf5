"""The sending half of a session which ends with its connection: what doesn't fit into its window waits in
memory, bounded."""

from collections import deque
from typing import Final

from broker.session.clock import Clock
from broker.session.delivery import NO_IDENTIFIERS, Delivery
from broker.session.drops import DROPPED_EXPIRED, DROPPED_QUEUE_FULL, Drops
from broker.session.message import Message
from broker.session.outbound import Outbound, packet_id_of
from broker.session.outbox import Outbox
from broker.session.shared import SharedWork
from broker.session.stored import StoredSession

ANY_BYTES: Final = 1 << 40
"""No limit of what may wait."""


class DirectOutbound(Outbound):
    """The sending half of a session which ends with its connection; what waits, waits in memory."""

    __slots__ = ("backlog", "backlog_bytes", "backlog_bytes_limit", "backlog_limit", "drop_oldest", "n")

    def __init__(
        self,
        stored: StoredSession,
        drops: Drops,
        outbox: Outbox,
        clock: Clock,
        version: int,
        window: int,
        maximum_packet_size: int,
        backlog_limit: int,
        drop_oldest: bool,
        topic_aliases: int = 0,
        mount_point: str = "",
        backlog_bytes_limit: int = ANY_BYTES,
    ) -> None:
        super().__init__(
            stored, drops, outbox, clock, version, window, maximum_packet_size, topic_aliases, mount_point
        )
        self.backlog: deque[Delivery] | None = None  # an empty one takes 600 bytes of each connection
        self.backlog_bytes = 0  # payloads in there
        self.backlog_limit = backlog_limit
        self.backlog_bytes_limit = backlog_bytes_limit
        self.drop_oldest = drop_oldest
        self.n = 0

    def deliver(
        self,
        message: Message,
        qos: int,
        retain: bool,
        subscription_identifiers: tuple[int, ...] = NO_IDENTIFIERS,
    ) -> None:
        """Sends a message at QoS 1 or 2 now, or as soon as the window has room."""
        delivery = Delivery(message, qos, retain, subscription_identifiers)
        if self.quota > 0 and not self.outbox.blocked and not self.backlog:
            self._transmit_next(delivery)
            return
        backlog = self.backlog
        if backlog is None:
            backlog = self.backlog = deque()
        backlog.append(delivery)
        self.backlog_bytes += len(message.payload)
        while len(backlog) > self.backlog_limit or self.backlog_bytes > self.backlog_bytes_limit:
            dropped = backlog.popleft() if self.drop_oldest else backlog.pop()
            self.backlog_bytes -= len(dropped.message.payload)
            lost = dropped.message
            self._drop(lost.topic, DROPPED_QUEUE_FULL, dropped.qos, lost.properties)

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return len(self.backlog) if self.backlog is not None else 0

    def resume_sending(self) -> None:
        self._resume_shared()
        backlog = self.backlog
        while backlog and self.quota > 0 and not self.outbox.blocked:
            delivery = backlog.popleft()
            self.backlog_bytes -= len(delivery.message.payload)
            message = delivery.message
            if message.is_expired(self.clock.now_ms):  # [MQTT-3.3.2-5]
                self._drop(message.topic, DROPPED_EXPIRED, delivery.qos, message.properties)
            else:
                self._transmit_next(delivery)

    def _transmit_next(self, delivery: Delivery) -> None:
        self._transmit(delivery, self._next_number(), False)

    def _next_number(self) -> int:
        self.n += 1
        while self._is_in_use(packet_id_of(self.n)):
            self.n += 1
        return self.n

    def _shared_number(self, work: SharedWork) -> int:
        return self._next_number()

    def _settle(self, n: int) -> None:
        self.quota += 1
        self._settle_shared(n)
        if self.backlog:
            self.resume_sending()

    def _receive_pubrec(self, packet_id: int, n: int) -> None:
        self._release(packet_id, n)

    def _complete(self, packet_id: int, n: int) -> None:
        del self.released[packet_id]
        self._settle(n)
