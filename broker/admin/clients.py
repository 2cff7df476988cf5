"""`/api/v1/clients` and `/api/v1/sessions`: who is connected, and which sessions there are, of the whole
cluster."""

from collections.abc import Sequence
from typing import Final, Literal, cast

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.asking import control_of
from broker.admin.audit import note_change
from broker.admin.describe import AFTER, LIMIT, Query, describe
from broker.admin.exchange import Body, answer, read_body, time_text
from broker.admin.paging import choice_of, limit_of
from cluster.clients import Clients, Item, Listed, WhichClients
from cluster.control import Desk
from cluster.store.session_index import Brief
from cluster.store.sessions import NEVER

_BY: Final = ("prefix", "user", "address")
_STATES: Final = ("connected", "away")
_PROTOCOLS: Final = {3: "3.1", 4: "3.1.1", 5: "5.0"}
_IN_NO_PATH: Final = {"client_id": "The id, with none in the path; a path can have no line break."}


class ConnectedClient(BaseModel):
    """A client that is connected. `in_flight`: sent to it and not acknowledged, of at most `window`;
    `waiting`: for a place there, as far as its node knows; `state`: "ok", or what holds it up. A newer node
    may say more."""

    client_id: str
    username: str | None
    address: str | None
    listener: str
    node: str
    connected_at: str
    protocol: str | None
    keep_alive_seconds: int
    persistent: bool
    epoch: int
    subscriptions: int
    in_flight: int
    window: int
    waiting: int
    state: str


class ShownSession(BaseModel):
    """A session. `node` is the name of its owner, `incarnation` which one that is. `protocol`: of its
    connection. `expiry_seconds` null: it does not expire. `queued` messages take `queued_bytes` of Redis.
    `last_number`: of the newest that was queued; none beyond `sent_up_to` was sent. `released` and
    `receiving`: exchanges at QoS 2 that are open, from us and to us. `subscriptions` counts replays of
    retained messages that are under way, too."""

    client_id: str
    state: str
    persistent: bool
    node: str | None
    incarnation: str | None
    epoch: int
    protocol: str | None
    expiry_seconds: int | None
    expires_at: str | None
    subscriptions: int
    queued: int
    queued_bytes: int
    last_number: int
    sent_up_to: int
    released: int
    receiving: int
    delayed: int
    will: bool


class SessionWithMemory(ShownSession):
    """A session; `memory_bytes`: what it takes in Redis, with its queue, QoS 2 exchanges and delayed
    messages, without its part of what sessions share."""

    memory_bytes: int


class Disconnected(BaseModel):
    """From which node."""

    client_id: str
    node: str


class EndedSession(BaseModel):
    """What is gone."""

    client_id: str


def client_routes(desk: Desk) -> Sequence[Route]:
    """Below `/api/v1`."""
    clients, sessions = _Clients(desk), _Sessions(desk)
    return [
        Route("/clients", clients.page, methods=["GET"]),
        Route("/clients/{client_id:path}", clients.show, methods=["GET"]),
        Route("/clients/{client_id:path}", clients.disconnect, methods=["DELETE"]),
        Route("/sessions", sessions.page, methods=["GET"]),
        Route("/sessions/{client_id:path}", sessions.show, methods=["GET"]),
        Route("/sessions/{client_id:path}", sessions.delete, methods=["DELETE"]),
    ]


def silent_nodes(listed: Listed) -> dict[str, object]:
    """Who has not answered, so that something may be missing; `reasons` say why not."""
    return {"silent": sorted(listed.silent), "reasons": listed.silent} if listed.silent else {"silent": []}


