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
from loadtest.plan import Plan
from loadtest.target import Target

_FAILED: Final = 0x80


class Publisher(Client):
    """Sends the messages 0, 1, 2, ... to one topic, `window` of them outstanding at most.

    Outstanding is, at QoS 0, what the subscribers haven't got; at QoS 1 and 2, what isn't acknowledged.
    """

    def __init__(self, number: int, plan: Plan, board: Board) -> None:
        super().__init__(f"publisher {number}", plan.account, board.faults)
        self.number = number
        self.sent = 0
        self.refused = 0
        self.settled = 0
        self.active = False
        self.window = plan.window if plan.rate_per_second is None else 1 << 15
        self._limit = plan.count if plan.count is not None else 1 << 32
        self._board = board
        self._qos = plan.qos
        self._fan = plan.fan
        self._deliveries = 0
        self._open_loop = plan.rate_per_second is not None
        self._late: deque[int] = deque()  # intended times of what the window or the transport holds back
        self._template(plan)

    def _template(self, plan: Plan) -> None:
        """Encode one PUBLISH by the codec, and keep what is the same in all of them."""
        blank = bytes(plan.payload_bytes)
        head, tail = publish_parts(
            plan.account.version, plan.topic(self.number), blank, plan.qos, False, False, b""
        )
        self._head = head
        self._before_stamp = tail[: len(tail) - len(blank)]
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
        return not self.active or self.sent >= self._limit or not self.is_open

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
        if self._fan == 1:
            self.settled = expected  # what it jumped over won't come any more: it doesn't hold the window
        else:
            self._deliveries += run
            self.settled = self._deliveries // self._fan

    def write_off(self) -> None:
        """Count everything on its way as lost, so that a lossy broker doesn't stop the load for ever."""
        self.settled = self.sent
        self._deliveries = self.sent * self._fan
        self.pump()

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
                    self._refuse()
            elif isinstance(packet, Pubrec):
                if packet.reason_code < _FAILED:
                    answers.append(encode_ack(Pubrel.packet_type, packet.packet_id, 0, self.version))
                else:  # it ends the handshake [MQTT-4.3.3-4]
                    settled += 1
                    self._refuse()
            else:
                self.handle_control(packet)
        if settled:
            self.settled += settled
            self._board.acknowledged += settled
            self._board.check()
        self._flush(answers)

    def _refuse(self) -> None:
        self.refused += 1
        self._board.refused += 1

    def _flush(self, parts: list[bytes]) -> None:
        """Write `parts` and the messages that may go now, at once."""
        if self.active and not self.paused and self.is_open:
            room = min(self.window - self.sent + self.settled, self._limit - self.sent)
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
                parts.append(PACKET_ID_BYTES[sequence % 65535 + 1])
                parts.append(before_stamp)
                parts.append(pack(number, sequence, stamp))
                parts.append(padding_bytes)
                sequence += 1
        self._board.sent += sequence - self.sent
        self.sent = sequence
        if sequence >= self._limit:
            self._board.check()
