"""Taps in a node, on a real Redis: what is told, what is left out, and when they end."""

from collections.abc import Mapping
from contextlib import aclosing
from typing import cast

import anyio
import orjson
import pytest

from cluster import tap_book
from cluster.questions import Answers, QuestionRefused, Questions
from cluster.store import keys, taps
from cluster.store.errors import StoreError, StoreUnavailable
from cluster.store.store import Store, open_store
from cluster.store.taps import Told
from cluster.tap_book import LeftOut, NobodyTells, Reader, Record, TapBook, Watched
from cluster.taps import (
    QUESTION,
    RECORD_BYTES,
    RECORDS_AT_ONCE,
    RECORDS_PER_SECOND,
    TAP_SECONDS,
    TAPS_MAXIMUM,
    Tap,
    Taps,
)
from tests.cluster.waiting import poll_until
from tests.store.caller import Caller
from tests.store.servers import RunningServer

pytestmark = pytest.mark.anyio


class Numbers:
    """A source that tells what a test says."""

    def __init__(self) -> None:
        self.taps: dict[str, Tap] = {}
        self.refusal = ""

    async def begin(self, tap: Tap, asked: Mapping[str, object]) -> None:
        if self.refusal:
            raise ValueError(self.refusal)
        assert asked == {"of": "everything"}
        self.taps[tap.id] = tap

    def end(self, tap_id: str) -> None:
        self.taps.pop(tap_id, None)

    def tell(self, *numbers: int, now: float = 0.0) -> None:
        for tap in self.taps.values():
            for number in numbers:
                if tap.offer(now):
                    tap.put(b"%d" % number)


