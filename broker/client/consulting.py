"""Asks those who know a client, or its rights: tasks of their own. Nobody but this client waits for them."""

import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TypeVar

from broker.auth import Access, Credentials, Denied, Identity, Rights
from broker.client.client import Client
from broker.client.enforcing import delay
from broker.client.guard import Guard
from broker.observability.logs import get_logger

Answer = TypeVar("Answer")

logger = get_logger(__name__)


async def authenticate(
    client: Client, guard: Guard, credentials: Credentials, judge: Callable[[Identity | Denied], None]
) -> None:
    """Who the client is. `judge` is called if it is still there by then."""

    async def ask() -> Identity | Denied:
        await delay(client.hub.banning, credentials.username, time.monotonic())
        return await guard.chain_of(client.entrance.name).authenticate(credentials)

    await _consult(client, ask(), judge)


async def decide(client: Client, rights: Rights, access: Access, judge: Callable[[bool], None]) -> None:
    """Whether the client may do that. `judge` is called if it is still there by then."""
    await _consult(client, rights.decide(access), judge)


async def _consult(
    client: Client, asking: Coroutine[object, object, Answer], judge: Callable[[Answer], None]
) -> None:
    """Whatever goes wrong in the task, its client is answered."""
    try:
        answer = await asking
        client.hub.when_sure(partial(_go_on, client, partial(judge, answer)))
    except Exception:  # the top of the task
        logger.exception("client not answered", extra=_who(client))
        client.close_for_bug()
        client.hub.after_input()


def _go_on(client: Client, action: Callable[[], None]) -> None:
    if not client.is_closed:
        act(client, action)


def act(client: Client, action: Callable[[], None]) -> None:
    """Does it, or ends this connection, and no other: others may wait behind it."""
    try:
        action()
    except Exception:  # the boundary of this connection
        logger.exception("client not answered", extra=_who(client))
        client.close_for_bug()


def _who(client: Client) -> dict[str, object]:
    return {"client_id": client.client_id, "peer": client.peer}
