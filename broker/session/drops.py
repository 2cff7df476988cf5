"""Messages that somebody will not get, and why: each is counted, and leaves a dead letter."""

from typing import Final

DROPPED_EXPIRED: Final = "expired"
DROPPED_OUTSIDE_MOUNT_POINT: Final = "outside_mount_point"
DROPPED_QUEUE_FULL: Final = "queue_full"
DROPPED_SLOW_CONSUMER: Final = "slow_consumer"
DROPPED_TOO_LARGE: Final = "packet_too_large"
PROBES_MAXIMUM: Final = 64


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
    """What became of messages on their way to the clients of a node, since its start: `sent` by QoS, `counts`
    of drops by reason, and `at_qos0` of those at QoS 0; and the drops whose dead letter has still to be
    written.

    `completed_in` and `completed_out`: QoS 2 exchanges that have ended with PUBCOMP. `refused`: PUBACK and
    PUBREC packets with an error, by packet type and Reason Code. `probes`: of some messages that are in
    flight, the time at which they were sent; `probed_ms`: how long it took until such a one was acknowledged.

    At most `letters_limit` letters wait: a subscriber that can't keep up with a flood at QoS 0 must not fill
    the memory with them. What is beyond is counted all the same, and in `unwritten` too.
    """

    __slots__ = (
        "_letters",
        "_letters_limit",
        "at_qos0",
        "completed_in",
        "completed_out",
        "counts",
        "probed_ms",
        "probes",
        "refused",
        "sent",
        "unwritten",
    )

    def __init__(self, letters_limit: int = 256) -> None:
        self.counts: dict[str, int] = {}
        self.at_qos0: dict[str, int] = {}
        self.completed_in = 0
        self.completed_out = 0
        self.refused: dict[tuple[int, int], int] = {}
        self.probes: dict[tuple[str, int], int] = {}
        self.probed_ms: list[int] = []
        self.sent = [0, 0, 0]
        self.unwritten = 0
        self._letters: list[Drop] = []
        self._letters_limit = letters_limit

    def __repr__(self) -> str:
        return f"Drops({self.counts})"

    def add(
        self, bucket: int, client_id: str, topic: str, reason: str, qos: int = 1, properties: bytes = b""
    ) -> None:
        """A session will not get a message, which had these properties (in wire form)."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if qos == 0:
            self.at_qos0[reason] = self.at_qos0.get(reason, 0) + 1
        if len(self._letters) < self._letters_limit:
            self._letters.append(Drop(bucket, client_id, topic, reason))
        else:
            self.unwritten += 1

    def refuse(self, packet_type: int, reason_code: int) -> None:
        """A message of a client was not taken, and that is what it is told."""
        told = (packet_type, reason_code)
        self.refused[told] = self.refused.get(told, 0) + 1

    def begin_probe(self, client_id: str, packet_id: int, now_ms: int) -> None:
        """This message is sent now. Of too many of them the oldest is forgotten: its client may have gone."""
        if len(self.probes) >= PROBES_MAXIMUM:
            del self.probes[next(iter(self.probes))]
        self.probes[client_id, packet_id] = now_ms

    def end_probe(self, client_id: str, packet_id: int, now_ms: int) -> None:
        """It was acknowledged."""
        since_ms = self.probes.pop((client_id, packet_id), -1)
        if since_ms >= 0:
            self.probed_ms.append(now_ms - since_ms)

    def take_probed(self) -> list[int]:
        """How long the acknowledgements took that have come since the last time, in ms."""
        probed = self.probed_ms
        self.probed_ms = []
        return probed

    def take_letters(self) -> list[Drop]:
        """The drops whose dead letter is to be written now."""
        letters = self._letters
        self._letters = []
        return letters
