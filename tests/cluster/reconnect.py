"""How long clients are away when one of three nodes behind HAProxy is killed, and whether anything is lost.

`python -m tests.cluster.reconnect --clients 3000`, or `make reconnect`. Each client has a persistent session
and a topic of its own at QoS 1; three publishers, one on each node, publish to them all; then one node is
killed (kill -9). HAProxy runs with docs/haproxy.cfg. Exit code 1 if a client isn't back in time, or a promise
is broken.
"""

import argparse
import asyncio
import random
import resource
import shlex
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from loadtest.client import ConnectFailed
from loadtest.machine import describe_machine
from loadtest.pacer import Schedule, Ticker
from loadtest.peers import moorline_version
from loadtest.plan import CONNECTING_AT_ONCE
from loadtest.target import Target
from loadtest.worker import run_all
from tests.cluster.fleet import Publisher, ReturningClient, Shore, Subscriber
from tests.cluster.haproxy import NODES, Cluster, running_cluster
from tests.cluster.ledger import Ledger
from tests.tools import find_tool

CLIENTS_MAXIMUM: Final = 8_000
"""Files of this process, and twice of HAProxy's, which has 9,000 connections at most."""
BACK_SECONDS: Final = 30.0
"""A client that isn't back by then has failed."""
SETTLE_SECONDS: Final = 30.0
"""How long to wait at the end for what is still on its way."""
WINDOW: Final = 500
"""Messages outstanding per publisher; nodes take 1,000 by default."""

Row = tuple[str, str]


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    clients: int
    rate_per_second: float
    before_seconds: float
    after_seconds: float
    back_off_seconds: float
    seed: int
    write_to: Path | None


@dataclass(frozen=True)
class Outcome:
    """What was seen."""

    options: Options
    spread: Counter[str]
    """Clients of each node before the kill."""
    killed: str
    cut: int
    """Clients and publishers of the killed node."""
    settle_seconds: float
    back: list[float]
    """For each of them, seconds from the kill to its CONNACK."""
    connack: list[float]
    """For each of them, seconds from its CONNECT to its CONNACK."""
    sessions_present: int
    cut_elsewhere: int
    failed_connects: int
    published: int
    unacknowledged: int
    lost: int
    duplicates: int
    out_of_order: int
    misdirected: int
    faults: list[str]

    def rows(self) -> list[Row]:
        """The figures with their names."""
        spread = " / ".join(f"{count:,}" for _, count in sorted(self.spread.items()))
        options = self.options
        return [
            ("clients, persistent sessions", f"{options.clients:,} on {NODES} nodes ({spread})"),
            ("connected and subscribed within", f"{self.settle_seconds:.1f} s"),
            ("published meanwhile, QoS 1", f"{options.rate_per_second:,.0f}/s by {NODES} publishers"),
            ("killed (kill -9)", f"{self.killed}, with {self.cut:,} clients and publishers"),
            ("pause of a client that was cut", f"random, up to {options.back_off_seconds:g} s"),
            ("back", f"{len(self.back):,} of {self.cut:,}"),
            ("kill to CONNACK, p50 / p99 / last", _seconds(self.back, 1, "s")),
            ("CONNECT to CONNACK, p50 / p99 / last", _seconds(self.connack, 1000, "ms")),
            ("sessions present", f"{self.sessions_present:,}"),
            ("connects that failed", f"{self.failed_connects:,}"),
            ("clients of other nodes that were cut", f"{self.cut_elsewhere:,}"),
            ("messages published", f"{self.published:,}"),
            ("never acknowledged", f"{self.unacknowledged:,}"),
            ("acknowledged and lost", f"{self.lost:,}"),
            ("duplicates", f"{self.duplicates:,}"),
            ("out of order", f"{self.out_of_order:,}"),
        ]

    def problems(self) -> list[str]:
        """Promises that were not kept."""
        found = [
            (self.cut - len(self.back), f"clients not back within {BACK_SECONDS:.0f} s"),
            (len(self.back) - self.sessions_present, "clients came back without their session"),
            (self.cut_elsewhere, "clients of other nodes were cut"),
            (self.unacknowledged, "messages never acknowledged"),
            (self.lost, "acknowledged messages lost"),
            (self.out_of_order, "messages out of order"),
            (self.misdirected, "messages came to another client"),
        ]
        return [f"{count:,} {text}" for count, text in found if count] + self.faults[:10]


