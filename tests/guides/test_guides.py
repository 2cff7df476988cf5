"""The scripts of docs/guides/ do what their pages say, while brokers and they themselves are killed."""

import contextlib
import queue
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import broker
from tests.forwarding.conftest import forward, wait_running
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import HOUR, connected

GUIDES = Path(broker.__file__).parent.parent / "docs/guides"
SECONDS = 15.0
pytestmark = pytest.mark.timeout(60)  # nodes are killed and started again, on a machine that may be busy


class Script:
    """A guide that runs, and its lines as they come."""

    def __init__(self, address: str, name: str, *arguments: str) -> None:
        command = [
            sys.executable,
            "-W",
            "error",
            str(GUIDES / f"{name}.py"),
            address,
            *arguments,
        ]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self) -> str | None:
        """The next one; None at the end."""
        return self._lines.get(timeout=SECONDS)

    def wait_for(self, pattern: str) -> list[str]:
        """The lines up to one that matches."""
        lines: list[str] = []
        while (line := self.line()) is not None:
            lines.append(line)
            if re.search(pattern, line):
                return lines
        raise AssertionError(f"no {pattern!r} in {lines}")

    def enter(self) -> None:
        """What a person who has done what it asks for presses."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def rest(self) -> list[str]:
        """Until its end, which is a good one."""
        lines = list(iter(self.line, None))
        assert self.process.wait(SECONDS) == 0
        return [line for line in lines if line is not None]


@contextlib.contextmanager
def script(at: NodeProcess | str, name: str, *arguments: str) -> Iterator[Script]:
    """Ended afterwards, whatever it does."""
    address = at if isinstance(at, str) else f"127.0.0.1:{at.port}"
    running = Script(address, name, *arguments)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One for all, killed and started again now and then."""
    with running_node(tmp_path_factory.mktemp("guides")) as node:
        yield node


def test_qos_for_telemetry_events_and_commands(node: NodeProcess) -> None:
    with script(node, "qos") as guide:
        guide.wait_for("^published")
        node.restart()
        guide.enter()
        got = [*guide.wait_for("plant/command"), *_entered(guide)]
    assert [line for line in got if line.startswith("got")] == [
        "got plant/event: door opened",
        "got plant/command: close valve",
    ]


def test_state_is_retained_and_events_wait_in_a_session(node: NodeProcess) -> None:
    with script(node, "retained") as guide:
        guide.wait_for("^lived")
        node.restart()
        guide.enter()
        got = guide.wait_for("^back")
        while sum("historian got door/events" in line for line in got) < 3 or not any(
            "newcomer" in x for x in got
        ):
            got += guide.wait_for(" got ")
        got += _entered(guide)
    newcomer, historian = (
        [line for line in got if line.startswith(who)] for who in ("newcomer", "historian")
    )
    assert newcomer == ["newcomer got door/state: open"]
    assert [line for line in historian if "events" in line] == [
        f"historian got door/events: {what}" for what in ("open", "closed", "open")
    ]


def _entered(guide: Script) -> list[str]:
    guide.enter()
    return guide.rest()


def test_an_outbox_outlives_the_broker_and_the_device(node: NodeProcess, tmp_path: Path) -> None:
    """Not one is lost, though both are killed in the middle; some may come twice."""
    arguments = (str(tmp_path / "outbox.db"), "60")
    with connected(node.port, "collector", properties=HOUR) as collector:
        collector.subscribe("devices/7/measured", qos=1)
    with script(node, "outbox", *arguments) as device:
        device.wait_for("acknowledged 10$")
        node.kill()
        device.process.kill()
    with script(node, "outbox", *arguments) as device:  # the broker is still away
        node.start()
        assert device.rest()[-1] == "the outbox is empty"
    with connected(node.port, "collector", clean_start=False, properties=HOUR) as collector:
        numbers: set[int] = set()
        while len(numbers) < 60:
            numbers.add(int(collector.message().payload.split()[0]))
    assert numbers == set(range(1, 61))


