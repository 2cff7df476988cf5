"""Questions to nodes on a real Redis: what each says, and what is told of those that say nothing."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import anyio
import orjson
import pytest
from anyio.abc import TaskGroup

from broker.tasks import Tasks
from cluster import commands
from cluster.inbox import Inbox
from cluster.pulse import Pulse
from cluster.questions import ANSWER_BYTES, Answerer, Answering, QuestionRefused, Questions
from cluster.store import membership
from cluster.store.call import Slot
from cluster.store.connection import Connection
from cluster.store.errors import StoreUnavailable
from cluster.store.inbox_records import Command, Record
from cluster.store.keys import META_SLOT
from cluster.store.store import Store, open_store
from tests.store.caller import Caller
from tests.store.servers import RunningServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def caller(node_caller: Caller) -> Caller:
    """A node."""
    return node_caller


async def _echo(argument: bytes, node: str) -> object:
    return {"node": node, "heard": orjson.loads(argument)}


async def _refuse(_: bytes) -> object:
    raise QuestionRefused("not here")


async def _fail(_: bytes) -> object:
    raise LookupError("a bug")


async def _say_too_much(_: bytes) -> object:
    return "x" * ANSWER_BYTES


async def _sleep(_: bytes) -> object:
    await anyio.sleep(60)
    return "too late"


def answerers(node: str) -> dict[str, Answerer]:
    return {
        "echo": partial(_echo, node=node),
        "refuse": _refuse,
        "fail": _fail,
        "say_too_much": _say_too_much,
        "sleep": _sleep,
    }


async def _run_node(store: Store, running: TaskGroup, node: str) -> None:
    """As much of a node as answers."""
    await store.call([membership.join(node), membership.beat(node, b"{}")], function="free")
    tasks = Tasks()
    tasks.open(running)
    answering = Answering(store, node, answerers(node), tasks.spawn)
    carry_out = commands.handler(lambda _: None, lambda _: None, answering.take)

    def take(records: list[Record]) -> None:
        for record in records:
            assert isinstance(record, Command)
            carry_out(record)

    inbox = Inbox(store, node, Pulse(lambda: None), take)
    await inbox.open()
    running.start_soon(inbox.run)


@asynccontextmanager
async def asking(server: RunningServer, caller: Caller, *nodes: str) -> AsyncIterator[Questions]:
    """The process `a.1` asks, which is a node itself if it is among them."""
    async with AsyncExitStack() as stores:
        stores_of = {
            node: await stores.enter_async_context(await open_store(server.url, caller.prefix, node))
            for node in {*nodes, "a.1"}
        }
        async with anyio.create_task_group() as running:
            for node in nodes:
                await _run_node(stores_of[node], running, node)
            own: dict[str, Answerer] = answerers("a.1") if "a.1" in nodes else {}
            yield Questions(stores_of["a.1"], "a.1", own)
            running.cancel_scope.cancel()


async def test_all_nodes_answer(server: RunningServer, caller: Caller) -> None:
    async with asking(server, caller, "a.1", "b.2", "c.3") as questions:
        answers = await questions.ask("echo", {"client_id": "ü"})
        assert answers.said == {
            node: {"node": node, "heard": {"client_id": "ü"}} for node in ("a.1", "b.2", "c.3")
        }
        assert answers.silent == {}
        assert (await questions.ask("echo", 1, ["b.2"])).said == {"b.2": {"node": "b.2", "heard": 1}}


async def test_a_process_that_is_no_node_asks(server: RunningServer, caller: Caller) -> None:
    async with asking(server, caller, "b.2") as questions:
        assert list((await questions.ask("echo", None)).said) == ["b.2"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("refuse", "not here"),
        ("fail", "failed; its log says why"),
        ("say_too_much", "the answer has"),
        ("dance", "this release does not know the question dance"),
        ("sleep", "no answer within 0.3 s"),
    ],
)
async def test_why_there_is_no_answer(server: RunningServer, caller: Caller, name: str, reason: str) -> None:
    async with asking(server, caller, "a.1", "b.2") as questions:
        answers = await questions.ask(name, {}, timeout_seconds=0.3)
        assert answers.said == {}
        assert sorted(answers.silent) == ["a.1", "b.2"]
        assert all(text.startswith(reason) for text in answers.silent.values()), answers.silent


async def test_nodes_that_are_gone_are_told(server: RunningServer, caller: Caller) -> None:
    async with asking(server, caller, "b.2") as questions:
        answers = await questions.ask("echo", {}, ["b.2", "gone.1"])
        assert list(answers.said) == ["b.2"]
        assert answers.silent == {"gone.1": "it is about to leave, or dead"}


async def test_each_node_may_be_asked_something_else(server: RunningServer, caller: Caller) -> None:
    async with asking(server, caller, "a.1", "b.2", "c.3") as questions:
        answers = await questions.ask_each("echo", {"a.1": 1, "b.2": 2, "c.3": 3})
        assert answers.said == {
            node: {"node": node, "heard": heard} for node, heard in (("a.1", 1), ("b.2", 2), ("c.3", 3))
        }


async def test_trouble_with_redis_is_raised_by_itself(
    server: RunningServer, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_really = Store.connect

    async def connect(store: Store, slot: Slot = META_SLOT) -> Connection:
        if slot != META_SLOT:  # an inbox
            return await connect_really(store, slot)
        raise StoreUnavailable("away")

    async with asking(server, caller, "a.1", "b.2") as questions:
        monkeypatch.setattr(Store, "connect", connect)
        with pytest.raises(StoreUnavailable, match="away"):
            await questions.ask("echo", 1, ["a.1", "b.2"])
