"""Spans on their way to a server: as they are written, when it fails, when there are too many."""

import time
from collections.abc import Callable
from contextlib import closing

import pytest

from broker.observability import otlp
from broker.observability.otlp import BATCH, INTERNAL, PRODUCER, QUEUE, Exporter, Span
from tests.observability.collector import collecting, plain

NOBODY = "http://127.0.0.1:1/v1/traces"
RESOURCE = {"service.name": "x"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "BATCH_SECONDS", 0.01)
    monkeypatch.setattr(otlp, "RETRY_SECONDS", (0.01, 0.01))


def span(number: int = 1, **fields: object) -> Span:
    made = Span("a" * 32, f"{number:016x}", "b" * 16, "receive", PRODUCER, 1, 2)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_as_it_is_written() -> None:
    told = span(attributes={"a": "b", "n": 7, "is": True}, trace_state="x=1", error="too_late")
    with collecting() as collector:
        with closing(Exporter(collector.url, RESOURCE, {"Authorization": "Bearer x"})) as exporter:
            exporter.put(told)
            exporter.put(span(2, kind=INTERNAL))
        collector.wait_until(lambda: len(collector.spans) == 2)
    first, second = collector.spans
    assert plain(first.pop("attributes")) == {"a": "b", "n": "7", "is": True}
    assert first == {
        "traceId": "a" * 32,
        "spanId": "0000000000000001",
        "parentSpanId": "b" * 16,
        "flags": 0x301,
        "name": "receive",
        "kind": PRODUCER,
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
        "traceState": "x=1",
        "status": {"code": 2, "message": "too_late"},
    }
    assert (second["flags"], "status" in second, "traceState" in second) == (0x101, False, False)
    assert collector.resources == [{"service.name": "x"}]
    (headers,) = collector.headers
    assert (headers["content-type"], headers["authorization"]) == ("application/json", "Bearer x")


def test_what_can_not_be_taken_now_comes_later() -> None:
    with collecting() as collector, closing(Exporter(collector.url, RESOURCE, {})) as exporter:
        collector.statuses = [503, 429]
        exporter.put(span())
        collector.wait_until(lambda: len(collector.spans) == 1)
        assert exporter.lost == 0


@pytest.mark.parametrize("statuses", [[400], [307], [503, 503, 503]])
def test_what_is_refused_is_counted(statuses: list[int], caplog: pytest.LogCaptureFixture) -> None:
    with collecting() as collector, closing(Exporter(collector.url, RESOURCE, {})) as exporter:
        collector.statuses = list(statuses)
        exporter.put(span())
        wait_until(lambda: exporter.lost == 1)
        exporter.put(span(2))
        collector.wait_until(lambda: len(collector.spans) == 1)
        assert collector.statuses == []
    assert f"status {statuses[0]}" in caplog.text


def test_nobody_is_there(caplog: pytest.LogCaptureFixture) -> None:
    with closing(Exporter(NOBODY, RESOURCE, {})) as exporter:
        exporter.put(span())
        wait_until(lambda: exporter.lost == 1)
        exporter.leave_out()
        assert exporter.lost == 2
    assert caplog.text.count("spans can't be sent") == 1


def test_no_more_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "BATCH_SECONDS", 60.0)
    with collecting() as collector:
        with closing(Exporter(collector.url, RESOURCE, {})) as exporter:
            for number in range(QUEUE + 3):
                exporter.put(span(number + 1))
            assert exporter.lost == 3
        # What waits at the end is sent, in batches.
        collector.wait_until(lambda: len(collector.spans) == QUEUE)
        assert len(collector.headers) == QUEUE // BATCH


def test_the_end_does_not_wait_for_a_server_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "RETRY_SECONDS", (60.0, 60.0))
    with collecting() as collector:
        collector.statuses = [503] * 10
        began = time.monotonic()
        with closing(Exporter(collector.url, RESOURCE, {})) as exporter:
            exporter.put(span())
            collector.wait_until(lambda: bool(collector.headers))
        assert time.monotonic() - began < 5
