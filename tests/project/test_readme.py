"""The commands of README.md work as they stand there: every one is known here, and run or called by CI."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import broker
from tests.e2e.program import Program
from tests.node.harness import NodeProcess, running_node
from tests.node.wire import connected
from tests.tools import require_tool

ROOT = Path(broker.__file__).parent.parent
SECONDS = 15.0
POLL_SECONDS = 0.05
FENCED = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MADE_BY_CI = {"make test"}
"""Targets that `.ci/run` calls; `make run` has a test of its own below."""


def _commands() -> list[str]:
    blocks = FENCED.findall((ROOT / "README.md").read_text())
    return [line for block in blocks for line in block.splitlines()]


def _beginning_with(words: str) -> list[str]:
    return [command for command in _commands() if command.startswith(words)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running_node(tmp_path_factory.mktemp("node")) as node:
        yield node


def _at(node: NodeProcess, command: str) -> list[str]:
    """The command, for this node's port in place of the usual one; its output comes line by line."""
    program, *arguments = shlex.split(command)
    return [require_tool("stdbuf"), "-oL", require_tool(program), "-p", str(node.port), *arguments]


def _output(command: list[str]) -> list[str]:
    """What it prints until it ends, well."""
    with Program(command, ROOT) as program:
        return program.wait()


def test_every_command_is_exercised() -> None:
    exercised = {"mosquitto_sub", "mosquitto_pub", ".venv/bin/moorline"}
    others = {command for command in _commands() if shlex.split(command)[0] not in exercised}
    assert others == {"make run"} | MADE_BY_CI


def test_ci_calls_the_targets() -> None:
    called = (ROOT / ".ci/run").read_text().splitlines()
    assert set(called) >= MADE_BY_CI


def test_every_target_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"run", "test", "lint", "ci"} <= targets
    missing = [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)]
    assert not missing


def test_mosquitto_commands(node: NodeProcess) -> None:
    """All lines in the order of the page. A mosquitto_sub without an end runs beside the others."""
    printed: list[str] = []
    running: list[Program] = []
    commands = [command for command in _commands() if command.startswith("mosquitto_")]
    try:
        for command in commands:
            ends = command.startswith("mosquitto_pub") or " -C " in command or command.endswith(" -E")
            if ends:
                printed += _output(_at(node, command))
            else:
                program = Program([*_at(node, command), "-d"])
                program.wait_for("Subscribed (mid: 1)")
                running.append(program)
        assert [program.wait_for("greetings/") for program in running] == ["greetings/world hello"]
    finally:
        for program in running:
            program.kill()
    assert printed == ["home/lamp/colour red", "home/lamp/colour blue", "home/door closed"]


def test_messages_wait_while_the_broker_is_killed(node: NodeProcess) -> None:
    """What the page says beside these commands."""
    subscribe, red, blue, fetch = (command for command in _commands() if "home/lamp" in command)
    _output(_at(node, subscribe))
    _output(_at(node, red))
    node.restart()
    _output(_at(node, blue))
    assert _output(_at(node, fetch)) == ["home/lamp/colour red", "home/lamp/colour blue"]


def test_load_generator(node: NodeProcess) -> None:
    (command,) = _beginning_with(".venv/bin/moorline loadtest")
    program, *arguments = shlex.split(command)
    assert Path(program).name == "moorline"
    with_less = [*arguments, "--broker", f"127.0.0.1:{node.port}", "--duration", "0.5", "--warm-up", "0.2"]
    report = _output([sys.executable, "-m", "broker", *with_less])
    assert re.search(r"lost +0$", "\n".join(report), re.MULTILINE)


@pytest.mark.timeout(60)
def test_a_second_node(node: NodeProcess) -> None:
    """It uses the private Redis of the first; the two are one broker."""
    serve, ask = (shlex.split(command)[1:] for command in _beginning_with(".venv/bin/moorline ")[:2])
    assert (serve[0], ask) == ("serve", ["ctl", "nodes"])
    places = {
        "unix://$PWD/moorline-data/redis.sock": f"unix://{node.data_dir}/redis.sock",
        "127.0.0.1:1884": "127.0.0.1:0",
        "127.0.0.1:8081": "127.0.0.1:0",
    }
    assert set(places) < set(serve)
    with Program([sys.executable, "-m", "broker", *(places.get(each, each) for each in serve)]) as second:
        port = second.wait_for("  mqtt ").rpartition(":")[2]
        second.wait_for("  redis ")
        with connected(int(port), "subscriber") as subscriber, connected(node.port, "publisher") as publisher:
            subscriber.subscribe("t", qos=1)
            publisher.publish("t", b"from the first node", 1)
            assert subscriber.message().payload == b"from the first node"
        command = [sys.executable, "-m", "broker", *ask, "--admin", f"http://127.0.0.1:{node.admin_port}"]
        deadline = time.monotonic() + SECONDS
        listed = ""  # a node says where it listens with its next life sign
        while not all(f"127.0.0.1:{each}" in listed for each in (node.port, port)):
            assert time.monotonic() < deadline, listed
            listed = "\n".join(_output(command))
        second.kill()


@pytest.mark.timeout(60)
def test_make_run(tmp_path: Path) -> None:
    """The real thing, where it need not compile for minutes first: in CI it has been compiled by then."""
    make = require_tool("make")
    is_built = subprocess.run(
        [make, "-q", "build/compiled.stamp"], cwd=ROOT, capture_output=True, check=False
    )
    if is_built.returncode != 0:
        pytest.skip("build/compiled is not current: make build")
    log = tmp_path / "log"
    arguments = f"ARGS=--listen 127.0.0.1:0 --admin off --data-dir {shlex.quote(str(tmp_path / 'data'))}"
    environment = {name: value for name, value in os.environ.items() if name != "MOORLINE_PURE"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [make, "run", arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        port = _port_in(log, process)
        publish = [require_tool("mosquitto_pub"), "-p", port, "-t", "t", "-q", "1", "-m", "hello"]
        subprocess.run(publish, timeout=SECONDS, check=True)
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
        process.wait(SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(SECONDS)
    assert '"stopped"' in log.read_text()


def _port_in(log: Path, process: "subprocess.Popen[bytes]") -> str:
    """The port that the node says it listens on."""
    while True:
        has_ended = process.poll() is not None
        text = log.read_text()
        found = re.search(r"^  mqtt +\S+:(\d+)$.*^  redis .*\n", text, re.MULTILINE | re.DOTALL)
        if found is not None:
            return found[1]
        assert not has_ended, text
        time.sleep(POLL_SECONDS)
