"""A sink that somebody else has written, and one that is not there."""

import json
import os
import sys
from pathlib import Path

from tests.forwarding.conftest import forward, shown, wait_running, wait_until
from tests.node.harness import refused_start, running_node
from tests.node.wire import connected

MODULE = """
from contextlib import asynccontextmanager
from broker.forwarding import Refused, Retry

tries = []


class Lines:
    def __init__(self, file):
        self.file = file

    async def send(self, messages):
        tries.append(len(messages))
        if len(tries) == 1:
            raise ValueError("as it was asked to")
        if len(tries) == 2:
            raise Retry("not yet", after_seconds=0.1)
        if any(message.payload == b"bad" for message in messages):
            raise Refused("bad")
        for message in messages:
            print(message.key, message.topic, message.payload.decode(), file=self.file, flush=True)


@asynccontextmanager
async def lines(name, options):
    with open(options["file"], "a") as file:
        print(name, file=file, flush=True)
        yield Lines(file)
"""


def test_a_plugin_gets_the_messages_whatever_it_raises(tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    (plugins / "lined-1.dist-info").mkdir(parents=True)
    (plugins / "lined.py").write_text(MODULE)
    (plugins / "lined-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: lined\nVersion: 1\n"
    )
    (plugins / "lined-1.dist-info" / "entry_points.txt").write_text("[moorline.sinks]\nlines = lined:lines\n")
    file = tmp_path / "lines"
    environment = {
        **forward("it", kind="plugin", sink="lines", topics="t/#", options=json.dumps({"file": str(file)})),
        **forward("it", refused_tries=1, retry_seconds_maximum=0.5),
        "PYTHONPATH": os.pathsep.join([str(plugins), os.environ.get("PYTHONPATH", "")]),
    }
    program = (sys.executable, "-m", "broker.__main__")  # not forked: it has a path of its own
    with running_node(tmp_path, environment=environment, program=program) as node:
        wait_running(node, "it")
        with connected(node.port, "publisher") as publisher:
            for payload in (b"1", b"bad", b"2"):
                publisher.publish("t/x", payload, 1)
        wait_until(node, "it", lambda status: (status["sent"], status["refused"]) == (2, 1))
        assert shown(node, "it")["last_error"] == "refused: bad"
        assert node.events("a sink failed")
    assert file.read_text().split() == ["it", "it-1-1", "t/x", "1", "it-1-3", "t/x", "2"]


def test_a_plugin_that_is_not_installed_allows_no_start(tmp_path: Path) -> None:
    environment = forward("it", kind="plugin", sink="pigeon", topics="t/#")
    code, said = refused_start(tmp_path / "node", environment=environment)
    assert code == 2
    assert "no entry point 'pigeon' of moorline.sinks is installed" in said
