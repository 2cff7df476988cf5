"""One structured line per event: JSON for machines, columns for people.

Loggers are those of the standard library, by module. What belongs to an event goes in as fields:

    logger = get_logger(__name__)
    logger.info("Client connected", extra={"client_id": client_id, "version": 5})

Never payloads, passwords or tokens: fields with such names are left out even if somebody passes them.

A connect or disconnect line may be written thousands of times a second. For these there is `note`: no record
is made, and the lines of one tick of the event loop are written together. Lines stay in order, whichever way
they come.
"""

import asyncio
import logging
import sys
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Final, Literal, TextIO

import orjson

LogFormat = Literal["auto", "json", "text"]

HIDDEN_FIELDS = frozenset({"payload", "password", "token", "authentication_data", "correlation_data"})
"""Fields that are never written."""

_NOT_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"} | HIDDEN_FIELDS
"""Attributes of a record which its formatter doesn't show as fields."""

_LINES_WAITING: Final = 256


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; pass `__name__`."""
    return logging.getLogger(name)


def note(logger: logging.Logger, message: str, fields: Mapping[str, object]) -> None:
    """Like `logger.info(message, extra=fields)`, for what happens often. A kill may lose the lines of the
    tick."""
    if not logger.isEnabledFor(logging.INFO):
        return
    handlers = logging.getLogger().handlers
    handler = handlers[0] if len(handlers) == 1 else None
    if isinstance(handler, LineHandler) and HIDDEN_FIELDS.isdisjoint(fields):
        handler.add(logger.name, message, fields)
    else:  # not configured by us, say: somebody wants records
        logger.info(message, extra=fields)


def set_level(level: str) -> None:
    """From now on."""
    logging.getLogger().setLevel(level.upper())


def configure(
    level: str = "info", log_format: LogFormat = "auto", node_id: str = "", stream: TextIO | None = None
) -> None:
    """Send lines of `level` and above to `stream` (default: standard error) and nowhere else.

    `auto` is text on a terminal and JSON elsewhere. `node_id` becomes a field of every line, unless empty.
    """
    output = sys.stderr if stream is None else stream
    if log_format == "auto":
        log_format = "text" if output.isatty() else "json"
    root = logging.getLogger()
    formatter = JsonFormatter(node_id) if log_format == "json" else TextFormatter()
    root.handlers[:] = [LineHandler(formatter, output)]
    set_level(level)
    # The ways that the logging documentation names to make records cheap: 7.7 us a line in place of 9.8.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # A line per HTTP server start and stop is noise next to ours.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class LineFormatter(logging.Formatter):
    """Makes a line of a record, or of what a record would have held."""

    @abstractmethod
    def line(self, created: float, level: str, name: str, message: str, fields: Mapping[str, object]) -> str:
        """Without the end of the line. `level` is in capitals."""


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes records at once, and what `add` takes at the end of the tick."""

    def __init__(self, formatter: LineFormatter, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)
        self._formatter = formatter
        self._waiting: deque[str] = deque()  # other threads empty it, too

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        self.flush()
        super().emit(record)

    def add(self, name: str, message: str, fields: Mapping[str, object]) -> None:
        """A line at level INFO. For the thread of the event loop."""
        waiting = self._waiting
        waiting.append(self._formatter.line(time.time(), "INFO", name, message, fields))
        if len(waiting) == 1:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:  # there is none
                self.flush()
        elif len(waiting) >= _LINES_WAITING:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        lines: list[str] = []
        self.acquire()
        try:
            while self._waiting:
                lines.append(self._waiting.popleft())
            if lines:
                self.stream.write("\n".join([*lines, ""]))
            super().flush()
        except (OSError, ValueError):  # nobody reads our lines any more: there is nowhere to say so
            return
        finally:
            self.release()


class _Clock:
    """Seconds since 1970 to text, with what has been made kept for as long as the second and the millisecond
    last."""

    __slots__ = ("_millisecond", "_pattern", "_second", "_text", "_whole")

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._second = -1
        self._text = ""
        self._millisecond = -1
        self._whole = ""

    def text(self, created: float) -> str:
        millisecond = int(created * 1000)
        if millisecond == self._millisecond:
            return self._whole
        second, rest = divmod(millisecond, 1000)
        if second != self._second:
            self._second = second
            self._text = time.strftime(self._pattern, time.gmtime(second))
        self._whole = f"{self._text}.{rest:03d}Z"
        self._millisecond = millisecond
        return self._whole


class JsonFormatter(LineFormatter):
    """One JSON object a line: time (UTC, RFC 3339), level, logger, message, node_id, then the fields."""

    def __init__(self, node_id: str = "") -> None:
        super().__init__()
        self._clock = _Clock("%Y-%m-%dT%H:%M:%S")
        self._fixed = {"node_id": node_id} if node_id else {}

    def format(self, record: logging.LogRecord) -> str:
        """Values that JSON doesn't know are written as their text."""
        fields = _fields(record)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return self.line(record.created, record.levelname, record.name, record.getMessage(), fields)

    def line(self, created: float, level: str, name: str, message: str, fields: Mapping[str, object]) -> str:
        """See LineFormatter."""
        line: dict[str, object] = {
            "time": self._clock.text(created),
            "level": level.lower(),
            "logger": name,
            "message": message,
            **self._fixed,
            **fields,
        }
        try:
            return orjson.dumps(line, str).decode()
        except TypeError:  # a lone surrogate or an integer beyond 64 bits
            return orjson.dumps({name: ascii(value) for name, value in line.items()}).decode()


class TextFormatter(LineFormatter):
    """Time (UTC), level, message and the fields as name=value."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = _Clock("%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Values from clients can't forge a line: whatever isn't plain is quoted and escaped."""
        line = self.line(record.created, record.levelname, record.name, record.getMessage(), _fields(record))
        return f"{line} \n{self.formatException(record.exc_info)}" if record.exc_info else line

    def line(self, created: float, level: str, name: str, message: str, fields: Mapping[str, object]) -> str:
        """See LineFormatter."""
        parts = [self._clock.text(created), f"{level:<7}", message]
        parts.extend(f"{name}={_plain(value)}" for name, value in fields.items())
        return " ".join(parts)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _NOT_FIELDS}


def _plain(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and not set(text) & {" ", '"', "=", "\\"} else ascii(text)
