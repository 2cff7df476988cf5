"""Messages of operators in a node: what is taken and told, how many may wait. The router is the test's."""

from base64 import b64encode
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import anyio
import orjson
import pytest

from broker.client import Hub, operator_message
from broker.client.operator_message import OperatorMessage, OperatorMessages, encoded
from broker.mqtt import Capabilities, ConnectionLimits
from broker.routing import Publication
from cluster.questions import QuestionRefused

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class _Hub:
    """As much of one as these messages need."""

    def __init__(self) -> None:
        self.published: list[Publication] = []
        self.is_away = False
        self.is_stopping = False
        self.topic_limits = None
        self.committer = SimpleNamespace(is_full=False)
        self.clock = SimpleNamespace(now_ms=1_000)
        self.router = SimpleNamespace(publish=self.published.append)
        self.settings = SimpleNamespace(
            topic_levels_maximum=3,
            qos2_retry_limit_seconds=10,
            connection=ConnectionLimits(1000, 10, 10, 10.0),
            capabilities=Capabilities(maximum_qos=1, retain_available=False),
        )

    def is_redis_away(self) -> bool:
        return self.is_away

    def when_sure(self, action: Callable[[], None]) -> None:
        action()

    def settle(self) -> None:
        """All of them are stored."""
        for publication in self.published:
            assert publication.origin is not None
            publication.origin.settled(publication)
        self.published.clear()


def made() -> tuple[_Hub, OperatorMessages]:
    hub = _Hub()
    return hub, OperatorMessages(cast(Hub, hub))


def order(topic: str = "a/b", payload: bytes = b"x", qos: int = 1, **more: object) -> bytes:
    message = OperatorMessage(topic, encoded(payload), qos, False, "token")
    return orjson.dumps(message.to_json() | more)


async def refused_by(messages: OperatorMessages, argument: bytes) -> str:
    with pytest.raises(QuestionRefused) as caught:
        await messages.answer(argument)
    return str(caught.value)


async def test_it_waits_until_it_is_stored() -> None:
    hub, messages = made()
    answers: list[object] = []
    async with anyio.create_task_group() as tasks:

        async def publish() -> None:
            answers.append(await messages.answer(order(expiry_seconds=5)))

        tasks.start_soon(publish)
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        assert hub.published[0].message.deadline_ms == 6_000
        hub.settle()
    assert answers == [{"sessions": 0, "groups": 0, "nodes": 0, "retained": "no", "refused": None}]


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        (order("a/b/c/d"), "too many levels"),
        (order("a/#"), "not a Topic Name"),
        (order("$SYS/a"), "$SYS/"),
        (order(payload=b"x" * 990), "mqtt.maximum_packet_size"),
        (order(qos=2), "Maximum QoS"),
        (order(retain=True), "no retained messages"),
    ],
)
async def test_what_holds_for_clients_holds_here(argument: bytes, reason: str) -> None:
    hub, messages = made()
    said = await messages.answer(argument)
    assert isinstance(said, dict)
    assert reason in said["refused"]
    assert hub.published == []


async def test_clearing_is_possible_whatever_the_settings_say() -> None:
    hub, messages = made()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(messages.answer, order("a/b/c/d/e", b"", 2, retain=True, clears=True))
        await anyio.wait_all_tasks_blocked()
        message = hub.published[0].message
        assert (message.retain, message.payload) == (True, b"")
        assert (message.token, message.token_ttl_ms) == (b"token", 10_000), "or it may come twice"
        hub.settle()


async def test_who_clears_does_not_wait_while_messages_are_held() -> None:
    hub, messages = made()
    hub.committer.is_full = True
    reason = await refused_by(messages, order(payload=b"", retain=True, clears=True))
    assert reason == "it follows when there is room for what is held"
    assert [publication.message.topic for publication in hub.published] == ["a/b"]
    hub.settle()  # and so leaves its place


async def test_what_is_not_understood() -> None:
    _, messages = made()
    for argument in (b"", b"{}", order(qos=7), order(payload=b"") + b"x", order(properties="&")):
        assert "not understood" in await refused_by(messages, argument)


async def test_it_takes_none_when_it_stops_or_redis_is_away() -> None:
    hub, messages = made()
    hub.is_away = True
    assert "Redis is away" in await refused_by(messages, order())
    hub.is_away, hub.is_stopping = False, True
    assert "about to stop" in await refused_by(messages, order())


async def test_only_some_may_wait_and_who_gives_up_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_message, "WAITING_MAXIMUM", 2)
    hub, messages = made()
    for _ in range(2):
        with anyio.move_on_after(0.01):
            await messages.answer(order())
    assert "too many messages" in await refused_by(messages, order())
    hub.settle()
    monkeypatch.setattr(operator_message, "WAITING_BYTES_MAXIMUM", 10)
    assert "too many messages" in await refused_by(messages, order(payload=b"x" * 11))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(messages.answer, order(payload=b"x" * 10))
        await anyio.wait_all_tasks_blocked()
        hub.settle()


def test_content_is_encoded() -> None:
    assert encoded(b"\x00\xff") == b64encode(b"\x00\xff").decode()
