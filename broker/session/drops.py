"""Messages that somebody will not get, and why: each is counted, and leaves a dead letter."""

from typing import Final

DROPPED_EXPIRED: Final = "expired"
DROPPED_OUTSIDE_MOUNT_POINT: Final = "outside_mount_point"
DROPPED_QUEUE_FULL: Final = "queue_full"
DROPPED_SLOW_CONSUMER: Final = "slow_consumer"
DROPPED_TOO_LARGE: Final = "packet_too_large"


class Drop:
    """A message that one session will not get."""

    __slots__ = ("bucket", "client_id", "reason", "topic")

    def __init__(self, bucket: int, client_id: str, topic: str, reason: str) -> None:
        self.bucket = bucket
        self.client_id = client_id
        self.topic = topic
        self.reason = reason

    def __repr__(self) -> str:
        return f"Drop({self.client_id!r}, {self.topic!r}, {self.reason})"


class Drops:
    """What became of messages on their way to the clients of a node: `sent` by QoS, and `counts` of drops by
    reason, since its start; and the drops whose dead letter has still to be written.

    At most `letters_limit` letters wait: a subscriber that can't keep up with a flood at QoS 0 must not fill
    the memory with them. What is beyond is counted all the same, and in `unwritten` too.
    """

    __slots__ = ("_letters", "_letters_limit", "counts", "sent", "unwritten")

    def __init__(self, letters_limit: int = 256) -> None:
        self.counts: dict[str, int] = {}
        self.sent = [0, 0, 0]
        self.unwritten = 0
        self._letters: list[Drop] = []
        self._letters_limit = letters_limit

    def __repr__(self) -> str:
        return f"Drops({self.counts})"

    def add(self, bucket: int, client_id: str, topic: str, reason: str) -> None:
        """A session will not get a message."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if len(self._letters) < self._letters_limit:
            self._letters.append(Drop(bucket, client_id, topic, reason))
        else:
            self.unwritten += 1

    def take_letters(self) -> list[Drop]:
        """The drops whose dead letter is to be written now."""
        letters = self._letters
        self._letters = []
        return letters
