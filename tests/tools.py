"""Programs that pip doesn't bring. Without one its tests are skipped, with the reason; in CI they fail.

`.ci/deps` installs all of them.
"""

import os
import shutil
import signal
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import pytest

E2E = Path(__file__).parent / "e2e"
FETCHED = Path(__file__).parent.parent / "build" / "tools"
"""Where `.ci/kubernetes_tools.py` puts programs."""

NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of httpx that speak plain HTTP. Else each loads all authorities, which takes 50 ms."""

_SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"  # where Debian puts servers; not on everybody's PATH


def find_tool(name: str) -> str | None:
    """The path of a program, if it is installed."""
    fetched = shutil.which(name, path=FETCHED)
    return fetched or shutil.which(name) or shutil.which(name, path=_SYSTEM_DIRECTORIES)


def require_tool(name: str) -> str:
    """The path of a program, or the end of this test."""
    path = find_tool(name)
    return path if path is not None else missing(f"{name} is not installed")


def require_node_package(name: str) -> Path:
    """The directory to run `node` in so that `require(name)` works, or the end of this test."""
    require_tool("node")
    if not (E2E / "node_modules" / name / "package.json").is_file():
        missing(f"the npm package {name} is not installed (npm ci --prefix tests/e2e)")
    return E2E


@dataclass(frozen=True)
class Certificate:
    """A certificate of its own authority, and its key; PEM files."""

    file: Path
    key: Path


def make_certificate(
    directory: Path, name: str = "server", names: str = "DNS:localhost,IP:127.0.0.1"
) -> Certificate:
    """Made by openssl, in 10 ms; or the end of this test. `names`: what it is for."""
    made = Certificate(directory / f"{name}.crt", directory / f"{name}.key")
    command = [
        require_tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", f"subjectAltName={names}",
        "-keyout", str(made.key), "-out", str(made.file),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return made


def missing(reason: str) -> NoReturn:
    """The end of this test: without what is missing it has nothing to show."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}; with CI=true nothing is skipped", pytrace=False)
    pytest.skip(reason)


def hear_ctrl_c() -> None:
    """In a child, before it begins. What a shell runs in the background does not hear SIGINT, nor do its
    children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