class _Clients:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @describe(
        "clients",
        "Clients that are connected, to any node, by id. `silent`: nodes that did not answer.",
        query={
            "by": Query("What `search` is.", {"type": "string", "enum": [*_BY], "default": "prefix"}),
            "search": "How ids begin; a user name; or an address, or a network of them.",
            "node": "Only those of the node with this name.",
            "limit": LIMIT,
            "after": AFTER,
        },
    )
    async def page(self, request: Request) -> Response:
        query = request.query_params
        by = cast(Literal["prefix", "user", "address"], choice_of(request, "by", _BY) or "prefix")
        which = WhichClients(by, query.get("search", ""), query.get("after", ""), limit_of(request))
        listed = await self._book().clients(which, query.get("node"))
        items = [_shown_client(item) for item in listed.items]
        return answer({"clients": items, "next": listed.after, **silent_nodes(listed)})

    @describe("clients", "A client that is connected.", query=_IN_NO_PATH, answer=ConnectedClient)
    async def show(self, request: Request) -> Response:
        client_id = _client_id(request)
        item = await self._book().client(client_id)
        if item is None:
            raise _not_connected(client_id)
        return answer(_shown_client(item))

    @describe(
        "clients",
        "Ends the connection of a client (0x98 at MQTT 5). Its session stays, and it may come back.",
        body=Body,
        query=_IN_NO_PATH,
        answer=Disconnected,
    )
    async def disconnect(self, request: Request) -> Response:
        await read_body(request, Body)
        client_id = _client_id(request)
        node = await self._book().disconnect(client_id)
        if node is None:
            raise _not_connected(client_id)
        note_change(request, "client_disconnected", client_id=client_id, node=node)
        return answer(Disconnected(client_id=client_id, node=node).model_dump())

    def _book(self) -> Clients:
        return Clients(control_of(self._desk))


class _Sessions:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @describe(
        "sessions",
        "Persistent sessions, by id. By state, a page may have fewer than `limit` with a `next`.",
        query={
            "prefix": "How ids begin.",
            "state": Query("Only those.", {"type": "string", "enum": [*_STATES]}),
            "limit": LIMIT,
            "after": AFTER,
        },
    )
    async def page(self, request: Request) -> Response:
        query = request.query_params
        state = choice_of(request, "state", _STATES)
        page = await control_of(self._desk).browser.sessions(
            limit_of(request),
            beginning=query.get("prefix", ""),
            after=query.get("after"),
            is_connected=None if state is None else state == "connected",
        )
        return answer({"sessions": [shown_session(brief) for brief in page.items], "next": page.after})

    @describe("sessions", "A session, persistent or not.", query=_IN_NO_PATH, answer=SessionWithMemory)
    async def show(self, request: Request) -> Response:
        client_id = _client_id(request)
        control = control_of(self._desk)
        brief = await control.browser.brief(client_id)
        if brief is None:
            raise _no_session(client_id)
        return answer(
            shown_session(brief) | {"memory_bytes": await control.reporter.session_bytes(client_id)}
        )

    @describe(
        "sessions",
        "Disconnects the client and ends its session, with subscriptions and queue; its will is published.",
        body=Body,
        query=_IN_NO_PATH,
        answer=EndedSession,
    )
    async def delete(self, request: Request) -> Response:
        await read_body(request, Body)
        client_id = _client_id(request)
        if not await Clients(control_of(self._desk)).end_session(client_id):
            raise _no_session(client_id)
        note_change(request, "session_deleted", client_id=client_id)
        return answer(EndedSession(client_id=client_id).model_dump())


def _client_id(request: Request) -> str:
    return request.path_params["client_id"] or request.query_params.get("client_id", "")


def _not_connected(client_id: str) -> HTTPException:
    return HTTPException(404, f"no client {client_id} is connected")


def _no_session(client_id: str) -> HTTPException:
    return HTTPException(404, f"there is no session {client_id}")


def _shown_client(item: Item) -> Item:
    shown = {name: value for name, value in item.items() if name != "connected_at_ms"}
    return {**shown, "connected_at": time_text(item["connected_at_ms"])}


def _state(brief: Brief) -> str:
    return "connected" if brief.owner is not None else "away"


def shown_session(brief: Brief) -> dict[str, object]:
    """As JSON has it: a ShownSession. (To make one of those takes five times as long, and a page has up to
    500.)"""
    owner = brief.owner
    return {
        "client_id": brief.client_id,
        "state": _state(brief),
        "persistent": not brief.is_direct,
        "node": owner.rpartition(".")[0] or owner if owner is not None else None,
        "incarnation": owner,
        "epoch": brief.epoch,
        "protocol": _PROTOCOLS.get(brief.protocol or 0),
        "expiry_seconds": None if brief.expiry_seconds == NEVER else brief.expiry_seconds,
        "expires_at": time_text(brief.deadline_ms) if brief.deadline_ms is not None else None,
        "subscriptions": brief.subscriptions,
        "queued": brief.queued,
        "queued_bytes": brief.queued_bytes,
        "last_number": brief.n,
        "sent_up_to": brief.hi,
        "released": brief.released,
        "receiving": brief.receiving,
        "delayed": brief.delayed,
        "will": brief.has_will,
    }
