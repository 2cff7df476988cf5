"""What was published at QoS 1, acknowledged and delivered, each message by its number. Knows no clock, no
socket.

Each subscriber has a topic of its own, whose messages are numbered 0, 1, 2, ... by its one publisher.
"""

from collections import Counter


class Ledger:
    """The account of one run."""

    def __init__(self, subscribers: int) -> None:
        self.published = [0] * subscribers
        self.acknowledged = 0
        self.received: list[Counter[int]] = [Counter() for _ in range(subscribers)]
        self.missing: set[tuple[int, int]] = set()
        """(subscriber, number) of what has been acknowledged and hasn't come yet: at the end it is lost."""
        self.misdirected = 0
        self.out_of_order = 0
        self._highest = [-1] * subscribers

    def publish(self, subscriber: int) -> int:
        """One more is published for this subscriber; its number."""
        number = self.published[subscriber]
        self.published[subscriber] = number + 1
        return number

    def acknowledge(self, subscriber: int, number: int) -> None:
        """The broker has promised to deliver it."""
        self.acknowledged += 1
        if number not in self.received[subscriber]:
            self.missing.add((subscriber, number))

    def receive(self, subscriber: int, addressee: int, number: int) -> None:
        """A subscriber has got a message that was published for `addressee`."""
        if addressee != subscriber:
            self.misdirected += 1
            return
        received = self.received[subscriber]
        received[number] += 1
        if received[number] > 1:  # a repeated one may come at any time [MQTT-4.6.0-6]
            return
        self.missing.discard((subscriber, number))
        if number < self._highest[subscriber]:
            self.out_of_order += 1
        else:
            self._highest[subscriber] = number

    @property
    def unacknowledged(self) -> int:
        """Published, and not acknowledged so far."""
        return sum(self.published) - self.acknowledged

    @property
    def duplicates(self) -> int:
        """Deliveries beyond the first of each message."""
        return sum(received.total() - len(received) for received in self.received)
