"""The command line, against mosquitto and against nobody."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from loadtest.cli import app
from loadtest.peers import RunningBroker, running_mosquitto

COMMAND = [sys.executable, "-m", "loadtest"]


def run(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """The program as an operator runs it."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, input=stdin, check=False, timeout=15
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("pairs", "-n", "3", "--qos", "0"),
        ("pairs", "-n", "3", "--qos", "2", "--mqtt-version", "5"),
        ("pairs", "-n", "3", "--qos", "1", "--persistent"),
        ("fan-in", "-n", "3", "--qos", "1", "--payload", "300"),
        ("fan-out", "-m", "3", "--qos", "1", "--rate", "300"),
        ("pairs", "-n", "2", "--mqtt-version", "3"),
    ],
    ids=" ".join,
)
def test_messages(mosquitto: RunningBroker, arguments: tuple[str, ...]) -> None:
    limits = ("--duration", "0.4", "--warm-up", "0.1", "--pid", str(mosquitto.pid))
    done = run(*arguments, *limits, "--broker", mosquitto.address, "--json", "-")
    assert done.returncode == 0, done.stderr
    answer = orjson.loads(done.stdout)
    report = answer["report"]
    assert answer["scenario"] == arguments[0]
    assert report["lost"] == report["duplicates"] == report["order_errors"] == 0
    assert report["deliveries"] > 50
    assert report["broker"]["rss_bytes"] > 2**20
    assert report["timeline"]["samples"][-1]["broker"]["rss_bytes"] > 2**20
    assert "latency p50" in done.stderr  # the table leaves standard output to the JSON


def test_persistent_sessions_are_removed_afterwards(mosquitto: RunningBroker, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    limits = ("--count", "10", "--persistent", "--qos", "1", "--broker", mosquitto.address)
    done = run("pairs", "-n", "2", *limits, "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "delivered" in done.stdout
    assert orjson.loads(file.read_bytes())["report"]["persistent"] is True


def test_persistent_publishers(mosquitto: RunningBroker) -> None:
    limits = ("--count", "10", "--persistent", "--persistent-publishers", "--qos", "2")
    done = run("pairs", "-n", "2", *limits, "--broker", mosquitto.address)
    assert done.returncode == 0, done.stderr
    assert "persistent sessions, persistent publishers," in done.stdout


def test_connects(mosquitto: RunningBroker) -> None:
    arguments = ("connect", "-k", "5", "--duration", "0.4", "--sample", "0.1")
    done = run(*arguments, "--broker", mosquitto.address, "--json", "-")
    assert done.returncode == 0, done.stderr
    report = orjson.loads(done.stdout)["report"]
    samples = report["timeline"]["samples"]
    assert len(samples) >= 2
    assert max(sample["per_second"]["connects"] for sample in samples) > 50
    assert any(sample["latency_ms"] for sample in samples)
    assert report["connects"] > 50
    assert report["failed"] == 0


def test_idle_connections(mosquitto: RunningBroker) -> None:
    arguments = ("idle", "-n", "300", "--hold", "0.2", "--pid", str(mosquitto.pid))
    done = run(*arguments, "--broker", mosquitto.address, "--json", "-")
    assert done.returncode == 0, done.stderr
    report = orjson.loads(done.stdout)["report"]
    assert report["timeline"]["samples"]
    assert report["connections"] == 300
    assert 100 < report["rss_bytes_per_connection"] < 100_000


@pytest.mark.parametrize("qos", ["1", "2"])
def test_offline(mosquitto: RunningBroker, qos: str) -> None:
    arguments = ("offline", "-n", "3", "--count", "200", "--qos", qos, "--pause")
    done = run(*arguments, "--broker", mosquitto.address, "--json", "-", stdin="\n")
    assert done.returncode == 0, done.stderr
    report = orjson.loads(done.stdout)["report"]
    assert "press Enter" in done.stderr
    assert report["sessions_resumed"] == 3
    assert report["stored"]["messages"] == report["drained"]["messages"] == 600
    assert report["lost"] == report["duplicates"] == report["order_errors"] == 0
    assert report["timeline"]["samples"]


def test_offline_sessions_that_are_gone_fail_the_run(mosquitto: RunningBroker, tmp_path: Path) -> None:
    """Without persistence a restarted mosquitto has forgotten everything: the run has to say so."""
    other = tmp_path / "other"
    other.mkdir()
    with running_mosquitto(other) as forgetful:
        arguments = ("offline", "-n", "2", "--count", "5", "--pause", "--drain-timeout", "0.3")
        done = run(*arguments, "--broker", mosquitto.address, stdin=f"{forgetful.address}\n")
    assert done.returncode == 1
    assert "FAILED: 2 sessions were gone" in done.stderr
    assert "FAILED: 10 acknowledged messages were lost" in done.stderr


def test_ctrl_c_prints_the_report_so_far(mosquitto: RunningBroker) -> None:
    limits = ("--duration", "60", "--warm-up", "0")
    arguments = ("pairs", "-n", "2", *limits, "--broker", mosquitto.address)
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not _is_connected(process.pid):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert "note: interrupted" in out


def _is_connected(pid: int) -> bool:
    """Whether the process has the four sockets of two pairs, and so its signal handler."""
    links: list[str] = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(entry.path))
    return sum(link.startswith("socket:") for link in links) >= 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pairs", "--broker", "127.0.0.1:1"), "127.0.0.1:1"),
        (("pairs", "--broker", "192.0.2.1"), "--i-own-this-target"),
        (("pairs", "--payload", "8"), "a payload has 16 to"),
        (("fan-in", "-m", "2"), "fan-in has one subscriber"),
        (("idle", "-n", "1000000"), "open files"),
        (("offline", "--qos", "0"), "use QoS 1 or 2"),
        (("connect", "--broker", "nonsense:port"), "is not HOST:PORT"),
        (("show", "/nowhere/a.json"), "/nowhere/a.json: "),
        (("diff", "/dev/null", "/dev/null"), "/dev/null: no JSON"),
        (("compare", "hivemq"), "hivemq is none of mosquitto, aedes-redis"),
        (("compare", "mosquitto", "--scenario", "qos9"), "qos9 is none of qos0, "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_run_is_said_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("loadtest: ")


def test_a_missing_process_is_said_in_one_line(mosquitto: RunningBroker) -> None:
    done = run("connect", "--broker", mosquitto.address, "--pid", "999999999")
    assert (done.returncode, done.stderr) == (2, "loadtest: no such process: 999999999\n")
