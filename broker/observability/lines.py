"""What lines of the log look like: JSON for machines, columns for people. Compiled, as two of them come with
each connection.

A connect or disconnect line may be written thousands of times a second. For these there is `note`: no record
is made, and the lines of one tick of the event loop are written together. Lines stay in order, whichever way
they come.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import orjson

HIDDEN_FIELDS: Final = frozenset({"payload", "password", "token", "authentication_data", "correlation_data"})
"""Fields that are never written."""

_NOT_NOTED: Final = HIDDEN_FIELDS | {"time", "level", "logger", "message", "node_id"}
"""Fields that need a closer look."""
_LINES_WAITING: Final = 256


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


class Lines:
    """Makes them, without their ends. `level` is in capitals, as loggers have it."""

    def line(self, created: float, level: str, name: str, message: str, fields: Mapping[str, object]) -> str:
        """Of something that the logger of this name says at `created`, in seconds since 1970."""
        raise NotImplementedError

    def noted(self, created: float, name: str, message: str, fields: Mapping[str, object]) -> str:
        """The same at level INFO for one of a few messages that come often. `fields` has none of the names
        that a line has by itself."""
        return self.line(created, "INFO", name, message, fields)


class JsonLines(Lines):
    """One JSON object a line: time (UTC, RFC 3339), level, logger, message, node_id, then the fields. Values
    that JSON doesn't know are written as their text."""

    def __init__(self, node_id: str = "") -> None:
        self._clock = _Clock("%Y-%m-%dT%H:%M:%S")
        self._fixed: dict[str, object] = {"node_id": node_id} if node_id else {}
        self._beginnings: dict[tuple[str, str], str] = {}  # of noted lines, from behind the time

    def line(self, created: float, level: str, name: str, message: str, fields: Mapping[str, object]) -> str:
        """See Lines."""
        line = {"time": self._clock.text(created), **self._head(level, name, message), **fields}
        try:
            return orjson.dumps(line, str).decode()
        except TypeError:  # a lone surrogate or an integer beyond 64 bits
            return orjson.dumps({name: ascii(value) for name, value in line.items()}).decode()

    def noted(self, created: float, name: str, message: str, fields: Mapping[str, object]) -> str:
        """See Lines."""
        beginning = self._beginnings.get((name, message))
        if beginning is None:
            beginning = orjson.dumps(self._head("INFO", name, message)).decode()[1:-1]
            self._beginnings[name, message] = beginning
        try:
            rest = orjson.dumps(fields, str).decode()
        except TypeError:
            return self.line(created, "INFO", name, message, fields)
        comma = "," if fields else ""
        return f'{{"time":"{self._clock.text(created)}",{beginning}{comma}{rest[1:]}'

    def _head(self, level: str, name: str, message: str) -> dict[str, object]:
        return {"level": level.lower(), "logger": name, "message": message, **self._fixed}


class TextLines(Lines):
    """Time (UTC), level, message and the fields as name=value. Values from clients can't forge a line:
    whatever isn't plain is quoted and escaped."""

    def __init__(self) -> None:
        self._clock = _Clock("%H:%M:%S")

    def line(self, created: float, level: str, name: str, message: str, fields: Mapping[str, object]) -> str:
        """See Lines."""
        parts = [self._clock.text(created), f"{level:<7}", message]
        parts.extend([f"{name}={_plain(value)}" for name, value in fields.items()])
        return " ".join(parts)


def _plain(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and not set(text) & {" ", '"', "=", "\\"} else ascii(text)


class Noted:
    """Lines of this tick, which `flush` takes at its end. `handler`, of the root logger, is the one for which
    they are."""

    __slots__ = ("_flush", "_lines", "handler", "waiting")

    def __init__(self, handler: logging.Handler, lines: Lines, flush: Callable[[], None]) -> None:
        self.handler = handler
        self.waiting: deque[str] = deque()  # other threads empty it, too
        self._lines = lines
        self._flush = flush

    def take(self) -> str:
        """The lines, with their ends; they do not wait any more. For one thread at a time."""
        waiting = self.waiting
        lines: list[str] = []
        while waiting:
            lines.append(waiting.popleft())
        lines.append("")
        return "\n".join(lines)

    def add(self, name: str, message: str, fields: Mapping[str, object]) -> None:
        """A line at level INFO. For the thread of the event loop."""
        waiting = self.waiting
        waiting.append(self._lines.noted(time.time(), name, message, fields))
        count = len(waiting)
        if count == 1:
            try:
                asyncio.get_running_loop().call_soon(self._flush)
            except RuntimeError:  # there is none
                self._flush()
        elif count >= _LINES_WAITING:
            self._flush()


_root: Final = logging.getLogger()
_noted: Noted | None = None


def note_by(noted: Noted) -> None:
    """From now on."""
    global _noted
    _noted = noted


def note(logger: logging.Logger, message: str, fields: Mapping[str, object]) -> None:
    """Like `logger.info(message, extra=fields)`, for what happens often, with one of a few messages. A kill
    may lose the lines of the tick."""
    if not logger.isEnabledFor(logging.INFO):
        return
    noted, handlers = _noted, _root.handlers
    is_ours = noted is not None and len(handlers) == 1 and handlers[0] is noted.handler
    if noted is not None and is_ours and _NOT_NOTED.isdisjoint(fields):
        noted.add(logger.name, message, fields)
    else:  # not configured by us, say: somebody wants records
        logger.info(message, extra=fields)
