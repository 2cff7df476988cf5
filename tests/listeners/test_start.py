"""Nodes that start with listeners of their own, or don't: what is told, workers, `--listen off`."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.listeners.conftest import listener_environment, listening
from tests.node.harness import refused_start, running_node
from tests.tools import Certificate

REFUSED = 2
CLIENTS = 12
pytestmark = pytest.mark.timeout(60)


def test_workers_share_every_listener(tmp_path: Path, certificate: Certificate) -> None:
    """On the ports that the parent picked; a worker that is killed comes back to them."""
    environment = listener_environment(certificate)
    with running_node(tmp_path, "--workers", "2", "--node-name", "crew", environment=environment) as node:
        where = listening(node, certificate)
        for kind in ("tls", "ws", "wss"):
            clients = [where.wire(kind) for _ in range(CLIENTS)]
            for number, client in enumerate(clients):
                assert client.connect(f"{kind}-{number}").reason_code == 0
            for client in clients:
                client.close()
        taken = {str(event["node_id"]) for event in node.events("connected")}
        assert taken == {"crew-1", "crew-2"}  # all on one of two: once in 2^35 runs
        metrics = node.get("/metrics").text
        assert 'moorline_listener_connections{listener="wss",worker="crew-1"}' in metrics


def test_only_tls(tmp_path: Path, certificate: Certificate) -> None:
    """Started by hand, as the harness wants a plain listener."""
    environment = listener_environment(certificate)
    environment["MOORLINE_NODE__LISTEN"] = "off"
    config = tmp_path / "moorline.toml"
    config.write_text(f"[node]\ndata_dir = '{tmp_path / 'data'}'\nadmin = 'off'\n")
    code, output = _run_until_up(tmp_path, config, environment)
    assert code == 0
    assert "  mqtts  127.0.0.1:" in output
    assert "  mqtt   " not in output


def _run_until_up(directory: Path, config: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Starts a node by `--config`, and stops it when it is up; exit code and output."""
    with (directory / "log").open("w+b") as log:
        command = [sys.executable, "-m", "broker", "serve", "--config", str(config)]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)
        try:
            deadline = time.monotonic() + 15
            while "  redis  " not in (directory / "log").read_text():
                assert process.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.terminate()
            code = process.wait(12)
        finally:
            process.kill()
            process.wait()
    return code, (directory / "log").read_text()


def test_what_refuses_a_start(tmp_path: Path, certificate: Certificate) -> None:
    """Mistakes in the settings, all of them; a port that is taken, with and without TLS."""
    environment = listener_environment(certificate)
    wrong = environment | {
        "MOORLINE_LISTENERS__TLS__KEY": str(tmp_path / "none.key"),
        "MOORLINE_LISTENERS__WS__ADDRESS": "ws:127.0.0.1:8083",
    }
    code, output = refused_start(tmp_path / "wrong", environment=wrong)
    assert code == REFUSED
    assert output.startswith("moorline: 2 mistakes in the settings:\n")
    assert f"listeners.tls.key (MOORLINE_LISTENERS__TLS__KEY): '{tmp_path / 'none.key'}'" in output
    assert "listeners.ws.address (MOORLINE_LISTENERS__WS__ADDRESS): " in output
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        for name, address in (("ws", f"ws://{place}"), ("tls", f"mqtts://{place}")):
            variable = f"MOORLINE_LISTENERS__{name.upper()}__ADDRESS"
            code, output = refused_start(tmp_path / name, environment=environment | {variable: address})
            assert code == REFUSED
            assert f"moorline: can't listen on {place}: Address already in use" in output


def test_who_cannot_be_asked_refuses_a_start(tmp_path: Path) -> None:
    environment = {
        "MOORLINE_LISTENERS__A__ADDRESS": "mqtt://127.0.0.1:0",
        "MOORLINE_LISTENERS__A__AUTHENTICATION": '["password_file"]',
    }
    code, output = refused_start(tmp_path, environment=environment)
    assert code == REFUSED
    assert "listeners.a.authentication: password_file: not set up; there are: none" in output
    assert "Traceback" not in output
