"""The way of single messages, as spans: from the PUBLISH that came, over the store, to each that left.

Only messages with a User Property `traceparent` that says "sampled" have any [W3C Trace Context]. It is
forwarded as it is [MQTT-3.3.2-17], so whoever gets the message is part of the same trace, and each node makes
its spans by itself: all are children of the publisher's.

Theory of operation: packets are looked at where live traces look at them (`tracing`), so that nothing else
knows of it. `receive` goes from PUBLISH to the PUBACK or PUBREC that is written for it; `store` within it is
the exchange with Redis before that, for which the acknowledgement had to wait; `deliver` goes from the
PUBLISH that is written to its PUBACK or PUBCOMP. At QoS 0 there is nothing to wait for.
"""

import random
import re
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker.auth.http_client import read_headers
from broker.client.describing import cut
from broker.errors import StartError
from broker.mqtt import REASON_CODES, Packet, Puback, Pubcomp, Publish, Pubrec
from broker.observability.otlp import CONSUMER, INTERNAL, PRODUCER, Exporter, Span, closing
from broker.observability.token_bucket import TokenBucket
from broker.settings import TelemetrySettings

if TYPE_CHECKING:  # they need each other
    from broker.client.client import Client

OPEN_MAXIMUM: Final = 64
"""Spans of a client that have begun and not ended, each way."""

_TRACEPARENT: Final = "traceparent"
_TRACESTATE: Final = "tracestate"
_MARK: Final = b"\x26\x00\x0b" + _TRACEPARENT.encode()
"""How a PUBLISH that has it can be told from others without looking at them."""
_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE_CHARACTERS: Final = 512
_SAMPLED: Final = 1
_REFUSED: Final = 0x80


@dataclass(frozen=True, slots=True)
class Context:
    """Where a message comes from."""

    trace_id: str
    span_id: str
    state: str


def context_of(packet: Publish) -> Context | None:
    """None if it has none that can be read, or isn't sampled."""
    properties = packet.properties
    if properties is None or not properties.user_property:
        return None
    parents = [value for name, value in properties.user_property if name == _TRACEPARENT]
    found = _FORM.fullmatch(parents[0]) if len(parents) == 1 else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    is_valid = version != "ff" and (version != "00" or not more) and int(trace_id, 16) and int(span_id, 16)
    if not is_valid or not int(flags, 16) & _SAMPLED:
        return None
    state = ",".join(value for name, value in properties.user_property if name == _TRACESTATE)
    return Context(trace_id, span_id, state if len(state) <= _STATE_CHARACTERS else "")


class Spans:
    """Of a node."""

    def __init__(self, exporter: Exporter, per_second: int) -> None:
        self._exporter = exporter
        self._bucket = TokenBucket(per_second, per_second, time.monotonic())
        self._exchange = (0, 0)

    def observe_exchange(self, seconds: float) -> None:
        """Redis has answered a batch, after so long."""
        now_ns = time.time_ns()
        self._exchange = (now_ns - int(seconds * 1e9), now_ns)

    def begin(self, name: str, kind: int, context: Context, packet: Publish, client_id: str) -> Span | None:
        """None: there are too many."""
        if not self._bucket.take_if_there(time.monotonic()):
            self._exporter.leave_out()
            return None
        return Span(
            context.trace_id,
            new_span_id(),
            context.span_id,
            name,
            kind,
            time.time_ns(),
            attributes={
                "messaging.system": "mqtt",
                "messaging.operation.name": name,
                "messaging.operation.type": "receive" if kind == CONSUMER else "send",
                "messaging.destination.name": cut(packet.topic),
                "messaging.client.id": cut(client_id),
                "messaging.message.body.size": len(packet.payload),
                "moorline.qos": packet.qos,
                "moorline.retain": packet.retain,
                "moorline.dup": packet.dup,
            },
            trace_state=context.state,
        )

    def end(self, span: Span, error: str = "") -> None:
        """It is over."""
        span.end_ns = time.time_ns()
        if error:
            span.error = error
            span.attributes["error.type"] = error
        self._exporter.put(span)

    def end_stored(self, span: Span, error: str) -> None:
        """A `receive` that had to wait for the store."""
        start_ns, end_ns = self._exchange
        start_ns = max(start_ns, span.start_ns)
        if start_ns < end_ns and not error:
            stored = Span(span.trace_id, new_span_id(), span.span_id, "store", INTERNAL, start_ns, end_ns)
            stored.attributes = {"db.system.name": "redis", "messaging.system": "mqtt"}
            self._exporter.put(stored)
        self.end(span, error)