def test_what_comes_twice_is_booked_once(node: NodeProcess, tmp_path: Path) -> None:
    shop, stock = str(tmp_path / "shop.db"), str(tmp_path / "stock.db")
    with script(node, "transactional_outbox", stock, "book", "--crash-after", "5") as consumer:
        consumer.wait_for("subscribed")
        with script(node, "transactional_outbox", shop, "sell", "20") as seller:
            seller.wait_for("published 8$")
            node.restart()
            seller.rest()
        assert consumer.process.wait(SECONDS) == 1  # in the middle: booked, not acknowledged
    with script(node, "transactional_outbox", stock, "book") as consumer:
        lines = consumer.wait_for("had it")
        while lines.count("booked") < 15:
            lines += consumer.wait_for("booked")
    with contextlib.closing(sqlite3.connect(stock)) as database:
        assert database.execute("SELECT pieces FROM stock").fetchone() == (1000 - 20,)


def test_rows_of_an_outbox_are_marked_by_what_became_of_their_messages(tmp_path: Path) -> None:
    """Of eight that are sold while the consumer is away, its queue has room for five."""
    shop = str(tmp_path / "shop.db")
    with script("127.0.0.1:0", "transactional_outbox", shop, "mark") as marker:
        port = marker.wait_for("listening")[-1].split()[-1]
        topics = "$events/delivered/+,$events/dropped/+,$events/expired/+"
        environment = {
            **forward("outbox", kind="webhook", url=f"http://127.0.0.1:{port}/", topics=topics),
            **forward("outbox", queue_limit=1000),
            "MOORLINE_SESSION__QUEUE_LIMIT": "5",
        }
        with running_node(tmp_path, environment=environment) as node:
            wait_running(node, "outbox")
            with connected(node.port, "stock", properties=HOUR) as consumer:
                consumer.subscribe("shop/orders", qos=1)
                consumer.disconnect()
            with script(node, "transactional_outbox", shop, "sell", "8") as seller:
                seller.rest()
            for _ in range(3):
                marker.wait_for("^dropped")
            with connected(node.port, "stock", clean_start=False, properties=HOUR) as consumer:
                consumer.payloads(5)
                for _ in range(5):
                    marker.wait_for("^delivered")
    with contextlib.closing(sqlite3.connect(shop)) as database:
        outcomes = [outcome for (outcome,) in database.execute("SELECT outcome FROM outbox")]
    assert (outcomes.count("dropped"), outcomes.count("delivered")) == (3, 5)


def test_a_will_tells_how_a_device_went(node: NodeProcess) -> None:
    with script(node, "failure_detector", "watch") as watch:
        watch.wait_for("watching")
        with script(node, "failure_detector", "device", "7") as device:
            watch.wait_for("^7 there")
            device.process.kill()
            watch.wait_for("^7 lost")
        with script(node, "failure_detector", "device", "7") as device:
            watch.wait_for("^7 there")
            device.process.send_signal(signal.SIGSTOP)  # it hangs: only keep-alive finds out
            watch.wait_for("^7 lost")
            device.process.send_signal(signal.SIGCONT)
            watch.wait_for("^7 there")
            with connected(node.port, "somebody") as somebody:
                somebody.publish("devices/7/status", b"unknown", 1, retain=True)
            watch.wait_for("^7 unknown")  # else the next line could be what is retained
            node.restart()
            watch.wait_for("^7 there")
            device.process.terminate()
            watch.wait_for("^7 gone")
            assert device.process.wait(SECONDS) == 0


def test_a_fleet_comes_back_one_after_the_other(node: NodeProcess) -> None:
    def moments(fleet: Script) -> dict[str, float]:
        found: dict[str, float] = {}
        while len(found) < 10:
            number, _, _, moment = fleet.wait_for("connected at")[-1].split()
            found[number] = float(moment)
        return found

    with script(node, "reconnect", "10") as fleet:
        moments(fleet)
        node.restart()
        again = sorted(moments(fleet).values())
    assert again[-1] - again[0] > 0.2