class Clock:
    """Stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def question(tap_id: str, seconds: float = TAP_SECONDS, source: str = "numbers") -> bytes:
    return orjson.dumps({"id": tap_id, "source": source, "seconds": seconds, "what": {"of": "everything"}})


async def opened(server: RunningServer, prefix: str) -> Store:
    return await open_store(server.url, prefix, "node-1.aa")


def test_what_is_beyond_the_rate_is_counted() -> None:
    tap = Tap("t", 0.0, 0.0)
    for number in range(RECORDS_AT_ONCE + 5):
        if tap.offer(0.0):
            tap.put(b"%d" % number)
    tap.skip(7)
    told = tap.take()
    assert [each.number for each in told] == [*range(1, RECORDS_AT_ONCE + 1), RECORDS_AT_ONCE + 5]
    assert told[-1] == Told(RECORDS_AT_ONCE + 5, 7, b"")
    assert tap.take() == []
    taken = sum(tap.offer(0.5) for _ in range(RECORDS_PER_SECOND))
    assert taken == RECORDS_PER_SECOND / 2


def test_what_is_too_large_is_left_out() -> None:
    tap = Tap("t", 0.0, 0.0)
    assert tap.offer(0.0)
    tap.put(b"x" * (RECORD_BYTES + 1))
    assert tap.take() == [Told(1, 0, b"")]


def test_no_more_wait_than_may_be_told_at_once() -> None:
    tap = Tap("t", 0.0, 0.0)
    for _ in range(RECORDS_AT_ONCE):
        assert tap.offer(0.0)
        tap.put(b"1")
    assert not tap.offer(1000.0)


async def test_what_is_told_is_read(server: RunningServer, node_caller: Caller) -> None:
    source = Numbers()
    async with await opened(server, node_caller.prefix) as store, anyio.create_task_group() as running:
        node = Taps(store, "node-1.aa", {"numbers": source}, Clock())
        running.start_soon(node.run)
        assert await node.answer(question("t1"))
        source.tell(1, 2)
        source.taps["t1"].skip(3)
        async with aclosing(Reader(store, "t1", "", is_trace=False)) as reader:
            first, second, skipped = await read(reader, 3)
            assert isinstance(first, Record)
            assert isinstance(second, Record)
            assert [first.json, second.json] == [b"1", b"2"]
            assert skipped == LeftOut("node-1.aa", 0, 3)
            source.tell(*range(RECORDS_AT_ONCE + 10))
            *_, left_out = await read(reader, RECORDS_AT_ONCE - 1)
            assert left_out == LeftOut("node-1.aa", 12, 0)
        assert await node.answer(question("t1", 0))
        assert (source.taps, len(node)) == ({}, 0)
        # It is there again when somebody wants one.
        assert await node.answer(question("t2"))
        source.tell(9)
        async with aclosing(Reader(store, "t2", "", is_trace=False)) as reader:
            assert await read(reader, 1) == [Record(reader.place, b"9")]
        connection = await store.connect()
        assert await connection.ask_one("TTL", keys.tap(store.prefix, "t2")) in range(
            1, taps.TTL_MS // 1000 + 1
        )
        await connection.aclose()
        running.cancel_scope.cancel()


async def test_it_ends_when_nobody_asks_again(server: RunningServer, node_caller: Caller) -> None:
    source, clock = Numbers(), Clock()
    async with await opened(server, node_caller.prefix) as store, anyio.create_task_group() as running:
        node = Taps(store, "node-1.aa", {"numbers": source}, clock)
        running.start_soon(node.run)
        await node.answer(question("kept"))
        await node.answer(question("lost"))
        clock.now = 20.0
        await node.answer(question("kept"))
        clock.now = TAP_SECONDS
        assert await poll_until(lambda: len(node) == 1, 5.0)
        assert list(source.taps) == ["kept"]
        running.cancel_scope.cancel()


async def test_what_is_refused(server: RunningServer, node_caller: Caller) -> None:
    source = Numbers()
    async with await opened(server, node_caller.prefix) as store:
        node = Taps(store, "node-1.aa", {"numbers": source})
        for asked, reason in (
            (b"[]", "not understood"),
            (question("t", 31), "not understood"),
            (question("t", source="letters"), "knows no letters"),
        ):
            with pytest.raises(QuestionRefused, match=reason):
                await node.answer(asked)
        source.refusal = "that makes no sense"
        with pytest.raises(QuestionRefused, match="makes no sense"):
            await node.answer(question("t"))
        source.refusal = ""
        for number in range(TAPS_MAXIMUM):
            await node.answer(question(f"t{number}"))
        with pytest.raises(QuestionRefused, match="no more"):
            await node.answer(question("another"))
        assert await node.answer(question("t0"))  # it may go on
        assert await node.answer(question("unknown", 0))
        assert len(node) == TAPS_MAXIMUM


async def test_a_reader_that_comes_later_counts_from_there(
    server: RunningServer, node_caller: Caller
) -> None:
    async with await opened(server, node_caller.prefix) as store:
        told = [Told(1, 0, b"1"), Told(2, 5, b"2"), Told(9, 5, b"9"), Told(1, 0, b"again"), Told(3, 0, b"")]
        await _write(store, told)
        async with aclosing(Reader(store, "t", "", is_trace=False)) as reader:
            whole = await read(reader, 7)
        places = [each.id for each in whole if isinstance(each, Record)]
        assert [_shown(each) for each in whole] == [
            b"1", (0, 5), b"2", (6, 0), b"9", b"again", (2, 0)
        ]  # fmt: skip
        async with aclosing(Reader(store, "t", places[0], is_trace=False)) as reader:
            later = await read(reader, 5)
        assert [_shown(each) for each in later] == [b"2", (6, 0), b"9", b"again", (2, 0)]


class Asked:
    """Questions, whose answers the test gives."""

    def __init__(self, *answers: Answers | StoreError) -> None:
        self.answers = list(answers)
        self.arguments: list[dict[str, object]] = []
        self.has_asked_all = anyio.Event()

    async def ask(self, name: str, argument: dict[str, object]) -> Answers:
        assert name == QUESTION
        self.arguments.append(argument)
        answer = self.answers.pop(0)
        if not self.answers:
            self.has_asked_all.set()
        if isinstance(answer, StoreError):
            raise answer
        return answer


async def test_nobody_tells() -> None:
    silent = {"a.1": "busy", "b.1": "busy", "c.1": "no answer"}
    for answers, reason in ((Answers({}, silent), "busy; no answer"), (Answers(), "there is no node")):
        book = TapBook(cast(Store, None), cast(Questions, Asked(answers)))
        with pytest.raises(NobodyTells, match=reason):
            await book.open("t", Watched("numbers", {}))


async def test_it_is_asked_for_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is answered: a node that joins is to be asked, and Redis comes back."""
    monkeypatch.setattr(tap_book, "RENEW_SECONDS", 0.01)
    told = Answers({"a.1": True}, {"b.1": "busy"})
    asked = Asked(told, StoreUnavailable("away"), Answers(), told)
    book = TapBook(cast(Store, None), cast(Questions, asked))
    watched = Watched("numbers", {"of": "everything"}, 600.0)
    assert await book.open("t", watched) == {"b.1": "busy"}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(book.keep_open, "t", watched)
        with anyio.fail_after(5):
            await asked.has_asked_all.wait()
        tasks.cancel_scope.cancel()
    question = {"id": "t", "source": "numbers", "seconds": TAP_SECONDS, "what": {"of": "everything"}}
    assert asked.arguments == [question] * 4


async def test_redis_is_away_for_a_reader(server: RunningServer, node_caller: Caller) -> None:
    """It begins again behind what it has read."""
    async with await opened(server, node_caller.prefix) as store:
        await _write(store, [Told(1, 0, b"1")])
        async with aclosing(Reader(store, "t", "", is_trace=False)) as reader:
            assert [_shown(each) for each in await read(reader, 1)] == [b"1"]
            connections = await store.connect()
            killed = await connections.ask_one("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await connections.aclose()
            assert isinstance(killed, int)
            await _write(store, [Told(2, 0, b"2")])
            assert [_shown(each) for each in await read(reader, 1)] == [b"2"]


async def _write(store: Store, told: list[Told]) -> None:
    commands = taps.write(store.prefix, "t", "n.1", told)
    connection = await store.connect()
    await connection.ask(b"".join(commands), len(commands))
    await connection.aclose()


async def read(reader: Reader, count: int) -> list[Record | LeftOut]:
    """The next so many."""
    news: list[Record | LeftOut] = []
    with anyio.fail_after(5):
        while len(news) < count:
            news += await reader.next()
    return news


def _shown(news: Record | LeftOut) -> object:
    return news.json if isinstance(news, Record) else (news.records, news.unseen)
