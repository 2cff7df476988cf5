"""A client that receives, acknowledges and verifies."""

import time
from collections.abc import Callable, Iterable
from typing import Final

from broker.mqtt import Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel, encode_ack
from loadtest.board import Board
from loadtest.client import Client
from loadtest.payload import STAMP, padding
from loadtest.plan import Plan
from loadtest.stream import Stream

Credit = Callable[[int, int, int], None]
"""Told (publisher, messages that came, next one expected), once for each run of messages."""


class Subscriber(Client):
    """Takes the messages of its sources; knows for each source what has come."""

    def __init__(self, number: int, plan: Plan, board: Board, credit: Credit | None = None) -> None:
        super().__init__(f"subscriber {number}", plan.account, board.faults)
        self.number = number
        self.since_ns = 0  # when it came (back); what was sent before that was stored for it
        self.streams = self._known_streams(plan)
        self._plan = plan
        self._board = board
        self._credit = credit
        self._size = plan.payload_bytes
        self._padding = padding(plan.payload_bytes)
        self._unreleased: set[int] = set()  # QoS 2 packet identifiers between PUBLISH and PUBREL

    def _known_streams(self, plan: Plan) -> dict[int, Stream]:
        return {source: Stream() for source in plan.sources(self.number)}

    def missing(self, owed: dict[int, int]) -> int:
        """How many messages haven't come, if `owed[i]` of source i were accepted."""
        return sum(stream.missing(owed.get(source, 0)) for source, stream in self.streams.items())

    def successor(self) -> "Subscriber":
        """The same client for its next connection: it knows what has come and is not released [MQTT-4.1]."""
        successor = Subscriber(self.number, self._plan, self._board, self._credit)
        successor.streams = self.streams
        successor._unreleased = self._unreleased
        return successor

    def handle(self, packets: list[Packet]) -> None:
        """Take all packets of a chunk, answer with one write.

        Hot: consecutive messages of one publisher with one send time (it writes a window at once) are a
        run, which is counted as a whole; per message that leaves the unpacking and one comparison.
        """
        now = time.monotonic_ns()
        answers: list[bytes] = []
        unpack, size, padding_bytes = STAMP.unpack_from, self._size, self._padding
        run = total = 0
        source, sent_ns, stream = -1, 0, _NOWHERE
        for packet in packets:
            if type(packet) is not Publish:
                self._handle_other(packet, answers)
                continue
            if packet.qos and not self._acknowledge(packet, answers):
                continue
            payload = packet.payload
            if len(payload) != size or not payload.endswith(padding_bytes):
                self._board.corrupt += 1
                continue
            publisher, number, stamp = unpack(payload)
            if stamp != sent_ns or publisher != source:
                if run:
                    self._end_run(source, stream, run, now, sent_ns)
                run = 0
                source, sent_ns = publisher, stamp
                found = self.streams.get(publisher)
                if found is None:
                    found = self._discover(publisher, number)
                if found is None:
                    self._board.corrupt += 1
                    source = -1
                    continue
                stream = found
            run += 1
            total += 1
            if number == stream.expected:
                stream.expected = number + 1
            else:
                self._take_irregular(stream, number, packet)
        if run:
            self._end_run(source, stream, run, now, sent_ns)
        if answers:
            self.write(b"".join(answers))
        if total:
            board = self._board
            board.delivered += total
            board.last_delivery_ns = now
            board.check()

    def _discover(self, source: int, number: int) -> Stream | None:
        """The stream of a source of which nothing has come before; None if none is to be expected."""
        return None

    def _end_run(self, source: int, stream: Stream, run: int, now: int, sent_ns: int) -> None:
        if sent_ns >= self.since_ns:
            self._board.latency.record((now - sent_ns) // 1000, run)
        else:
            self._board.stored.record((now - self.since_ns) // 1000, run)
        if self._credit is not None:
            self._credit(source, run, stream.expected)

    def _take_irregular(self, stream: Stream, number: int, packet: Publish) -> None:
        board = self._board
        before = (stream.duplicates, stream.jumped_over, stream.order_errors)
        stream.take_irregular(number)
        board.duplicates += stream.duplicates - before[0]
        board.missing += stream.jumped_over - before[1]
        board.order_errors += stream.order_errors - before[2]

    def _acknowledge(self, packet: Publish, answers: list[bytes]) -> bool:
        """Answer a PUBLISH of QoS 1 or 2. False if it repeats one that we have already [MQTT-4.3.3-10]."""
        if packet.qos == 1:
            answers.append(encode_ack(Puback.packet_type, packet.packet_id, 0, self.version))
            return True
        answers.append(encode_ack(Pubrec.packet_type, packet.packet_id, 0, self.version))
        if packet.packet_id in self._unreleased:
            return False
        self._unreleased.add(packet.packet_id)
        return True

    def _handle_other(self, packet: Packet, answers: list[bytes]) -> None:
        if isinstance(packet, Pubrel):
            self._unreleased.discard(packet.packet_id)
            answers.append(encode_ack(Pubcomp.packet_type, packet.packet_id, 0, self.version))
        else:
            self.handle_control(packet)


def total_expected(subscribers: Iterable[Subscriber], owed: dict[int, int]) -> int:
    """How many different messages these subscribers should get, if `owed[i]` of source i were accepted."""
    return sum(owed.get(source, 0) for subscriber in subscribers for source in subscriber.streams)


_NOWHERE: Final = Stream()
