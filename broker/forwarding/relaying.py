"""Messages from one MQTT connection to another, one way, without an end in between: what the target says to a
message is what the source is told, under the same Packet Identifier.

So nothing is acknowledged to the source before the target has it, and a handshake at QoS 2 goes on wherever a
connection has broken, if both sessions are still there: the source sends again what it was not told, under
the identifier that it had, and the target knows that one. Whoever opens the two connections sees to it that
the target's session begins anew where the source's does; else it would take new messages for old ones.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio

from broker.forwarding.link import Link, name_of
from broker.mqtt import Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel

_REFUSED = 0x80


@dataclass(slots=True)
class Relay:
    """`translate` makes of a message what the target gets, None: nothing, it is done with. `window`: so many
    at QoS 1 and 2 may the target have at a time. `on_taken` hears how many it has, `on_refused` which topic
    it refuses, and why."""

    source: Link
    target: Link
    window: int
    translate: Callable[[Publish], Publish | None]
    on_taken: Callable[[int], None]
    on_refused: Callable[[str, str], Awaitable[None]]
    _held: deque[Publish] = field(default_factory=deque)
    _open: dict[int, str] = field(default_factory=dict)  # topics of what the target has to answer
    _done: set[int] = field(default_factory=set)  # QoS 2, ended by us: PUBREL is for us, too

    async def run(self) -> None:
        """Until cancelled. Raises LinkLost if either connection ends."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._forth)
            tasks.start_soon(self._back)

    async def _forth(self) -> None:
        while True:
            packets = await self.source.receive()
            self._held += [packet for packet in packets if isinstance(packet, Publish)]
            self._release([packet for packet in packets if isinstance(packet, Pubrel)])
            self._send_held()
            await self.target.drain()

    def _release(self, pubrels: Sequence[Pubrel]) -> None:
        ours = [pubrel.packet_id for pubrel in pubrels if pubrel.packet_id in self._done]
        self._done.difference_update(ours)
        self.source.send([Pubcomp(packet_id) for packet_id in ours])
        self.target.send([pubrel for pubrel in pubrels if pubrel.packet_id not in ours])

    def _send_held(self) -> None:
        """As far as there is room."""
        packets: list[Packet] = []
        answers: list[Packet] = []
        at_most_once = 0
        while self._held and (not self._held[0].qos or len(self._open) < self.window):
            publish = self._held.popleft()
            translated = self.translate(publish)
            if translated is None:
                self._end(publish, answers)
                continue
            packets.append(translated)
            if publish.qos:
                self._open[publish.packet_id] = translated.topic
            else:
                at_most_once += 1
        self.target.send(packets)
        self.source.send(answers)
        if at_most_once:
            self.on_taken(at_most_once)

    def _end(self, publish: Publish, answers: list[Packet]) -> None:
        if publish.qos == 1:
            answers.append(Puback(publish.packet_id))
        elif publish.qos == 2:
            self._done.add(publish.packet_id)
            answers.append(Pubrec(publish.packet_id))

    async def _back(self) -> None:
        while True:
            packets = await self.target.receive()
            answers = [packet for packet in packets if isinstance(packet, Puback | Pubrec | Pubcomp)]
            taken = 0
            for answer in answers:
                is_refused = answer.reason_code >= _REFUSED and not isinstance(answer, Pubcomp)
                if isinstance(answer, Pubrec) and not is_refused:
                    continue
                topic = self._open.pop(answer.packet_id, None)
                if is_refused and topic is not None:
                    await self.on_refused(topic, name_of(answer.reason_code))
                elif topic is not None:
                    taken += 1
            self.source.send([type(answer)(answer.packet_id, answer.reason_code) for answer in answers])
            if taken:
                self.on_taken(taken)
            self._send_held()
