"""Addresses and directories, free or taken."""

import socket
import sys
from pathlib import Path

import anyio
import pytest

from broker.doctor.finding import Finding, Level
from broker.doctor.place import check_addresses, check_directory
from broker.settings import load


def addresses(*listen: str, **listeners: object) -> list[Finding]:
    """What is found at these."""
    node: dict[str, object] = {"listen": list(listen), "admin": ["off"]}
    flags = {"node": node, "listeners": listeners}
    return anyio.run(check_addresses, load(flags))


def test_a_free_port_and_its_family() -> None:
    v4, v6 = addresses("127.0.0.1:0", "[::1]:0")
    assert (v4.level, v4.found) == (Level.OK, "127.0.0.1:0: free (IPv4)")
    assert (v6.level, v6.found) == (Level.OK, "[::1]:0: free (IPv6)")


@pytest.mark.skipif(sys.platform != "linux", reason="who has a port is asked of /proc")
def test_a_port_of_another_program_is_told_with_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (finding,) = addresses(f"127.0.0.1:{taken.getsockname()[1]}")
    assert finding.level is Level.FAIL
    assert "in use by process" in finding.found


def test_an_address_that_is_not_of_this_machine() -> None:
    (finding,) = addresses("127.0.0.1:1883", tls={"address": "mqtt://192.0.2.1:1", "allow_anonymous": True})[
        1:
    ]
    assert finding.level is Level.FAIL
    assert "can't listen on 192.0.2.1:1" in finding.found


def test_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "mqtt.sock"

    def found() -> str:
        return addresses("off", local={"address": f"unix://{path}"})[0].found

    assert found() == f"{path}: free"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        assert "somebody listens there" in found()
    assert "left over" in found()
    (nowhere,) = addresses("off", local={"address": f"unix://{tmp_path}/none/mqtt.sock"})
    assert nowhere.level is Level.FAIL


def test_the_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load({"node": {"data_dir": tmp_path / "a" / "b"}})
    (finding,) = check_directory(settings)
    assert "MiB free" in finding.found
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr("broker.doctor.place._FREE_BYTES", 1 << 60)
    assert next(check_directory(settings)).level is Level.WARN
    monkeypatch.setattr("os.access", lambda *_: False)
    assert next(check_directory(settings)).level is Level.FAIL
