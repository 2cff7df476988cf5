"""A shared subscription whose members and nodes are killed: `python -m tests.cluster.shared`, or `make
shared`.

Ten members on three nodes, half of them with persistent sessions. First a calm part: each gets its share.
Then clients cut their connections, leave, let themselves be taken over, and nodes are killed (kill -9), at
random. Each message at QoS 1 must be acknowledged by some member; a second group with persistent members at
QoS 2 gets each of its messages exactly once. Exit code 1 if not.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from broker.mqtt import Publish
from loadtest.peers import moorline_version
from tests.cluster.driver import Client, Move, Places, Profile
from tests.cluster.nodes import DAMPING_OFF, Cluster, running_cluster
from tests.cluster.publisher import Publisher
from tests.cluster.record import Message, Record, message_of
from tests.cluster.subscriber import Subscriber

MEMBERS: Final = 10
NODES: Final = 3
CALM_SHARE: Final = 0.2  # of the messages
CALM_SLICE: Final = 48
"""Messages at a time then: fewer than the window of a member, so that all have room however slow one is."""
SPREAD: Final = 0.1
"""How far from the mean a member's share may be while nothing happens."""
SETTLE_SECONDS: Final = 30.0
_WINDOW: Final = 100
_QOS_2_SHARE: Final = 10  # one in so many
_TOPICS: Final = {1: "work", 2: "twice"}


@dataclass
class Tally:
    """What has happened to the messages of both groups."""

    received: Counter[Message] = field(default_factory=Counter)
    by_member: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Member(Subscriber):
    """Tells the tally instead of the record, which would hold an event for each message."""

    def __init__(self, profile: Profile, places: Places, record: Record, seed: object, tally: Tally) -> None:
        super().__init__(profile, places, record, seed)
        self._tally = tally

    def _deliver(self, packet: Publish) -> None:
        self.delivered += 1
        self._tally.received[message_of(packet.topic, packet.payload)] += 1
        self._tally.by_member[self.name] += 1
        self._tally.news.set()


class Sender(Publisher):
    """Remembers what was acknowledged: how many of each topic and QoS, as sequence numbers have no gaps."""

    async def send_all(self, counts: dict[int, int]) -> None:
        """So many at each QoS."""
        left = dict(counts)
        while any(left.values()):
            for qos, share in ((1, _QOS_2_SHARE), (2, 1)):
                for _ in range(min(share, left.get(qos, 0))):
                    await self.publish(_TOPICS[qos], qos)
                    left[qos] -= 1
        await self.settle()


