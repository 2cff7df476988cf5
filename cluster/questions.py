"""Asking nodes something, and answering: what only the node with a connection knows (what is in its memory),
or only it can do.

A question is a command in the inbox of each node that is asked. Each answers into a stream that belongs to
the question and ends by itself, so the process that asks need not be a node, and nothing is left if it dies.
A question is worth nothing after its deadline: a node that finds it later does not answer it. It may be
answered twice; so what is asked to be done names the state to arrive at, like every command.
"""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import anyio
import orjson

from broker.errors import MoorlineError
from cluster import commands
from cluster.commands import Question
from cluster.inbox import BLOCK_MS
from cluster.store import inbox_records, inboxes, keys, membership
from cluster.store.call import Reply
from cluster.store.connection import Connection
from cluster.store.errors import ItemError, StoreError
from cluster.store.reply import as_bytes, as_list, as_text
from cluster.store.store import Store

TIMEOUT_SECONDS: Final = 2.0
ANSWER_BYTES: Final = 1 << 20
ANSWERS_AT_A_TIME: Final = 16
"""What a node works on at once; whoever asks more is told that it is busy."""

_NODES: Final = 256  # as many answers are kept of a question

Answerer = Callable[[bytes], Awaitable[object]]
"""JSON of the question in, what orjson can write out. Raises QuestionRefused."""

logger = logging.getLogger(__name__)


class QuestionRefused(MoorlineError):
    """The node that is asked can't do it, or does not understand it; the text says why."""


@dataclass(frozen=True, slots=True)
class Answers:
    """By incarnation: what was said, parsed from JSON; and why others said nothing."""

    said: dict[str, object] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)


