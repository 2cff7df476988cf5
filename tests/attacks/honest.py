"""A process of clients that do nothing but what they should: each publishes at QoS 1 every two seconds to a
topic of its own, to which it is subscribed, and answers what it gets.

Each line on standard input is a question; the answer is a line of JSON, of the time since the one before.
A newcomer tries to get in once a second, from an address of its own and with the right password.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Final

from broker.mqtt import Connack, Puback, Publish, Subscribe, SubscriptionRequest
from loadtest.hiccups import Pace, metering
from tests.attacks.link import Link

PERIOD_SECONDS: Final = 2.0
NEWCOMER: Final = "127.0.0.2"
USER, PASSWORD = "honest", b"a right password"
_CONNECTS_AT_A_TIME: Final = 20
_PAYLOAD: Final = bytes(64)


@dataclass
class Record:
    """Since the last question. `spans`, ns: from PUBLISH until both PUBACK and the message are back."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    newcomers: list[float] = field(default_factory=list)
    newcomers_refused: int = 0
    disconnects: int = 0

    def answer(self, waiting: int, pace: Pace) -> dict[str, object]:
        """`steady_p99_ms`: of messages that had nothing of the machine's slow moments."""
        latencies = _seconds(self.spans)
        steady = _seconds([span for span in self.spans if pace.was_steady(*span)])
        return {
            "messages": len(latencies),
            "waiting": waiting,
            "p50_ms": _quantile(latencies, 0.5),
            "p99_ms": _quantile(latencies, 0.99),
            "worst_ms": _quantile(latencies, 1.0),
            "steady_p99_ms": _quantile(steady, 0.99),
            "steady": len(steady),
            "disconnects": self.disconnects,
            "newcomers": len(self.newcomers),
            "newcomers_refused": self.newcomers_refused,
            "newcomers_worst_ms": _quantile(sorted(self.newcomers), 1.0),
        }


def _seconds(spans: list[tuple[int, int]]) -> list[float]:
    return sorted((end - begin) / 1e9 for begin, end in spans)


def _quantile(values: list[float], share: float) -> float:
    return round(values[min(len(values) - 1, int(share * len(values)))] * 1000, 1) if values else 0.0


class Crowd:
    """All of them."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._places = asyncio.Semaphore(_CONNECTS_AT_A_TIME)
        self.record = Record()
        self._missing = count
        self.is_there = asyncio.Event()
        self.waiting = 0

    async def client(self, number: int, count: int) -> None:
        """One, for ever."""
        topic = f"honest/{number}"
        async with self._places:
            link = await Link.open(self._port)
            connack = await link.connect(f"honest-{number}")
            assert isinstance(connack, Connack), connack
            assert connack.reason_code == 0, connack
            link.send(Subscribe(1, [SubscriptionRequest(topic, 1, False, False, 0)], None))
            await link.next()
        self._missing -= 1
        if not self._missing:
            self.is_there.set()
        await asyncio.sleep(PERIOD_SECONDS * number / count)
        try:
            await self._talk(link, topic)
        except (EOFError, OSError):
            self.record.disconnects += 1

    async def _talk(self, link: Link, topic: str) -> None:
        due = time.monotonic()
        while True:
            due += PERIOD_SECONDS
            began = time.monotonic_ns()
            link.send(Publish(topic, _PAYLOAD, 1, False, False, 2, None))
            self.waiting += 1
            missing = {Puback, Publish}
            while missing:
                packet = await link.next()
                missing.discard(type(packet))
                if isinstance(packet, Publish):
                    link.send(Puback(packet.packet_id))
                elif not isinstance(packet, Puback):
                    raise EOFError  # DISCONNECT
            self.waiting -= 1
            self.record.spans.append((began, time.monotonic_ns()))
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def newcomers(self) -> None:
        """One after the other."""
        while True:
            began = time.monotonic()
            try:
                link = await Link.open(self._port, NEWCOMER)
                connack = await link.connect("newcomer", USER, PASSWORD)
            except (EOFError, OSError):
                self.record.newcomers_refused += 1
            else:
                if isinstance(connack, Connack) and connack.reason_code == 0:
                    self.record.newcomers.append(time.monotonic() - began)
                else:
                    self.record.newcomers_refused += 1
                link.close()
            await asyncio.sleep(max(0.0, began + 1.0 - time.monotonic()))


async def _answer(crowd: Crowd, questions: asyncio.StreamReader) -> None:
    """Until there are no more questions. What is said is said when the machine is watched again."""
    line = "ready"
    while True:
        async with metering() as meter:
            print(line, flush=True)
            if not await questions.readline():
                return
            pace = await meter.pace()
        record, crowd.record = crowd.record, Record()
        line = json.dumps(record.answer(crowd.waiting, pace))


async def _main(port: int, count: int) -> None:
    crowd = Crowd(port, count)
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(crowd.client(number, count))
        await crowd.is_there.wait()
        tasks.create_task(crowd.newcomers())
        questions = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(questions), sys.stdin
        )
        await _answer(crowd, questions)
        sys.exit(0)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2])))
