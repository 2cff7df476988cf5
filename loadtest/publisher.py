"""A client that publishes: as fast as its window allows (closed loop), or by a schedule (open loop)."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from broker.mqtt import (
    PACKET_ID_BYTES,
    Connect,
    Packet,
    Puback,
    Pubcomp,
    Pubrec,
    Pubrel,
    encode_ack,
    publish_parts,
)
from loadtest.board import Board
from loadtest.client import Client
from loadtest.payload import STAMP, padding
from loadtest.plan import ROTATING, Plan, Shape
from loadtest.target import Target

PACKET_IDS: Final = 65_535
_FAILED: Final = 0x80


class Publisher(Client):
    """Sends the messages 0, 1, 2, ... to one topic, `window` of them outstanding at most.

    Outstanding is, at QoS 0, what the subscribers haven't got; at QoS 1 and 2, what isn't acknowledged.
    """

    @classmethod
    def of(cls, number: int, plan: Plan, board: Board) -> "Publisher":
        """The publisher of this number, as the shape wants it."""
        return RotatingPublisher(number, plan, board) if plan.shape in ROTATING else cls(number, plan, board)

    def __init__(self, number: int, plan: Plan, board: Board) -> None:
        super().__init__(f"publisher {number}", plan.account, board.faults)
        self.number = number
        self.sent = 0
        self.refused = 0
        self.settled = 0
        self.active = False
        self.window = plan.window if plan.rate_per_second is None else 1 << 15
        self.limit = plan.count if plan.count is not None else 1 << 32
        self._board = board
        self._qos = plan.qos
        self._fan = plan.fan
        self._is_ordered = plan.shape is not Shape.SHARED and plan.fan == 1
        self._deliveries = 0
        self._open_loop = plan.rate_per_second is not None
        self._late: deque[int] = deque()  # intended times of what the window or the transport holds back
        self._template(plan)

    def _template(self, plan: Plan) -> None:
        """Encode one PUBLISH by the codec, and keep what is the same in all of them."""
        self._head, self._before_stamp = _encode_once(plan, self.number, retain=False)
        self._padding = padding(plan.payload_bytes)

    async def open(self, target: Target, packet: Connect) -> None:
        """Connect, and mind how much the broker takes at a time. Raises ConnectFailed."""
        answer = await self.connect(target, packet)
        if answer.properties is not None and answer.properties.receive_maximum is not None:
            self.window = min(self.window, answer.properties.receive_maximum)  # [MQTT-3.3.4-7]

    @property
    def outstanding(self) -> int:
        """How many messages are on their way."""
        return self.sent - self.settled

    @property
    def finished(self) -> bool:
        """Whether it has sent all that it will ever send."""
        return not self.active or self.sent >= self.limit or not self.is_open

    def start(self) -> None:
        """Begin to publish."""
        self.active = True
        if not self._open_loop:
            self.pump()

    def stop(self) -> None:
        """Publish no more; what is on its way may still be acknowledged."""
        self.active = False
        self._late.clear()

    def pump(self) -> None:
        """Send as much as the window has room for."""
        self._flush([])

    def publish_at(self, intended_ns: int) -> None:
        """Open loop: one message more is due. It is sent by `pump`."""
        self._late.append(intended_ns)

    def delivered(self, run: int, expected: int) -> None:
        """QoS 0: a subscriber got `run` messages more and now expects `expected`. Call `pump` next."""
        if self._is_ordered:
            self.settled = expected  # what it jumped over won't come any more: it doesn't hold the window
        else:
            self._deliveries += run
            self.settled = self._deliveries // self._fan

    def write_off(self) -> None:
        """Count everything on its way as lost, so that a lossy broker doesn't stop the load for ever."""
        self.settled = self.sent
        self._deliveries = self.sent * self._fan
        self.pump()

    def sent_by_source(self) -> dict[int, int]:
        """How many messages of each source were sent."""
        return {self.number: self.sent}

    def owed_by_source(self) -> dict[int, int]:
        """How many of them the broker is answerable for: neither refused nor, at QoS 1 and 2, outstanding."""
        return {self.number: self.sent - self.refused - (self.outstanding if self._qos else 0)}

    def writable(self) -> None:
        """See Client."""
        self.pump()

    def handle(self, packets: list[Packet]) -> None:
        """Take the acknowledgements of one chunk and answer with one write."""
        answers: list[bytes] = []
        settled = 0
        for packet in packets:
            if isinstance(packet, (Puback, Pubcomp)):
                settled += 1
                if packet.reason_code >= _FAILED:
                    self._refuse(packet.packet_id)
            elif isinstance(packet, Pubrec):
                if packet.reason_code < _FAILED:
                    answers.append(encode_ack(Pubrel.packet_type, packet.packet_id, 0, self.version))
                else:  # it ends the handshake [MQTT-4.3.3-4]
                    settled += 1
                    self._refuse(packet.packet_id)
            else:
                self.handle_control(packet)
        if settled:
            self.settled += settled
            self._board.acknowledged += settled
            self._board.check()
        self._flush(answers)

    def _refuse(self, packet_id: int) -> None:
        self.refused += 1
        self._board.refused += 1

    def _flush(self, parts: list[bytes]) -> None:
        """Write `parts` and the messages that may go now, at once."""
        if self.active and not self.paused and self.is_open:
            room = min(self.window - self.sent + self.settled, self.limit - self.sent)
            if room > 0:
                self._append_messages(parts, self._stamps(room))
        if parts:
            self.write(b"".join(parts))

    def _stamps(self, room: int) -> Sequence[int]:
        """The send times of the messages that go now: intended ones (open loop), or the time it is."""
        if not self._open_loop:
            return (time.monotonic_ns(),) * room
        late = self._late
        return [late.popleft() for _ in range(min(room, len(late)))]

    def _append_messages(self, parts: list[bytes], stamps: Sequence[int]) -> None:
        """Encode the next messages. Hot: per message one pack of the stamp and a few appends, 0.4 us."""
        head, before_stamp, padding_bytes = self._head, self._before_stamp, self._padding
        number, sequence, pack = self.number, self.sent, STAMP.pack
        if self._qos == 0:
            lead = head + before_stamp
            for stamp in stamps:
                parts.append(lead)
                parts.append(pack(number, sequence, stamp))
                parts.append(padding_bytes)
                sequence += 1
        else:
            for stamp in stamps:
                parts.append(head)
                parts.append(PACKET_ID_BYTES[sequence % PACKET_IDS + 1])
                parts.append(before_stamp)
                parts.append(pack(number, sequence, stamp))
                parts.append(padding_bytes)
                sequence += 1
        self._count_sent(sequence)

    def _count_sent(self, sequence: int) -> None:
        self._board.sent += sequence - self.sent
        self.sent = sequence
        if sequence >= self.limit:
            self._board.check()


