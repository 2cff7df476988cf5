"""What other processes ask of this node about its clients, and have it do to one of them (`cluster.clients`).

Thousands of clients are looked at with pauses for what else there is to do."""

import heapq
import ipaddress
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Final, TypeVar

import anyio.lowlevel
from pydantic import TypeAdapter, ValidationError

from broker.auth.address import parsed_address
from broker.client.client import Client
from broker.client.closing import drop_rows
from broker.client.hub import Hub
from broker.mqtt import MQTT_3_1, MQTT_3_1_1, MQTT_5, ReasonCode
from broker.session import Session
from cluster.clients import CLIENT, CLIENTS, DISCONNECT, END_SESSION, WhichClient, WhichClients
from cluster.questions import Answerer, QuestionRefused
from cluster.store import session_index

T = TypeVar("T")

AT_A_TIME: Final = 500
ANSWER_BYTES: Final = 500_000
"""About so much of an answer; what is left is for the next page."""

_CLIENT_BYTES: Final = 450  # without its names
_PROTOCOLS: Final = {MQTT_3_1: "3.1", MQTT_3_1_1: "3.1.1", MQTT_5: "5.0"}
_WHICH: Final = TypeAdapter(WhichClients)
_ONE: Final = TypeAdapter(WhichClient)
_id_of: Final = attrgetter("client_id")


def client_answerers(hub: Hub) -> dict[str, Answerer]:
    """By the names of the questions."""
    return {
        CLIENTS: partial(_list, hub),
        CLIENT: partial(_show, hub),
        DISCONNECT: partial(_disconnect, hub),
        END_SESSION: partial(_end_session, hub),
    }


def parsed(adapter: TypeAdapter[T], question: bytes) -> T:
    """Raises QuestionRefused."""
    try:
        return adapter.validate_json(question)
    except ValidationError as error:
        raise QuestionRefused(f"not understood: {error.errors(include_url=False)}") from None


async def _list(hub: Hub, question: bytes) -> object:
    which = parsed(_WHICH, question)
    is_wanted = _condition(which)
    after = which.after
    kept: list[Client] = []
    clients = list(hub.clients.values())
    for first in range(0, len(clients), AT_A_TIME):
        end = kept[-1].client_id if len(kept) > which.limit else None
        found = [
            client
            for client in clients[first : first + AT_A_TIME]
            if client.client_id > after
            and (end is None or client.client_id < end)
            and client.session is not None
            and is_wanted(client)
        ]
        if found:
            kept = heapq.nsmallest(which.limit + 1, kept + found, key=_id_of)
        await anyio.lowlevel.checkpoint()
    page: list[object] = []
    size = 0
    for client in kept[: which.limit]:
        size += _CLIENT_BYTES + len(client.client_id) + len(client.username)
        if page and size > ANSWER_BYTES:
            break
        if client.session is not None:
            page.append(shown_client(hub, client, client.session))
    return {"clients": page, "more": len(page) < len(kept)}


def _condition(which: WhichClients) -> Callable[[Client], bool]:
    search = which.search
    if which.by == "user":
        return lambda client: client.username == search
    if which.by == "address" and "/" in search:
        try:
            network = ipaddress.ip_network(search, strict=False)
        except ValueError:
            raise QuestionRefused(f"{search} is no network") from None
        return lambda client: (found := parsed_address(client.address)) is not None and found in network
    if which.by == "address":
        return lambda client: client.address == search
    return lambda client: client.client_id.startswith(search)


async def _show(hub: Hub, question: bytes) -> object:
    client = hub.clients.get(parsed(_ONE, question).client_id)
    if client is None or client.session is None:
        return None
    return shown_client(hub, client, client.session)


def shown_client(hub: Hub, client: Client, session: Session) -> dict[str, object]:
    """As JSON has it; `connected_at_ms` in Redis time."""
    outbound, subscriber = session.outbound, client.subscriber
    return {
        "client_id": client.client_id,
        "username": client.username or None,
        "address": client.address or None,
        "listener": client.entrance.name,
        "connected_at_ms": int(client.connected_at * 1000) + hub.redis_offset_ms,
        "protocol": _PROTOCOLS.get(session.version),
        "keep_alive_seconds": client.connection.keep_alive_seconds,
        "persistent": session.direct is None,
        "epoch": session.epoch,
        "subscriptions": hub.index.subscriptions_of(subscriber) if subscriber is not None else 0,
        "in_flight": len(outbound.inflight) + len(outbound.released),
        "window": outbound.window,
        "waiting": waiting_messages(session),
        "state": state_of(client, session),
    }


def waiting_messages(session: Session) -> int:
    """How many messages at QoS 1 and 2 wait for their turn, as far as this node knows."""
    if session.direct is not None:
        return session.direct.waiting
    queued = session.queued
    return max(0, queued.last_known - queued.last_sent) if queued is not None else 0


def state_of(client: Client, session: Session) -> str:
    """What holds it up, in a few words; "ok": nothing does."""
    if client.outbox.blocked:
        return "does not read what is sent to it"
    if client.is_held_back:
        return "not read from: memory is short"
    if client.throttle is not None and client.throttle.must_wait:
        return "not read from: it sends faster than it may"
    if not client.is_reading:
        return "not read from: what it has sent waits to be stored"
    if session.outbound.quota <= 0:
        return "window full: it has not acknowledged what it was sent"
    return "ok"


async def _disconnect(hub: Hub, question: bytes) -> object:
    """Whether it was connected."""
    return _close(hub, parsed(_ONE, question).client_id)


def _close(hub: Hub, client_id: str) -> bool:
    client = hub.clients.get(client_id)
    if client is None:
        return False
    client.close(ReasonCode.ADMINISTRATIVE_ACTION, "an operator has ended the connection")
    hub.after_input()
    return True


async def _end_session(hub: Hub, question: bytes) -> object:
    """Whether there was one. The connection gives the session back first, with the same exchange."""
    client_id = parsed(_ONE, question).client_id
    was_connected = _close(hub, client_id)
    reply = await hub.committer.ask(session_index.session_end(client_id), frees_memory=True)
    ended = session_index.parse_end(reply)
    if ended is not None:
        drop_rows(hub, client_id, ended.rows)
        hub.after_input()
    return was_connected or ended is not None
