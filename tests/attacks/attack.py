"""The attacks. Each is a process: `python -m tests.attacks.attack NAME TARGET`, TARGET in JSON; it ends by
itself and prints, as JSON, what it has seen.

To add one: a function here, and a line in ATTACKS.
"""

import asyncio
import contextlib
import json
import os
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from broker.mqtt import (
    MQTT_5,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    encode,
)
from tests.attacks.guesses import Guesser
from tests.attacks.link import Link, gathered
from tests.listeners.frames import BINARY, CONTINUATION, TEXT, frame, request

MEGABYTE: Final = 1 << 20


@dataclass(frozen=True)
class Target:
    """`scale` 1 is the long form; smaller ones do less of what counts by number."""

    port: int
    tls_port: int
    ws_port: int
    seconds: float
    scale: float = 1.0

    def of(self, number: int) -> int:
        """That many in the long form."""
        return max(1, int(number * self.scale))

    def deadline(self) -> float:
        """Monotonic; the attack is over then."""
        return time.monotonic() + self.seconds


Seen = Counter[str]
Run = Callable[[Target, Seen], Awaitable[None]]


@dataclass(frozen=True)
class Attack:
    """`settings` are of the node, beside those of all attacks (stage.SETTINGS): one that has any gets a node
    of its own."""

    run: Run
    title: str
    settings: Mapping[str, str] = field(default_factory=dict)


def _name(packet: Packet) -> str:
    if isinstance(packet, Connack | Disconnect):
        return f"{type(packet).__name__.upper()} {packet.reason_code:#04x}"
    return type(packet).__name__.upper()


async def _until_closed(link: Link, seen: Seen, deadline: float) -> None:
    """Reads what comes; counts how it ends."""
    try:
        async with asyncio.timeout_at(_loop_time(deadline)):
            while True:
                packet = await link.next()
                if isinstance(packet, Connack | Disconnect):
                    seen[_name(packet)] += 1
    except TimeoutError:
        seen["still open"] += 1
    except (EOFError, OSError):
        seen["closed by the node"] += 1
    finally:
        link.close()


def _loop_time(deadline: float) -> float:
    return asyncio.get_running_loop().time() + deadline - time.monotonic()


async def half_open(target: Target, seen: Seen) -> None:
    """Connections that say nothing."""
    deadline = target.deadline()

    async def one(number: int) -> None:
        try:
            link = await Link.open(target.port)
        except OSError:
            seen["not connected"] += 1
            return
        seen["connected"] += 1
        await _until_closed(link, seen, deadline)

    await gathered(target.of(2000), one)


async def drip(target: Target, seen: Seen) -> None:
    """A CONNECT of which a byte comes each second."""
    deadline = target.deadline()
    whole = encode(Connect("drip" * 20, MQTT_5, True, 0, None, None, None, None), MQTT_5)

    async def one(number: int) -> None:
        link = await Link.open(target.port)
        for byte in whole:
            link.writer.write(bytes([byte]))
            seen["bytes"] += 1
            if time.monotonic() > deadline or link.writer.transport.is_closing():
                break
            await asyncio.sleep(1.0)
        await _until_closed(link, seen, min(deadline, time.monotonic() + 0.1))

    await gathered(target.of(500), one)


async def wrong_passwords(target: Target, seen: Seen) -> None:
    """5,000 a second."""
    Guesser(target.port, seen).run(target.of(5000), target.seconds)