@dataclass
class Group:
    """Clients of a run, and their tasks."""

    members: list[Member]
    senders: list[Sender]
    tally: Tally
    record: Record
    sent: Counter[int] = field(default_factory=Counter)

    async def send(self, count: int) -> None:
        """Returns when all is acknowledged by the nodes."""
        each = count // len(self.senders)
        await asyncio.gather(
            *[sender.send_all({1: each, 2: each // _QOS_2_SHARE}) for sender in self.senders]
        )
        self.sent += Counter({1: each * len(self.senders), 2: each // _QOS_2_SHARE * len(self.senders)})

    async def warm_up(self) -> None:
        """Until each member of the group at QoS 1 has joined, which is a moment after its SUBACK."""
        names = [member.name for member in self.members if "qos1" in member.name]
        async with asyncio.timeout(SETTLE_SECONDS):
            while not all(self.tally.by_member[name] for name in names):
                await self.send(3 * len(names))
                await self.until_received(SETTLE_SECONDS)
        self.tally.by_member.clear()

    def missing(self) -> int:
        """Messages that no member has got."""
        return self.sent.total() - len(self.tally.received)

    async def until_received(self, seconds: float) -> None:
        """Until every message was received, or time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.missing():
                    self.tally.news.clear()
                    await self.tally.news.wait()

    def violations(self) -> list[str]:
        """What may not be."""
        found = [f"{event}" for event in self.record.events if type(event).__name__ == "Broken"]
        if self.missing():
            found.append(f"{self.missing()} messages were lost")
        twice = [message for message, times in self.tally.received.items() if message.qos == 2 and times > 1]
        found += [f"{message} was delivered {self.tally.received[message]} times" for message in twice]
        return found


def uneven(group: Group) -> list[str]:
    """Members of the group at QoS 1 whose share is too far from the others'."""
    shares = {
        member.name: group.tally.by_member[member.name] for member in group.members if "qos1" in member.name
    }
    mean = sum(shares.values()) / len(shares)
    return [
        f"{name} got {share}, not about {mean:.0f}"
        for name, share in shares.items()
        if abs(share - mean) > SPREAD * mean
    ]


async def strike(cluster: Cluster, group: Group, seed: object, pause: float) -> None:
    """Until cancelled: something happens to a member, a sender, or a node."""
    chance = random.Random(f"{seed}/faults")
    clients: list[Client] = [*group.members, *group.senders]
    while True:
        await asyncio.sleep(chance.uniform(0, 2 * pause))
        if chance.random() < 0.1:
            node = chance.choice(cluster.living())
            group.tally.faults["node killed"] += 1
            await node.kill()
            await asyncio.sleep(chance.uniform(0, pause))
            await node.start()
        else:
            how = chance.choice(list(Move))
            group.tally.faults[f"client: {how.value}"] += 1
            chance.choice(clients).move(how)


async def run(cluster: Cluster, count: int, seed: object, pause: float) -> tuple[Group, list[str]]:
    """The whole of it; what was violated."""
    tally, record = Tally(), Record()
    members = [
        Member(Profile(f"qos1-{number}", is_persistent=number % 2 == 0), cluster, record, seed, tally)
        for number in range(MEMBERS)
    ]
    members += [Member(Profile(f"qos2-{number}"), cluster, record, seed, tally) for number in range(NODES)]
    senders = [Sender(Profile(f"sender-{number}"), cluster, record, seed, _WINDOW) for number in range(NODES)]
    group = Group(members, senders, tally, record)
    async with asyncio.TaskGroup() as tasks:
        for client in (*members, *senders):
            tasks.create_task(client.run())
        for member in members:
            qos = 2 if member.name.startswith("qos2") else 1
            await member.subscribe(f"$share/team/{_TOPICS[qos]}", qos)
        await group.warm_up()
        for _ in range(int(count * CALM_SHARE) // CALM_SLICE):
            await group.send(CALM_SLICE)
            await group.until_received(SETTLE_SECONDS)
        violations = uneven(group)
        striking = tasks.create_task(strike(cluster, group, seed, pause))
        await group.send(int(count * (1 - CALM_SHARE)))
        striking.cancel()
        await asyncio.wait([striking])
        await cluster.revive()
        await group.until_received(SETTLE_SECONDS)
        violations += group.violations()
        for client in (*members, *senders):
            client.stop()
    return group, violations


async def _main(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as directory:
        async with running_cluster(Path(directory), NODES, environment=DAMPING_OFF) as cluster:
            started = time.monotonic()
            group, violations = await run(cluster, options.count, options.seed, options.pause)
            seconds = time.monotonic() - started
    tally = group.tally
    repeated = tally.received.total() - len(tally.received)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.faults.items()))
    print(
        f"{moorline_version()}, seed {options.seed}: {group.sent[1]:,} messages at QoS 1 for {MEMBERS}"
        f" members, {group.sent[2]:,} at QoS 2 for {NODES}, on {NODES} nodes in {seconds:.0f} s; faults:"
        f" {tally.faults.total()} ({kinds}); lost: {group.missing()}; repeated at QoS 1: {repeated}"
    )
    for violation in violations[:20]:
        print(violation)
    return 1 if violations else 0


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="messages at QoS 1")
    parser.add_argument("--seed", default=str(random.randrange(10**6)))
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between faults, on average")
    return uvloop.run(_main(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
