"""Spans for a tracing system, sent by OTLP: JSON over HTTP, as its specification has it.

Whoever makes spans hands them over and goes on. A thread sends them in batches; what the server can't take
now is sent again some times, later. Bounded: what waits, a batch, the tries. What is beyond that is left out,
counted, and told once a minute. The packages of OpenTelemetry would cost several times as much of the node
for each span, on the event loop and beside it: measured, docs/tracing.md.
"""

import contextlib
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import orjson

from broker.observability.logs import get_logger

INTERNAL: Final = 1
PRODUCER: Final = 4
CONSUMER: Final = 5

QUEUE: Final = 2048
BATCH: Final = 512
BATCH_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 5.0
RETRY_SECONDS: Final = (1.0, 2.0, 4.0)
_CLOSE_SECONDS: Final = 2.0
_COMPLAIN_SECONDS: Final = 60.0
_ERROR: Final = 2
_AGAIN: Final = frozenset({429, 502, 503, 504})
"""Statuses after which it may be tried again [OTLP: failures]."""
_SCOPE: Final = "moorline"

Value = str | int | bool

logger = get_logger(__name__)


@dataclass(slots=True)
class Span:
    """A piece of work, within the one that `parent_id` names. Ids are hexadecimal, moments are in
    nanoseconds since 1970. `error` says what went wrong, if anything did."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int = 0
    attributes: dict[str, Value] = field(default_factory=dict)
    trace_state: str = ""
    error: str = ""


class SpanTaker(Protocol):
    """Where spans go."""

    def put(self, span: Span) -> None:
        """Takes one that has ended, if there is room. Does not wait."""


class Exporter:
    """Sends spans to `url`, all of `resource` (the process, as attributes)."""

    def __init__(
        self,
        url: str,
        resource: Mapping[str, Value],
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._request_url = url
        self._resource = _attributes(resource)
        self._headers = {"Content-Type": "application/json", **headers}
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls), _NoRedirect()
        )
        self._taking = threading.Lock()
        self._spans: list[Span] = []
        self._work = threading.Event()
        self._closing = threading.Event()
        self._complained_at = float("-inf")
        self.lost = 0
        """Spans that were left out."""
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """Takes one that has ended, if there is room."""
        with self._taking:  # held for as long as it takes to append
            if len(self._spans) >= QUEUE:
                self.lost += 1
                return
            self._spans.append(span)
        self._work.set()

    def leave_out(self) -> None:
        """Somebody had a span, and made none of it."""
        with self._taking:
            self.lost += 1

    def close(self) -> None:
        """Sends what waits, if the server takes it at once."""
        self._closing.set()
        self._work.set()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        told = 0
        while not self._closing.is_set():
            self._work.wait()
            self._work.clear()
            self._closing.wait(BATCH_SECONDS)  # for more of them
            while self._send_some():
                pass
            if self.lost > told and self._may_complain():
                logger.warning("spans were left out: there are too many, or they can't be sent",
                               extra={"count": self.lost - told})  # fmt: skip
                told = self.lost

    def _send_some(self) -> bool:
        """A batch; False if there is nothing more."""
        with self._taking:
            batch, self._spans = self._spans[:BATCH], self._spans[BATCH:]
        if batch and not self._send(batch):
            with self._taking:
                self.lost += len(batch)
        return bool(batch)

    def _send(self, batch: Sequence[Span]) -> bool:
        content = orjson.dumps(_document(self._resource, batch))
        for pause_seconds in (*RETRY_SECONDS, 0.0):
            try:
                self._post(content)
                return True
            except urllib.error.HTTPError as error:
                reason, may_try_again = f"status {error.code}", error.code in _AGAIN
                error.close()
            except (OSError, ValueError) as error:
                reason, may_try_again = str(getattr(error, "reason", error)), True
            if not may_try_again or self._closing.wait(pause_seconds):
                break
        if self._may_complain():
            logger.warning("spans can't be sent: %s", reason)
        return False

    def _post(self, content: bytes) -> None:
        request = urllib.request.Request(self._request_url, content, self._headers, method="POST")
        with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            response.read(4096)

    def _may_complain(self) -> bool:
        now = time.monotonic()
        if now - self._complained_at < _COMPLAIN_SECONDS:
            return False
        self._complained_at = now
        return True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The headers are for whom they were given."""

    def redirect_request(self, *_: object) -> None:
        """Nowhere: it is an error."""


@contextlib.contextmanager
def closing(exporter: Exporter) -> Iterator[Exporter]:
    """Sends what waits at the end."""
    try:
        yield exporter
    finally:
        exporter.close()


def _document(resource: list[object], spans: Sequence[Span]) -> dict[str, object]:
    """An ExportTraceServiceRequest."""
    scope = {"scope": {"name": _SCOPE}, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [scope]}]}


def _span(span: Span) -> dict[str, object]:
    shown: dict[str, object] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_id,
        "flags": 0x101 if span.kind == INTERNAL else 0x301,  # sampled; whether the parent is elsewhere
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes),
    }
    if span.trace_state:
        shown["traceState"] = span.trace_state
    if span.error:
        shown["status"] = {"code": _ERROR, "message": span.error}
    return shown


def _attributes(values: Mapping[str, Value]) -> list[object]:
    return [{"key": name, "value": _value(value)} for name, value in values.items()]


def _value(value: Value) -> dict[str, object]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": value}