class ClientSpans:
    """Of one connection: spans that wait for an acknowledgement, by Packet Identifier."""

    __slots__ = ("_client", "_delivered", "_received", "_spans")

    def __init__(self, spans: Spans, client: "Client") -> None:
        self._spans = spans
        self._client = client
        self._received: dict[int, Span] = {}
        self._delivered: dict[int, Span] = {}

    def received(self, packets: Sequence[Packet]) -> None:
        """Packets have come."""
        for packet in packets:
            if isinstance(packet, Publish):
                self._open("receive", CONSUMER, packet, self._received)
            elif isinstance(packet, Puback | Pubcomp | Pubrec) and self._delivered:
                error = _error_of(packet.reason_code)
                if not isinstance(packet, Pubrec) or error:
                    self._close(packet.packet_id, error)

    def wants(self, data: bytes) -> bool:
        """Whether packets that are written have to be looked at."""
        return bool(self._received) or _MARK in data

    def sent(self, packets: Sequence[Packet]) -> None:
        """They have been written."""
        for packet in packets:
            if isinstance(packet, Publish):
                self._open("deliver", PRODUCER, packet, self._delivered)
            elif isinstance(packet, Puback | Pubrec):
                span = self._received.pop(packet.packet_id, None)
                if span is not None:
                    self._spans.end_stored(span, _error_of(packet.reason_code))

    def ended(self) -> None:
        """Nothing is acknowledged any more."""
        for span in (*self._received.values(), *self._delivered.values()):
            self._spans.end(span, "connection_closed")
        self._received.clear()
        self._delivered.clear()

    def _open(self, name: str, kind: int, packet: Publish, waiting: dict[int, Span]) -> None:
        context = context_of(packet)
        if context is None or (packet.qos and packet.packet_id in waiting):  # sent again
            return
        span = self._spans.begin(name, kind, context, packet, self._client.client_id)
        if span is None:
            return
        if packet.qos and len(waiting) < OPEN_MAXIMUM:
            waiting[packet.packet_id] = span
        else:
            self._spans.end(span)

    def _close(self, packet_id: int, error: str) -> None:
        span = self._delivered.pop(packet_id, None)
        if span is not None:
            self._spans.end(span, error)


@contextmanager
def open_spans(settings: TelemetrySettings, node: str, version: str) -> Iterator[Spans | None]:
    """None if nobody wants any. Raises StartError."""
    if settings.otlp_url is None:
        yield None
        return
    try:
        file = settings.headers_file
        given = read_headers(file) if file is not None else ()
        tls = ssl.create_default_context(cafile=settings.ca_file)
    except (ValueError, ssl.SSLError) as error:
        raise StartError(f"telemetry: {error}") from None
    resource = {
        "service.name": settings.service_name,
        "service.instance.id": node,
        "service.version": version,
    }
    headers = {name.decode(): value.decode("latin-1") for name, value in given}
    with closing(Exporter(settings.otlp_url, resource, headers, tls)) as exporter:
        yield Spans(exporter, settings.spans_per_second)


def new_span_id() -> str:
    """Random, and not 0."""
    return f"{random.randrange(1, 1 << 64):016x}"


def _error_of(reason_code: int) -> str:
    if reason_code < _REFUSED:
        return ""
    return REASON_CODES[reason_code].name.lower() if reason_code in REASON_CODES else f"0x{reason_code:02X}"
