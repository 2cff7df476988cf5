"""Log lines: JSON and text, fields, what is never written, and what clients can't forge."""

import asyncio
import io
import logging
from collections.abc import Iterator

import orjson
import pytest

from broker.observability.lines import note
from broker.observability.logs import configure, get_logger


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    kept = (root.handlers[:], root.level)
    flags = (logging._srcfile, logging.logThreads, logging.logProcesses, logging.logMultiprocessing)
    yield
    root.handlers[:], root.level = kept[0], kept[1]
    logging._srcfile, logging.logThreads, logging.logProcesses, logging.logMultiprocessing = flags
    logging.getLogger("uvicorn").setLevel(logging.NOTSET)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _line(**fields: object) -> dict[str, object]:
    stream = io.StringIO()
    configure(node_id="node-1", stream=stream)
    get_logger("broker.client").info("Client connected", extra=fields)
    line = orjson.loads(stream.getvalue())
    assert isinstance(line, dict)
    return line


def test_a_line_is_an_object_with_its_fields() -> None:
    line = _line(client_id="c", version=5)
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "broker.client",
        "message": "Client connected",
        "node_id": "node-1",
        "client_id": "c",
        "version": 5,
    }


def test_time_is_utc_with_milliseconds() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    record = logging.makeLogRecord({"msg": "x", "created": 1_700_000_000.25})
    assert '"time":"2023-11-14T22:13:20.250Z"' in logging.getLogger().handlers[0].format(record)


@pytest.mark.parametrize("name", ["payload", "password", "token", "authentication_data"])
def test_secrets_are_left_out(name: str) -> None:
    assert "secret" not in str(_line(**{name: "secret"}))


@pytest.mark.parametrize("value", ["\ud800", 2**70])
def test_values_that_json_lacks_are_written_all_the_same(value: object) -> None:
    assert "client_id" in _line(client_id=value)


def test_other_objects_are_written_as_their_text() -> None:
    assert _line(where=ValueError("x"))["where"] == "x"


def test_an_exception_is_a_field() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    try:
        raise ValueError("why")
    except ValueError:
        get_logger("x").exception("Failed")
    assert "ValueError: why" in orjson.loads(stream.getvalue())["exception"]
    assert stream.getvalue().count("\n") == 1


def test_a_terminal_gets_text_and_the_format_can_be_forced() -> None:
    stream = _Terminal()
    configure(stream=stream)
    get_logger("x").warning("Client lost", extra={"client_id": "c", "reason": "no keep alive"})
    assert stream.getvalue().endswith("Z WARNING Client lost client_id=c reason='no keep alive'\n")
    stream = _Terminal()
    configure(log_format="json", stream=stream)
    get_logger("x").info("y")
    assert orjson.loads(stream.getvalue())["message"] == "y"


@pytest.mark.parametrize("client_id", ["a\nFORGED line", "a\x1b[2J", 'x" level=error', "", "a=b"])
def test_a_client_cannot_forge_text(client_id: str) -> None:
    stream = io.StringIO()
    configure(log_format="text", stream=stream)
    get_logger("x").info("Client connected", extra={"client_id": client_id})
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().endswith(f" client_id={client_id!a}\n")


def test_text_shows_exceptions_below_the_line() -> None:
    stream = io.StringIO()
    configure(log_format="text", stream=stream)
    try:
        raise ValueError("why")
    except ValueError:
        get_logger("x").exception("Failed")
    assert "Failed \nTraceback" in stream.getvalue()


def test_levels_below_the_chosen_one_are_not_written() -> None:
    stream = io.StringIO()
    configure("warning", stream=stream)
    get_logger("x").info("no")
    get_logger("uvicorn.error").info("no")
    assert stream.getvalue() == ""


def _noted(stream: io.StringIO) -> list[str]:
    return [str(orjson.loads(line)["message"]) for line in stream.getvalue().splitlines()]


def test_a_noted_line_is_the_same_as_a_logged_one() -> None:
    stream = io.StringIO()
    configure(node_id="node-1", stream=stream)
    fields = {"client_id": "c", "version": 5}
    note(get_logger("broker.client"), "Client connected", fields)
    get_logger("broker.client").info("Client connected", extra=fields)
    first, second = (orjson.loads(line) for line in stream.getvalue().splitlines())
    assert list(first) == list(second)
    assert first.pop("time") <= second.pop("time")
    assert first == second


@pytest.mark.anyio
async def test_noted_lines_are_written_at_the_end_of_the_tick_and_in_order() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    logger = get_logger("x")
    note(logger, "1", {})
    note(logger, "2", {})
    assert stream.getvalue() == ""
    logger.info("3")
    assert _noted(stream) == ["1", "2", "3"]
    note(logger, "4", {})
    await asyncio.sleep(0)
    assert _noted(stream) == ["1", "2", "3", "4"]


@pytest.mark.anyio
async def test_only_so_many_noted_lines_wait() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    for number in range(256):
        assert stream.getvalue() == ""
        note(get_logger("x"), str(number), {})
    assert _noted(stream) == [str(number) for number in range(256)]


def test_noted_lines_respect_level_and_secrets() -> None:
    stream = io.StringIO()
    configure("warning", stream=stream)
    note(get_logger("x"), "no", {})
    assert stream.getvalue() == ""
    configure(stream=stream)
    note(get_logger("x"), "yes", {"password": "secret"})
    assert _noted(stream) == ["yes"]
    assert "secret" not in stream.getvalue()


@pytest.mark.anyio
async def test_a_log_that_nobody_reads_any_more_does_no_harm() -> None:
    stream = io.StringIO()
    configure(stream=stream)
    note(get_logger("x"), "y", {})
    stream.close()
    await asyncio.sleep(0)


def test_whoever_collects_records_gets_noted_ones(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        note(get_logger("x"), "y", {"client_id": "c"})
    (record,) = caplog.records
    assert record.__dict__["client_id"] == "c"


@pytest.mark.parametrize(
    "fields", [{"client_id": "\ud800"}, {"level": "mine"}, {"node_id": "mine", "x": 2**70}, {"password": "p"}]
)
def test_a_noted_line_with_unusual_fields_is_the_same_as_a_logged_one(fields: dict[str, object]) -> None:
    stream = io.StringIO()
    configure(node_id="node-1", stream=stream)
    note(get_logger("broker.client"), "Client connected", fields)
    get_logger("broker.client").info("Client connected", extra=fields)
    first, second = (orjson.loads(line) for line in stream.getvalue().splitlines())
    del first["time"], second["time"]
    assert first == second
