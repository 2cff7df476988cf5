"""The audit log: one structured record for each event that matters to whoever looks after security. Never
payloads, passwords or tokens.

Everybody writes to the logger `moorline.audit`, with `event` among the fields; `record` does so. Its lines
are in the log, and in a file of their own if there is one. That is written by a thread: a disk that is slow
or full holds up nobody, and what can't be written is counted. The file is opened anew when it is not there
any more under its name, or when told to; that is how it is rotated.
"""

import contextlib
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from prometheus_client.core import Metric

from broker.errors import StartError
from broker.observability.definition import Definition
from broker.observability.logs import JsonFormatter, get_logger
from broker.observability.token_bucket import TokenBucket

MESSAGE: Final = "audit"
LOGIN: Final = "login"
_WAITING_BYTES: Final = 4 << 20
_FIELD_CHARACTERS: Final = 1000
_LOOK_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 2.0
_COMPLAIN_SECONDS: Final = 60.0
_RATES: Final = {LOGIN: (200.0, 1000.0), "banned": (20.0, 100.0), "disconnected": (20.0, 100.0)}
"""Events that clients can cause at will: records a second, and at once."""

audit_logger: Final = get_logger("moorline.audit")
logger = get_logger(__name__)


class Allowance:
    """So many a second, and some at once. What is left out is counted, and told with the next one."""

    def __init__(
        self, per_second: float, at_once: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._bucket = TokenBucket(per_second, at_once, clock())
        self._suppressed = 0

    def take(self) -> int | None:
        """How many were left out before this one; None: so is this one."""
        if not self._bucket.take_if_there(self._clock()):
            self._suppressed += 1
            return None
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


class AuditFile(logging.Handler):
    """Lines of JSON at the end of a file. Raises StartError if it can't be opened."""

    def __init__(self, path: Path, node_id: str, with_logins: bool) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter(node_id))
        self.with_logins = with_logins
        self._path = path
        self._taking = threading.Lock()
        self._lines: list[bytes] = []
        self._waiting_bytes = 0
        self._is_torn = False  # the last line is not whole
        self._must_reopen = False
        self._is_closing = False
        self._work = threading.Event()
        self._complained_at = float("-inf")
        self.lost = 0
        """Records that are not in there."""
        try:
            self._file = self._open()
        except OSError as error:
            raise StartError(f"audit file {path}: {error.strerror or error}") from error
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a record, for the thread; or counts it, if that has too many. See logging.Handler."""
        line = self.format(record).encode(errors="replace") + b"\n"
        with self._taking:  # held for as long as it takes to append
            is_taken = self._waiting_bytes + len(line) <= _WAITING_BYTES
            if is_taken:
                self._waiting_bytes += len(line)
                self._lines.append(line)
        if is_taken:
            self._work.set()
        else:
            self.lost += 1

    def reopen(self) -> None:
        """Somebody has moved the file away."""
        self._must_reopen = True
        self._work.set()

    def close(self) -> None:
        """Writes what waits, if the disk lets it."""
        self._is_closing = True
        self._work.set()
        self._thread.join(_CLOSE_SECONDS)
        super().close()

    def _run(self) -> None:
        while not self._is_closing:
            self._work.wait(_LOOK_SECONDS)
            self._work.clear()
            self._write_all()
        self._write_all()
        os.close(self._file)

    def _write_all(self) -> None:
        with self._taking:
            lines, self._lines = self._lines, []
            self._waiting_bytes = 0
        data = b"".join(lines)
        try:
            if self._must_reopen or self._is_moved():
                self._must_reopen = False
                opened = self._open()
                os.close(self._file)
                self._file = opened
                self._is_torn = False
            self._write(data)
        except OSError as error:
            self.lost += len(lines)
            self._complain(error)

    def _write(self, data: bytes) -> None:
        if self._is_torn and data:
            data = b"\n" + data
        while data:
            written = os.write(self._file, data)
            self._is_torn = not data[:written].endswith(b"\n")
            data = data[written:]

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _is_moved(self) -> bool:
        own = os.fstat(self._file)
        if not stat.S_ISREG(own.st_mode):  # a pipe, say
            return False
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return True
        return (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino)

    def _complain(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._complained_at > _COMPLAIN_SECONDS:
            self._complained_at = now
            logger.error("the audit file can't be written: %s", error.strerror or error)


_allowances: Final = {event: Allowance(*rate) for event, rate in _RATES.items()}


def record(event: str, level: int = logging.INFO, /, **fields: object) -> None:
    """Notes that something has happened. Fields that are None are left out."""
    allowance = _allowances.get(event)
    if allowance is not None:
        suppressed = allowance.take()
        if suppressed is None:
            return
        if suppressed:
            fields["suppressed"] = suppressed
    audit_logger.log(level, MESSAGE, extra=_extra(event, fields))


def record_login(**fields: object) -> None:
    """A client was let in: for the file only, as the log has a line for each connection."""
    file = _open_file()
    if file is None or not file.with_logins:
        return
    suppressed = _allowances[LOGIN].take()
    if suppressed is None:
        return
    if suppressed:
        fields["suppressed"] = suppressed
    extra = _extra(LOGIN, fields)
    file.handle(
        audit_logger.makeRecord(audit_logger.name, logging.INFO, "", 0, MESSAGE, (), None, None, extra)
    )


@contextlib.contextmanager
def audit_file(path: Path | None, node_id: str, with_logins: bool) -> Iterator[None]:
    """All records go to that file, too. Raises StartError if it can't be opened."""
    if path is None:
        yield
        return
    root = logging.getLogger()
    for handler in root.handlers:  # what is too unimportant for the log is for the file all the same
        handler.setLevel(root.level)
    file = AuditFile(path, node_id, with_logins)
    level = audit_logger.level
    audit_logger.addHandler(file)
    audit_logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        audit_logger.removeHandler(file)
        audit_logger.setLevel(level)
        file.close()


def reopen_audit_file() -> None:
    """It was moved away. No-op if there is none."""
    file = _open_file()
    if file is not None:
        file.reopen()


def _lost(_: None) -> int:
    file = _open_file()
    return 0 if file is None else file.lost


DEFINITIONS: Final[tuple[Definition[None], ...]] = (
    Definition(
        "counter",
        "moorline_audit_lost",
        "Records that are missing in the audit file, as the disk was full or too slow.",
        _lost,
        note="See `auth.audit_file`.",
    ),
)


def audit_metrics() -> Iterator[Metric]:
    """As Prometheus has them."""
    return (definition.family(None) for definition in DEFINITIONS)


def _open_file() -> AuditFile | None:
    return next((each for each in audit_logger.handlers if isinstance(each, AuditFile)), None)


def _extra(event: str, fields: Mapping[str, object]) -> dict[str, object]:
    shown = {name: shortened(value) for name, value in fields.items() if value is not None}
    return {"event": event, **shown}


def shortened(value: object) -> object:
    """Text that may be as long as clients like."""
    is_long = isinstance(value, str) and len(value) > _FIELD_CHARACTERS
    return f"{str(value)[:_FIELD_CHARACTERS]}..." if is_long else value
