"""One structured line per event: JSON for machines, columns for people.

Loggers are those of the standard library, by module. What belongs to an event goes in as fields:

    logger = get_logger(__name__)
    logger.info("Client connected", extra={"client_id": client_id, "version": 5})

Never payloads, passwords or tokens: fields with such names are left out even if somebody passes them.
A connect or disconnect line may be written thousands of times a second, so `configure` switches off what a
record would look up and no formatter prints (caller, thread, process, task).
"""

import logging
import sys
import time
from typing import Any, Literal, TextIO

import orjson

LogFormat = Literal["auto", "json", "text"]

HIDDEN_FIELDS = frozenset({"payload", "password", "token", "authentication_data", "correlation_data"})
"""Fields that are never written."""

_NOT_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"} | HIDDEN_FIELDS
"""Attributes of a record which its formatter doesn't show as fields."""


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; pass `__name__`."""
    return logging.getLogger(name)


def configure(
    level: str = "info", log_format: LogFormat = "auto", node_id: str = "", stream: TextIO | None = None
) -> None:
    """Send lines of `level` and above to `stream` (default: standard error) and nowhere else.

    `auto` is text on a terminal and JSON elsewhere. `node_id` becomes a field of every line, unless empty.
    """
    output = sys.stderr if stream is None else stream
    if log_format == "auto":
        log_format = "text" if output.isatty() else "json"
    handler = logging.StreamHandler(output)
    handler.setFormatter(JsonFormatter(node_id) if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The ways that the logging documentation names to make records cheap: 7.7 us a line in place of 9.8.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # A line per HTTP server start and stop is noise next to ours.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class _Clock:
    """Seconds since 1970 to text, with the date part kept for as long as the second lasts."""

    __slots__ = ("_pattern", "_second", "_text")

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._second = -1
        self._text = ""

    def text(self, created: float) -> str:
        second = int(created)
        if second != self._second:
            self._second = second
            self._text = time.strftime(self._pattern, time.gmtime(second))
        return f"{self._text}.{int((created - second) * 1000):03d}Z"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, RFC 3339), level, logger, message, node_id, then the fields."""

    def __init__(self, node_id: str = "") -> None:
        super().__init__()
        self._clock = _Clock("%Y-%m-%dT%H:%M:%S")
        self._fixed = {"node_id": node_id} if node_id else {}

    def format(self, record: logging.LogRecord) -> str:
        """Values that JSON doesn't know are written as their text."""
        line: dict[str, Any] = {
            "time": self._clock.text(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fixed,
        }
        line.update(_fields(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, str).decode()
        except TypeError:  # a lone surrogate or an integer beyond 64 bits
            return orjson.dumps({name: ascii(value) for name, value in line.items()}).decode()


class TextFormatter(logging.Formatter):
    """Time (UTC), level, message and the fields as name=value."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = _Clock("%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Values from clients can't forge a line: whatever isn't plain is quoted and escaped."""
        parts = [self._clock.text(record.created), f"{record.levelname:<7}", record.getMessage()]
        parts.extend(f"{name}={_plain(value)}" for name, value in _fields(record).items())
        if record.exc_info:
            parts.append("\n" + self.formatException(record.exc_info))
        return " ".join(parts)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _NOT_FIELDS}


def _plain(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and not set(text) & {" ", '"', "=", "\\"} else ascii(text)