def _seconds(values: Sequence[float], scale: float, unit: str) -> str:
    if len(values) < 2:
        return "-"
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return " / ".join(f"{value * scale:.2f}" for value in (cuts[49], cuts[98], max(values))) + f" {unit}"


class Run:
    """One run on a cluster that is up."""

    def __init__(self, cluster: Cluster, options: Options) -> None:
        self._cluster = cluster
        self._options = options
        self._ledger = Ledger(options.clients)
        self._shore = Shore(
            Target("127.0.0.1", cluster.port),
            self._ledger,
            options.back_off_seconds,
            random.Random(options.seed),
        )
        self._subscribers = [Subscriber(number, self._shore) for number in range(options.clients)]
        self._publishers = [
            Publisher(number, self._shore, self._subscribers[number::NODES], WINDOW)
            for number in range(NODES)
        ]

    async def measure(self) -> Outcome:
        """Connect, publish, kill, wait, count. Raises ConnectFailed if it doesn't come that far."""
        settle_seconds = await self._settle()
        async with asyncio.TaskGroup() as group:
            staying = [group.create_task(client.stay()) for client in self._clients]
            ticker = self._publish()
            await asyncio.sleep(self._options.before_seconds)
            homes = {client_id: way[-1] for client_id, way in self._cluster.ways().items()}
            killed = homes[self._publishers[0].client_id]
            killed_at = self._kill(killed, homes)
            is_back = await self._shore.until(lambda: not self._shore.away, BACK_SECONDS)
            if is_back:
                await asyncio.sleep(self._options.after_seconds)
            ticker.stop()
            await self._shore.until(self._is_settled, SETTLE_SECONDS)
            for task in staying:
                task.cancel()
        await asyncio.gather(*(client.disconnect() for client in self._clients))
        return self._outcome(settle_seconds, homes, killed, killed_at)

    @property
    def _clients(self) -> list[ReturningClient]:
        return [*self._publishers, *self._subscribers]

    async def _settle(self) -> float:
        """Publishers first, one after the other: the nodes are empty, so each gets one."""
        begun = time.monotonic()
        for publisher in self._publishers:
            await publisher.connect()
        await run_all((client.settle() for client in self._subscribers), CONNECTING_AT_ONCE)
        return time.monotonic() - begun

    def _publish(self) -> Ticker:
        start_ns = time.monotonic_ns()
        schedule = Schedule(self._options.rate_per_second, start_ns)
        turn = 0

        def tick() -> None:
            nonlocal turn
            for _ in schedule.due(time.monotonic_ns()):
                self._publishers[turn % NODES].publish()
                turn += 1

        return Ticker(schedule.step_ns, start_ns, tick)

    def _kill(self, killed: str, homes: dict[str, str]) -> float:
        killed_at = time.monotonic()
        self._cluster.nodes[killed].kill()
        self._shore.away.update(client_id for client_id, home in homes.items() if home == killed)
        return killed_at

    def _is_settled(self) -> bool:
        return not self._ledger.missing and not self._ledger.unacknowledged

    def _outcome(
        self, settle_seconds: float, homes: dict[str, str], killed: str, killed_at: float
    ) -> Outcome:
        cut = [client for client in self._clients if homes[client.client_id] == killed]
        returns = [client.returns[1] for client in cut if len(client.returns) > 1]
        others = [client for client in self._clients if homes[client.client_id] != killed]
        ledger = self._ledger
        return Outcome(
            options=self._options,
            spread=Counter(homes[client.client_id] for client in self._subscribers),
            killed=killed,
            cut=len(cut),
            settle_seconds=settle_seconds,
            back=[each.at - killed_at for each in returns if each.at - killed_at <= BACK_SECONDS],
            connack=[each.seconds for each in returns],
            sessions_present=sum(each.session_present for each in returns),
            cut_elsewhere=sum(len(client.returns) > 1 for client in others),
            failed_connects=self._shore.failed_connects,
            published=sum(ledger.published),
            unacknowledged=ledger.unacknowledged,
            lost=len(ledger.missing),
            duplicates=ledger.duplicates,
            out_of_order=ledger.out_of_order,
            misdirected=ledger.misdirected,
            faults=self._shore.faults,
        )