class RotatingPublisher(Publisher):
    """Sends its messages to several topics in turn: the first of each, the second of each, ..."""

    def _template(self, plan: Plan) -> None:
        self._sources = plan.sources_of(self.number)
        retain = plan.shape is Shape.DASHBOARD
        self._templates = [(source, *_encode_once(plan, source, retain=retain)) for source in self._sources]
        self._padding = padding(plan.payload_bytes)
        self._refused_at = [0] * len(self._sources)

    def seed(self) -> None:
        """Publish the first message of each topic. Call `stop` when they are acknowledged."""
        self._limit_afterwards = self.limit + len(self._sources)
        self.limit = len(self._sources)
        if self._open_loop:
            self._late.extend([time.monotonic_ns()] * len(self._sources))
        self.active = True
        self.pump()

    def stop_seeding(self) -> None:
        """From now on `limit` is what the plan says, beside what was seeded."""
        self.stop()
        self.limit = self._limit_afterwards

    def sent_by_source(self) -> dict[int, int]:
        """See Publisher."""
        return self._by_source(self.sent)

    def owed_by_source(self) -> dict[int, int]:
        """See Publisher. What is outstanding are the last ones: brokers acknowledge in order [MQTT-4.6]."""
        accepted = self._by_source(self.settled if self._qos else self.sent)
        refused = dict(zip(self._sources, self._refused_at, strict=True))
        return {source: count - refused[source] for source, count in accepted.items()}

    def _by_source(self, messages: int) -> dict[int, int]:
        turns, rest = divmod(messages, len(self._sources))
        return {source: turns + (place < rest) for place, source in enumerate(self._sources)}

    def _refuse(self, packet_id: int) -> None:
        super()._refuse(packet_id)
        back = (self.sent - packet_id) % PACKET_IDS  # how many messages ago that was
        self._refused_at[(self.sent - 1 - back) % len(self._sources)] += 1

    def _append_messages(self, parts: list[bytes], stamps: Sequence[int]) -> None:
        """As Publisher has it; the topic makes it slower by a third."""
        templates, padding_bytes, has_id = self._templates, self._padding, self._qos > 0
        sequence, pack = self.sent, STAMP.pack
        turn, place = divmod(sequence, len(templates))
        for stamp in stamps:
            source, head, before_stamp = templates[place]
            parts.append(head)
            if has_id:
                parts.append(PACKET_ID_BYTES[sequence % PACKET_IDS + 1])
            parts.append(before_stamp)
            parts.append(pack(source, turn, stamp))
            parts.append(padding_bytes)
            sequence += 1
            place += 1
            if place == len(templates):
                turn, place = turn + 1, 0
        self._count_sent(sequence)


def _encode_once(plan: Plan, source: int, *, retain: bool) -> tuple[bytes, bytes]:
    """A PUBLISH of this source by the codec: what stands before its Packet Identifier, and from there on to
    the payload.
    """
    blank = bytes(plan.payload_bytes)
    head, tail = publish_parts(plan.account.version, plan.topic(source), blank, plan.qos, retain, False, b"")
    return head, tail[: len(tail) - len(blank)]
