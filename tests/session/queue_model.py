"""What Redis keeps for one persistent session, and a client that keeps the rules: models for the machine.

`QueueModel` does what the queue functions of the store do, nothing else. `ClientModel` is the other end: it
remembers Packet Identifiers of QoS 2 from PUBLISH to PUBREL over all its connections, and checks what it
gets. Payloads are the numbers of the queue entries.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from broker.mqtt import Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel


@dataclass(frozen=True)
class Claim:
    """The part of a claim's answer that the sending half needs."""

    epoch: int
    n: int
    sent: int
    hi: int
    released: tuple[int, ...]


@dataclass
class QueueModel:
    """Entries are (qos, deadline). Writes with an old epoch are refused, but for acknowledgements."""

    n: int
    released: set[int]
    hi: int = field(init=False)
    epoch: int = 0
    entries: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hi = self.n

    def enqueue(self, qos: int, deadline_ms: int) -> int:
        self.n += 1
        self.entries[self.n] = (qos, deadline_ms)
        return self.n

    def ack(self, ids: list[int]) -> None:
        for n in ids[1::2]:
            self.entries.pop(n, None)

    def release(self, epoch: int, ids: list[int]) -> bool:
        if epoch != self.epoch:
            return False
        self.ack(ids)
        self.released.update(ids[1::2])
        return True

    def complete(self, epoch: int, numbers: list[int]) -> bool:
        if epoch != self.epoch:
            return False
        self.released.difference_update(numbers)
        return True

    def raise_hi(self, epoch: int, window: int) -> tuple[int, bool] | None:
        if epoch != self.epoch:
            return None
        if self.n > self.hi:
            return self.hi, False
        self.hi = self.n + window
        return self.hi, True

    def page(self, epoch: int, after: int, window: int) -> tuple[int, int, list[int]] | None:
        if epoch != self.epoch:
            return None
        found = sorted(n for n in self.entries if n > after)[:window]
        # Never lowered: a small page must not forget that an earlier connection had sent more than it holds.
        self.hi = max(self.hi, found[-1] if len(found) == window else self.n + window)
        return self.hi, self.n, found

    def claim(self, window: int) -> Claim:
        self.epoch += 1
        sent = min(self.hi, self.n)
        queued = sorted(self.entries)
        last = queued[window - 1] if len(queued) >= window else self.n + window
        self.hi = max(sent, last)
        return Claim(self.epoch, self.n, sent, self.hi, tuple(sorted(self.released)))

    def detach(self, epoch: int, sent: int) -> None:
        if epoch == self.epoch:
            self.hi = sent


class ClientModel:
    """Receives, answers in order, and complains. `received` is what its application got: n and QoS."""

    def __init__(self, remembered: Iterable[int]) -> None:
        self.received: list[tuple[int, int]] = []
        self.remembered: dict[int, int] = dict.fromkeys(remembered, 0)  # QoS 2: Packet Identifier -> n
        self._latest = 0

    def reconnect(self) -> None:
        self._latest = 0

    def take(self, packet: Packet) -> Packet:
        """The answer to a packet."""
        if isinstance(packet, Publish):
            return self._publish(packet)
        assert isinstance(packet, Pubrel)
        assert packet.reason_code == 0
        self.remembered.pop(packet.packet_id, None)
        return Pubcomp(packet.packet_id)

    def _publish(self, packet: Publish) -> Packet:
        n = int(packet.payload)
        assert n > self._latest, "order within a connection"
        self._latest = n
        packet_id = packet.packet_id
        if packet.qos == 1:
            assert packet_id not in self.remembered, "the identifier is still in use"
            self.received.append((n, 1))
            return Puback(packet_id)
        if packet_id in self.remembered:
            assert self.remembered[packet_id] == n, "a new message that the client takes for an old one"
            assert packet.dup
            return Pubrec(packet_id)
        self.remembered[packet_id] = n
        self.received.append((n, 2))
        return Pubrec(packet_id)