async def tls_garbage(target: Target, seen: Seen) -> None:
    """Random bytes, half a ClientHello, and handshakes that are broken off, where TLS is spoken."""
    deadline = target.deadline()
    hello = _client_hello()

    async def one(number: int) -> None:
        while time.monotonic() < deadline:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", target.tls_port)
                writer.write((os.urandom(4096), hello[: len(hello) // 2], hello)[number % 3])
                if number % 3:
                    await asyncio.sleep(0.05)
                else:
                    async with asyncio.timeout_at(_loop_time(deadline)):
                        await reader.read()
                seen["connections"] += 1
            except TimeoutError:
                seen["still open"] += 1
            except OSError as error:
                seen[type(error).__name__] += 1
            else:
                writer.transport.abort()

    await gathered(target.of(100), one)


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


async def websocket_frames(target: Target, seen: Seen) -> None:
    """Messages in fragments of one byte, frames that say they have an exabyte, text, nonsense."""
    deadline = target.deadline()
    first = frame(BINARY, b"\x10", fin=False)
    fragments = first + b"".join(frame(CONTINUATION, b"\xff", fin=False) for _ in range(1000))
    empty = first + frame(CONTINUATION, b"", fin=False) * 5000
    oversize = b"\x82\xff" + (1 << 60).to_bytes(8) + bytes(4) + os.urandom(65_536)
    bad = (fragments, empty, oversize, frame(TEXT, b"x" * 1000), os.urandom(4096))

    async def one(number: int) -> None:
        while time.monotonic() < deadline:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", target.ws_port)
                writer.write(request())
                await reader.readuntil(b"\r\n\r\n")
                writer.write(bad[number % len(bad)])
                async with asyncio.timeout_at(_loop_time(min(deadline, time.monotonic() + 2.0))):
                    await reader.read()
                seen["closed by the node"] += 1
            except TimeoutError:
                seen["still open"] += 1
            except (EOFError, OSError) as error:
                seen[type(error).__name__] += 1
            else:
                writer.transport.abort()

    await gathered(target.of(50), one)


async def large_connect(target: Target, seen: Seen) -> None:
    """CONNECTs of 10 MB: the length is said, and as much of it sent as is taken."""
    deadline = target.deadline()
    size = 10 * MEGABYTE
    head = bytes([0x10, 0x80 | size & 0x7F, 0x80 | size >> 7 & 0x7F, 0x80 | size >> 14 & 0x7F, size >> 21])
    body = b"\x00\x04MQTT\x05\x02\x00\x00\x00" + b"\xff\xff" + b"a" * size

    async def one(number: int) -> None:
        while time.monotonic() < deadline:
            try:
                link = await Link.open(target.port)
                link.writer.write(head + body)
                seen["connections"] += 1
                await _until_closed(link, seen, deadline)
            except OSError as error:
                seen[type(error).__name__] += 1

    await gathered(target.of(20), one)


async def subscribe_bomb(target: Target, seen: Seen) -> None:
    """10,000 filters a client, of many levels, with wildcards in most."""
    deadline = target.deadline()

    async def one(number: int) -> None:
        link = await Link.open(target.port)
        await link.connect(f"bomber-{number}")
        sent = 0
        try:
            async with asyncio.timeout_at(_loop_time(deadline)):
                while sent < 10_000:
                    requests = [
                        SubscriptionRequest(_deep_filter(each), 1, False, False, 0)
                        for each in range(sent, sent + 100)
                    ]
                    link.send(Subscribe(sent // 100 + 1, requests, None))
                    sent += 100
                    answer = await link.next()
                    if isinstance(answer, Suback):
                        seen["filters granted"] += sum(code < 0x80 for code in answer.reason_codes)
                        seen["filters refused"] += sum(code >= 0x80 for code in answer.reason_codes)
                    else:
                        seen[_name(answer)] += 1
                await asyncio.sleep(1e9)
        except TimeoutError:
            seen["still open"] += 1
        except (EOFError, OSError):
            seen["closed by the node"] += 1
        link.close()

    await gathered(target.of(10), one)


def _deep_filter(number: int) -> str:
    levels = ["+" if (number + level) % 3 else str(number) for level in range(15)]
    return "/".join([*levels, "#"])


async def retained_flood(target: Target, seen: Seen) -> None:
    """Retained messages, each under a topic of its own."""
    await _publish(target, seen, 10, lambda client, number: f"flood/{client}/{number}", 1000, retain=True)


async def publish_flood(target: Target, seen: Seen) -> None:
    """As many messages as this process can make, at QoS 1, and more at a time than was allowed."""
    await _publish(target, seen, 20, lambda client, number: "flood", 256, window=5000)


async def topic_names(target: Target, seen: Seen) -> None:
    """Topics that differ at their very end only, each of them once: caches are of no use, and comparing them
    takes as long as it can. Collisions of hashes can't be made: each process has a secret seed."""
    prefix = "level/" * 100
    await _publish(target, seen, 10, lambda client, number: f"{prefix}{client}/{number}", 16, qos=0)


async def _publish(
    target: Target,
    seen: Seen,
    clients: int,
    topic: Callable[[int, int], str],
    size: int,
    *,
    qos: int = 1,
    retain: bool = False,
    window: int = 500,
) -> None:
    deadline = target.deadline()
    payload = os.urandom(size)

    async def one(client: int) -> None:
        number = 0
        while time.monotonic() < deadline:
            try:
                link = await Link.open(target.port)
                await link.connect(f"flooder-{client}")
                answers = asyncio.create_task(_count_answers(link, seen))
                try:
                    async with asyncio.timeout_at(_loop_time(deadline)):
                        while not answers.done():
                            batch = [
                                Publish(
                                    topic(client, number + each), payload, qos, retain, False,
                                    (number + each) % window + 1 if qos else 0, None,
                                )
                                for each in range(100)
                            ]  # fmt: skip
                            number += 100
                            link.send(*batch)
                            seen["messages sent"] += 100
                            await link.writer.drain()
                            await asyncio.sleep(0)
                finally:
                    link.close()
                    answers.cancel()
                    await asyncio.gather(answers, return_exceptions=True)
            except TimeoutError:
                pass
            except (EOFError, OSError) as error:
                seen[type(error).__name__] += 1

    await gathered(target.of(clients), one)


async def _count_answers(link: Link, seen: Seen) -> None:
    try:
        while True:
            packet = await link.next()
            if isinstance(packet, Puback):
                seen["acknowledged" if packet.reason_code < 0x80 else f"PUBACK {packet.reason_code:#x}"] += 1
            else:
                seen[_name(packet)] += 1
    except (EOFError, OSError):
        seen["closed by the node"] += 1


async def never_reads(target: Target, seen: Seen) -> None:
    """Subscribers of a flood that read nothing, at QoS 0 and 1."""
    deadline = target.deadline()
    silent = []
    for number in range(target.of(50)):
        link = await Link.open(target.port)
        await link.connect(f"silent-{number}")
        link.send(Subscribe(1, [SubscriptionRequest("torrent", number % 2, False, False, 0)], None))
        await link.next()
        link.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket it can
        silent.append(link)
    flooder = await Link.open(target.port)
    await flooder.connect("torrent")
    while time.monotonic() < deadline:
        flooder.send(Publish("torrent", bytes(65_536), 0, False, False, 0, None))
        seen["messages sent"] += 1
        await asyncio.sleep(0.01)
    for link in silent:
        seen["closed by the node" if link.writer.transport.is_closing() else "still open"] += 1
        link.close()
    flooder.close()


ATTACKS: Final[Mapping[str, Attack]] = {
    "half_open": Attack(half_open, "2,000 connections that say nothing"),
    "drip": Attack(drip, "500 CONNECTs, a byte a second"),
    "wrong_passwords": Attack(wrong_passwords, "5,000 connections a second, each with a wrong password"),
    "tls_garbage": Attack(tls_garbage, "garbage and broken handshakes where TLS is spoken, 100 at a time"),
    "websocket_frames": Attack(websocket_frames, "WebSocket: fragments, oversize frames, text; 50 at a time"),
    "large_connect": Attack(large_connect, "CONNECTs of 10 MB, 20 at a time"),
    "subscribe_bomb": Attack(subscribe_bomb, "10 clients with 10,000 deep filters each"),
    "retained_flood": Attack(retained_flood, "10 clients that flood retained messages of 1,000 bytes"),
    "never_reads": Attack(never_reads, "50 subscribers of 6 MB/s that never read"),
    "publish_flood": Attack(publish_flood, "20 clients that publish at QoS 1 without waiting"),
    "topic_names": Attack(topic_names, "10 clients with topics that differ at their end only"),
}


async def _main(name: str, target: Target) -> None:
    seen: Seen = Counter()
    began = time.monotonic()
    await ATTACKS[name].run(target, seen)
    print(json.dumps({"seen": dict(seen), "seconds": time.monotonic() - began}), flush=True)


def command(name: str, target: Target) -> list[str]:
    """What runs it."""
    return [sys.executable, "-m", "tests.attacks.attack", name, json.dumps(asdict(target))]


if __name__ == "__main__":
    os.nice(10)  # who attacks has a machine of its own: it must not take the processor from those who measure
    asyncio.run(_main(sys.argv[1], Target(**json.loads(sys.argv[2]))))
