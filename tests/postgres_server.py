"""A PostgreSQL of a test: private, on a unix socket, and gone afterwards. It refuses to run as root."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.tools import find_tool, missing

_START_SECONDS: Final = 40.0
_PLACES: Final = "/usr/lib/postgresql/*/bin"  # where Debian puts what is on nobody's PATH
_SETTINGS: Final = ("listen_addresses=", "fsync=off", "max_connections=20", "shared_buffers=16MB")


@dataclass
class Postgres:
    """A running server; `url` is for the node."""

    directory: Path
    _programs: Path
    _user: str | None
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Of its database."""
        return f"postgresql+asyncpg://moorline@/postgres?host={self.directory}"

    def start(self) -> None:
        """Waits until it answers."""
        options = [part for setting in _SETTINGS for part in ("-c", setting)]
        command = [
            str(self._programs / "postgres"),
            "-D",
            f"{self.directory}/data",
            "-k",
            str(self.directory),
            *options,
        ]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user)
        deadline = time.monotonic() + _START_SECONDS
        while not (self.directory / ".s.PGSQL.5432").exists() or not self._answers():
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            time.sleep(0.02)

    def execute(self, *statements: str) -> None:
        """As its owner."""
        self._psql(";".join(statements)).check_returncode()

    def stop(self) -> None:
        """At once; connections are lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_START_SECONDS)
            self._process = None

    def initialise(self) -> None:
        """Makes its files."""
        command = [
            str(self._programs / "initdb"), "-D", f"{self.directory}/data", "-U", "moorline", "-A", "trust",
            "-E", "UTF8", "--no-sync", "--no-instructions",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd=self.directory)

    def _answers(self) -> bool:
        return self._psql("SELECT 1").returncode == 0

    def _psql(self, text: str) -> "subprocess.CompletedProcess[bytes]":
        whose = ["-h", str(self.directory), "-U", "moorline", "-d", "postgres"]
        command = [str(self._programs / "psql"), *whose, "-c", text]
        return subprocess.run(command, capture_output=True, check=False)


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Up, and without tables; in a directory that another user may enter."""
    directory = Path(tempfile.mkdtemp(prefix="moorline-postgres-"))
    server = Postgres(directory, _programs(), _user(directory))
    try:
        server.initialise()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


def _programs() -> Path:
    found = sorted(Path("/").glob(f"{_PLACES.lstrip('/')}/initdb"))
    if found:
        return found[-1].parent
    path = find_tool("initdb")
    return Path(path).resolve().parent if path is not None else missing("PostgreSQL is not installed")


def _user(directory: Path) -> str | None:
    """Whom the server runs as; None: as we do."""
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("nobody")
    os.chown(directory, user.pw_uid, user.pw_gid)
    return user.pw_name
