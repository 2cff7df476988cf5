"""docs/guided-failure.md, command by command, as it stands there."""

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import broker
from tests.cli.program import run
from tests.e2e.program import Program
from tests.ports import free_port
from tests.tools import require_tool

PAGE = Path(broker.__file__).parent.parent / "docs/guided-failure.md"
FENCED = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS = 30.0


class Stage:
    """Somebody who does what the page says, on other ports. `do` takes the next command, which begins so."""

    def __init__(self, directory: Path, running: ExitStack) -> None:
        self.directory = directory
        self._running = running
        blocks = FENCED.findall(PAGE.read_text().replace("\\\n", ""))
        self._commands: Iterator[str] = iter([line for block in blocks for line in block.splitlines()])
        self._ports = {port: str(free_port()) for port in ("1883", "1884", "8080", "8081")}
        self._environment = {"MOORLINE_ADMIN_URL": f"http://127.0.0.1:{self._ports['8080']}"}

    def next(self, beginning: str) -> str:
        """The next command, which begins so, for this stage."""
        command = next(self._commands)
        assert command.startswith(beginning), command
        for usual, port in self._ports.items():
            command = command.replace(usual, port)
        command = command.replace("$PWD/moorline-data", str(self.directory / "moorline-data"))
        return command.replace("failure.toml", str(self.directory / "failure.toml"))

    def start(self, beginning: str) -> Program:
        """One that goes on, until the end or until it is killed."""
        program, *arguments = shlex.split(self.next(beginning))
        if program == "moorline":
            data = ["--data-dir", str(self.directory / "moorline-data")]
            return self._running.enter_context(
                Program([sys.executable, "-m", "broker", *arguments, *data], seconds=SECONDS)
            )
        command = [require_tool("stdbuf"), "-oL", require_tool(program), *arguments]
        return self._running.enter_context(Program(command, seconds=SECONDS))

    def ask(self, beginning: str) -> Callable[[], tuple[int, str]]:
        """What `moorline ctl ...` says, with its exit code, each time that it is called."""
        arguments = shlex.split(self.next(beginning))[1:]

        def asked() -> tuple[int, str]:
            done = run(*arguments, environment=self._environment)
            return done.exit_code, done.output

        return asked

    def run(self, beginning: str) -> None:
        """One of the shell."""
        subprocess.run(["sh", "-c", self.next(beginning)], timeout=SECONDS, check=True)

    def assert_done(self) -> None:
        """There is no other command on the page."""
        assert next(self._commands, None) is None


def until(asked: Callable[[], tuple[int, str]], wanted: Callable[[int, str], bool]) -> str:
    """Asks again and again; what was said when it was as wanted."""
    deadline = time.monotonic() + SECONDS
    while True:
        code, said = asked()
        if wanted(code, said):
            return said
        assert time.monotonic() < deadline, (code, said)
        time.sleep(0.2)


def _configure(directory: Path, queue_limit: int) -> None:
    text = f"[session]\nqueue_limit = {queue_limit}\ninflight_limit = 20\n"
    (directory / "failure.toml").write_text(text)


@pytest.mark.timeout(180)
def test_every_command_of_the_page_in_its_order(tmp_path: Path) -> None:
    _configure(tmp_path, 100)
    for tool in ("mosquitto_sub", "mosquitto_pub", "stdbuf"):
        require_tool(tool)
    with ExitStack() as running:
        stage = Stage(tmp_path, running)
        stage.start("moorline serve").wait_for("  redis ")
        stage.start("moorline serve").wait_for("  redis ")
        assert "0 fail" in stage.start("moorline doctor").wait()[-1]
        until(stage.ask("moorline ctl nodes"), lambda _, said: said.count(" alive ") == 2)

        pump = stage.start("mosquitto_sub")
        until(
            stage.ask("moorline ctl clients"),
            lambda _, said: re.search(r"true +1 +0|yes +1 +0", said) is not None,
        )
        stage.next("kill -STOP")
        pump.send_signal(signal.SIGSTOP)
        stage.run("seq 103 |")
        until(stage.ask("moorline ctl alarms"), lambda code, said: code == 1 and "fullest queue" in said)
        said = until(stage.ask("moorline ctl session explain"), lambda _, said: "window is full" in said)
        assert "of 100" in said
        until(stage.ask("moorline ctl letters"), lambda _, said: "drop_oldest" in said)

        stage.next("kill -CONT")
        pump.send_signal(signal.SIGCONT)
        assert pump.wait_for("103") == "103"
        until(stage.ask("moorline ctl alarms"), lambda code, _: code == 0)
        _configure(tmp_path, 1000)
        code, said = stage.ask("moorline ctl reload")()
        assert (code, said.count("session.queue_limit 100 -> 1000")) == (0, 2), said

        code, said = stage.ask("moorline ctl drain beta")()
        assert (code, "has left" in said) == (0, True), said
        until(stage.ask("moorline ctl nodes"), lambda _, said: "alpha" in said and "beta" not in said)
        pump.kill()
        stage.run("mosquitto_pub")
        assert stage.start("mosquitto_sub").line() == "last"
        stage.assert_done()
