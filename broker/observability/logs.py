"""One structured line per event: JSON for machines, columns for people.

Loggers are those of the standard library, by module. What belongs to an event goes in as fields:

    logger = get_logger(__name__)
    logger.info("Client connected", extra={"client_id": client_id, "version": 5})

Never payloads, passwords or tokens: fields with such names are left out even if somebody passes them.
What comes thousands of times a second is noted (`broker.observability.lines`).
"""

import logging
import sys
from abc import abstractmethod
from typing import Literal, TextIO

from broker.observability.lines import HIDDEN_FIELDS, JsonLines, Lines, Noted, TextLines, note_by

LogFormat = Literal["auto", "json", "text"]

_NOT_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"} | HIDDEN_FIELDS
"""Attributes of a record which its formatter doesn't show as fields."""


def get_logger(name: str) -> logging.Logger:
    """The logger of a module; pass `__name__`."""
    return logging.getLogger(name)


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
    handler = LineHandler(formatter, output)
    root.handlers[:] = [handler]
    note_by(handler.noted)
    set_level(level)
    # The ways that the logging documentation names to make records cheap: 7.7 us a line in place of 9.8.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # A line per HTTP server start and stop is noise next to ours.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class LineFormatter(logging.Formatter):
    """Makes a line of a record."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self.lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        fields = _fields(record)
        message = record.getMessage()
        if not record.exc_info:
            return self.lines.line(record.created, record.levelname, record.name, message, fields)
        return self._with_exception(record, message, fields, self.formatException(record.exc_info))

    @abstractmethod
    def _with_exception(
        self, record: logging.LogRecord, message: str, fields: dict[str, object], exception: str
    ) -> str: ...


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes records at once, and what is noted at the end of the tick."""

    def __init__(self, formatter: LineFormatter, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)
        self.noted = Noted(self, formatter.lines, self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        self.flush()
        super().emit(record)

    def flush(self) -> None:
        """Writes what waits."""
        self.acquire()
        try:
            lines = self.noted.take()
            if lines:
                self.stream.write(lines)
            self.stream.flush()
        except (OSError, ValueError):  # nobody reads our lines any more: there is nowhere to say so
            return
        finally:
            self.release()


class JsonFormatter(LineFormatter):
    """See JsonLines; an exception is a field."""

    def __init__(self, node_id: str = "") -> None:
        super().__init__(JsonLines(node_id))

    def _with_exception(
        self, record: logging.LogRecord, message: str, fields: dict[str, object], exception: str
    ) -> str:
        fields["exception"] = exception
        return self.lines.line(record.created, record.levelname, record.name, message, fields)


class TextFormatter(LineFormatter):
    """See TextLines; an exception is below the line."""

    def __init__(self) -> None:
        super().__init__(TextLines())

    def _with_exception(
        self, record: logging.LogRecord, message: str, fields: dict[str, object], exception: str
    ) -> str:
        line = self.lines.line(record.created, record.levelname, record.name, message, fields)
        return f"{line} \n{exception}"


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _NOT_FIELDS}