async def _measure(cluster: Cluster, options: Options) -> Outcome:
    return await Run(cluster, options).measure()


def render_text(outcome: Outcome) -> str:
    """For a terminal."""
    lines = [f"  {name:<40} {value}" for name, value in outcome.rows()]
    return "\n".join([*lines, *(f"FAILED: {problem}" for problem in outcome.problems())])


_PAGE: Final = """\
# One of three nodes is killed

Three nodes on one Redis behind HAProxy, as [sticky routing](sticky-routing.md) describes it; clients with
persistent sessions and subscriptions at QoS 1; publishers that go on publishing. Nodes, Redis, HAProxy and
all clients share the machine. Written by `make reconnect`.

"""


def render_markdown(outcome: Outcome, command: str, version: str) -> str:
    """For docs/."""
    facts = [f"- {version}", f"- Machine: {describe_machine()}", f"- Command: `{command}`"]
    problems = [f"- Failed: {problem}" for problem in outcome.problems()]
    table = [
        "| figure | value |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in outcome.rows()),
    ]
    return _PAGE + "\n".join([*facts, *problems, "", *table, ""])


def parse_options(arguments: Sequence[str]) -> Options:
    """Read the command line; exits if it makes no sense."""
    parser = argparse.ArgumentParser(prog="reconnect", description=__doc__)
    parser.add_argument("--clients", type=int, default=3_000, help=f"2 to {CLIENTS_MAXIMUM} (3000)")
    parser.add_argument(
        "--rate", type=float, default=600.0, help="messages per second of all publishers (600)"
    )
    parser.add_argument("--before", type=float, default=3.0, help="seconds of publishing before the kill (3)")
    parser.add_argument(
        "--after", type=float, default=3.0, help="seconds of publishing after all are back (3)"
    )
    parser.add_argument("--back-off", type=float, default=1.0, help="longest first pause of a client, s (1)")
    parser.add_argument("--seed", type=int, default=1, help="of the pauses (1)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as Markdown, too")
    chosen = parser.parse_args(arguments)
    if not NODES <= chosen.clients <= CLIENTS_MAXIMUM:
        parser.error(f"--clients must be {NODES} to {CLIENTS_MAXIMUM}")
    return Options(
        clients=chosen.clients,
        rate_per_second=chosen.rate,
        before_seconds=chosen.before,
        after_seconds=chosen.after,
        back_off_seconds=chosen.back_off,
        seed=chosen.seed,
        write_to=chosen.write,
    )


def main(arguments: Sequence[str]) -> int:
    """Run it; 0, 1 if a promise is broken, 2 if it can't be run."""
    options = parse_options(arguments)
    program = find_tool("haproxy")
    if program is None:
        print("reconnect: haproxy is not installed (apt-get install haproxy)", file=sys.stderr)
        return 2
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # of the nodes and HAProxy, too
    with (
        tempfile.TemporaryDirectory(prefix="moorline-reconnect-") as directory,
        running_cluster(program, Path(directory)) as cluster,
    ):
        try:
            outcome = uvloop.run(_measure(cluster, options))
        except ConnectFailed as error:
            print(f"reconnect: {error}", file=sys.stderr)
            return 1
    print(render_text(outcome))
    if options.write_to is not None:
        command = shlex.join(["python", "-m", "tests.cluster.reconnect", *arguments])
        options.write_to.write_text(render_markdown(outcome, command, moorline_version()))
    return 1 if outcome.problems() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