class Questions:
    """Asks for the process `incarnation`, which answers by `answerers` if it is a node."""

    def __init__(self, store: Store, incarnation: str, answerers: Mapping[str, Answerer]) -> None:
        self._store = store
        self._incarnation = incarnation
        self._answerers = answerers

    async def ask(
        self,
        name: str,
        argument: object,
        nodes: Sequence[str] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Answers:
        """Asks these incarnations, or all nodes that are alive, at the same time. Raises StoreError."""
        asked = await self._alive() if nodes is None else nodes
        return await self.ask_each(name, dict.fromkeys(asked, argument), timeout_seconds)

    async def ask_each(
        self, name: str, arguments: Mapping[str, object], timeout_seconds: float = TIMEOUT_SECONDS
    ) -> Answers:
        """The same with an argument for each incarnation."""
        answers = Answers()
        question_id = secrets.token_hex(12)
        others = {
            node: Question(question_id, name, orjson.dumps(argument).decode(), timeout_seconds)
            for node, argument in arguments.items()
        }
        own = others.pop(self._incarnation, None) if self._answerers else None
        trouble: StoreError | None = None
        async with anyio.create_task_group() as asking:
            if own is not None:
                asking.start_soon(self._ask_here, own, answers)
            if others:
                try:
                    await self._ask_others(others, answers)
                except StoreError as error:  # by itself, not in the group's
                    trouble = error
                    asking.cancel_scope.cancel()
        if trouble is not None:
            raise trouble
        return answers

    async def _alive(self) -> list[str]:
        (reply,) = await self._store.call([membership.members()], function="free")
        if isinstance(reply, ItemError):
            raise reply
        return [member.incarnation for member in membership.parse_members(reply) if member.is_alive]

    async def _ask_here(self, question: Question, answers: Answers) -> None:
        with anyio.move_on_after(question.timeout_seconds) as scope:
            _note(answers, self._incarnation, await answer_text(self._answerers, question))
        if scope.cancelled_caught:
            answers.silent[self._incarnation] = _no_answer(question)

    async def _ask_others(self, questions: Mapping[str, Question], answers: Answers) -> None:
        """All of one id."""
        question = next(iter(questions.values()))
        deadline = time.monotonic() + question.timeout_seconds
        requests = [inboxes.send(node, _record_of(each)) for node, each in questions.items()]
        replies = await self._store.call(requests, function="free")
        waiting = set()
        for node, reply in zip(questions, replies, strict=True):
            if reason := _why_not_sent(reply):
                answers.silent[node] = reason
            else:
                waiting.add(node)
        if not waiting:
            return
        connection = await self._store.connect()  # they think about it meanwhile
        try:
            await self._collect(connection, question, waiting, deadline, answers)
        finally:
            await connection.aclose()

    async def _collect(
        self, connection: Connection, question: Question, waiting: set[str], deadline: float, answers: Answers
    ) -> None:
        key = keys.answers(self._store.prefix, question.id)
        last = "0-0"
        while waiting and (left := deadline - time.monotonic()) > 0:
            reply = await connection.ask_one(
                "XREAD", "COUNT", _NODES, "BLOCK", _block_ms(left), "STREAMS", key, last
            )
            if reply is None:
                continue
            _, entries = as_list(as_list(reply)[0])
            for entry in as_list(entries):
                entry_id, fields = as_list(entry)
                last = as_text(entry_id)
                _, incarnation, _, text = as_list(fields)
                node = as_text(incarnation)
                if node in waiting:
                    waiting.remove(node)
                    _note(answers, node, as_bytes(text))
        answers.silent.update(dict.fromkeys(waiting, _no_answer(question)))


class Answering:
    """How a node answers. `spawn` runs the work; `now` tells how old a question is."""

    def __init__(
        self,
        store: Store,
        incarnation: str,
        answerers: Mapping[str, Answerer],
        spawn: Callable[[Coroutine[object, object, None]], None],
    ) -> None:
        self._store = store
        self._incarnation = incarnation
        self._answerers = answerers
        self._spawn = spawn
        self._under_way = 0

    def take(self, question: Question) -> None:
        """From the inbox. Does not wait."""
        self._spawn(self._answer(question))

    async def _answer(self, question: Question) -> None:
        if self._under_way >= ANSWERS_AT_A_TIME:
            await self._say(question, _refusal("busy: too many questions at a time"))
            return
        self._under_way += 1
        try:
            with anyio.move_on_after(question.timeout_seconds):
                await self._say(question, await answer_text(self._answerers, question))
        finally:
            self._under_way -= 1

    async def _say(self, question: Question, text: bytes) -> None:
        with suppress(StoreError):  # then nobody can be told
            request = inboxes.answer(question.id, self._incarnation, text)
            await self._store.call([request], function="free")


async def answer_text(answerers: Mapping[str, Answerer], question: Question) -> bytes:
    """What is said to a question: `{"said": ...}`, or `{"refused": why}`."""
    answerer = answerers.get(question.name)
    if answerer is None:
        return _refusal(f"this release does not know the question {question.name}")
    try:
        text = orjson.dumps({"said": await answerer(question.argument.encode())})
    except QuestionRefused as refused:
        return _refusal(str(refused))
    except StoreError as error:
        return _refusal(f"Redis: {error}")
    except Exception:  # the top of what an operator asked for
        logger.exception("could not answer a question", extra={"question": question.name})
        return _refusal("failed; its log says why")
    if len(text) > ANSWER_BYTES:
        return _refusal(f"the answer has {len(text)} bytes, of at most {ANSWER_BYTES}")
    return text


def _record_of(question: Question) -> bytes:
    command = commands.pack(question)
    return inbox_records.pack_command(command.name, command.argument)


def _refusal(reason: str) -> bytes:
    return orjson.dumps({"refused": reason})


def _note(answers: Answers, node: str, text: bytes) -> None:
    parsed = orjson.loads(text)
    if "said" in parsed:
        answers.said[node] = parsed["said"]
    else:
        answers.silent[node] = str(parsed.get("refused"))


def _block_ms(seconds: float) -> int:
    """Shorter than any exchange may take."""
    return min(BLOCK_MS, max(1, int(seconds * 1000)))


def _no_answer(question: Question) -> str:
    return f"no answer within {question.timeout_seconds:g} s"


def _why_not_sent(reply: Reply) -> str:
    if isinstance(reply, ItemError):
        return str(reply)
    return {0: "it is about to leave, or dead", -1: "it does not read its inbox, which is full"}.get(
        reply if isinstance(reply, int) else 1, ""
    )
