"""`/api/v1/events` and `/api/v1/traces`: what happens now, of the whole cluster, as server-sent events."""

import re
import secrets
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Annotated, Final

import anyio
import orjson
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.audit import note_change
from broker.admin.describe import describe
from broker.admin.door import role_of
from broker.admin.exchange import Body, answer, read_body
from broker.admin.streams import SSE, EventStream, Voice
from broker.auth.admin_tokens import Role
from broker.client import event_taps, tracing
from cluster.control import Control, Desk
from cluster.store.errors import StoreError
from cluster.tap_book import LeftOut, NobodyTells, Record, TapBook, Watched

TRACE_SECONDS: Final = 600.0
EVENTS_SECONDS: Final = 3600.0
"""Then whoever follows events asks again, and is asked again who it is."""
_CLOSING_SECONDS: Final = 3.0
_ID: Final = re.compile(r"[0-9a-f]{32}")
_PLACE: Final = re.compile(r"\d{1,20}-\d{1,20}")
_KINDS_BYTES: Final = 256
_CLIENT_ID_BYTES: Final = 65_535


class TraceBody(Body):
    """One of the first three; `*` at the end of `client_id` stands for all that begin so, `topic` is a Topic
    Filter, `address` may be a network."""

    client_id: Annotated[str | None, Field(min_length=1, max_length=1024)] = None
    topic: Annotated[str | None, Field(min_length=1, max_length=1024)] = None
    address: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    seconds: Annotated[float, Field(gt=0, le=TRACE_SECONDS)] = 60.0
    payloads: bool = False


def trace_routes(desk: Desk) -> list[Route]:
    """The routes below `/api/v1`."""
    api = _Traces(desk)
    return [
        Route("/events", api.events, methods=["GET"]),
        Route("/traces", api.begin, methods=["POST"]),
        Route("/traces/{id}", api.follow, methods=["GET"]),
        Route("/traces/{id}", api.end, methods=["DELETE"]),
    ]


class _Traces:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @describe(
        "traces",
        "Follows what becomes of clients, as server-sent events: `event`, `left_out`, `silent`.",
        query={
            "kinds": "Only these, separated by commas: connected, disconnected, refused, ...",
            "client_id": "Only of this client; `*` at the end stands for all that begin so.",
        },
        media_type=SSE,
    )
    async def events(self, request: Request) -> Response | EventStream:
        query = request.query_params
        kinds, client_id = query.get("kinds", ""), query.get("client_id", "")
        if len(kinds) > _KINDS_BYTES or len(client_id) > _CLIENT_ID_BYTES:
            raise HTTPException(422, "kinds or client_id: too long")
        what = {"kinds": [kind for kind in kinds.split(",") if kind], "client_id": client_id}
        watched = Watched(event_taps.SOURCE, what)
        book, tap_id = self._book(), secrets.token_hex(16)
        if request.method == "HEAD":
            return answer({})
        silent = await _opened(book, tap_id, watched)

        async def tell(voice: Voice) -> None:
            try:
                with anyio.move_on_after(EVENTS_SECONDS):
                    await _follow(voice, book, tap_id, watched, silent, "", is_trace=False)
                await voice.say("end", b"{}")
            finally:
                await _close(book, tap_id, watched)

        return EventStream(tell, self._desk.wait_until_stopping)

    @describe(
        "traces",
        "Begins to trace a client, a topic or an address, on all nodes; payloads for the role admin only.",
        body=TraceBody,
        status=201,
    )
    async def begin(self, request: Request) -> Response:
        body = await read_body(request, TraceBody)
        if body.payloads:
            _check_role(request)
        what = body.model_dump(exclude={"seconds"})
        try:
            tracing.check_asked(tracing.Asked(**what))
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        book, trace_id = self._book(), secrets.token_hex(16)
        watched = Watched(tracing.SOURCE, what, body.seconds)
        silent = await _opened(book, trace_id, watched)
        await book.begin_trace(trace_id, orjson.dumps(what), body.seconds)
        traced = body.model_dump(include={"client_id", "topic", "address"}, exclude_none=True)
        note_change(request, "trace_begun", trace=traced, seconds=body.seconds, payloads=body.payloads)
        return answer({"id": trace_id, "seconds": body.seconds, "silent": silent}, 201)

    @describe(
        "traces",
        "Follows a trace, as server-sent events: `packet`, `left_out`, `silent`, and `end` last.",
        media_type=SSE,
    )
    async def follow(self, request: Request) -> Response | EventStream:
        book = self._book()
        trace_id, what = await self._known(request, book)
        after = request.headers.get("last-event-id", "")
        if after and not _PLACE.fullmatch(after):
            raise HTTPException(422, "Last-Event-ID: none of this trace")
        if request.method == "HEAD":
            return answer({})
        watched = Watched(tracing.SOURCE, what)
        silent = await _opened(book, trace_id, watched)

        async def tell(voice: Voice) -> None:
            await _follow(voice, book, trace_id, watched, silent, after, is_trace=True)
            await voice.say("end", b"{}")
            await _close(book, trace_id, watched)

        return EventStream(tell, self._desk.wait_until_stopping)

    @describe("traces", "Ends a trace, for everybody who follows it.")
    async def end(self, request: Request) -> Response:
        book = self._book()
        trace_id, _ = await self._known(request, book)
        await book.end_trace(trace_id)
        await book.close(trace_id, Watched(tracing.SOURCE, {}))
        return answer({"id": trace_id})

    async def _known(self, request: Request, book: TapBook) -> tuple[str, Mapping[str, object]]:
        """Who may not see payloads gets nothing of a trace that has them."""
        trace_id = str(request.path_params["id"])
        what = await book.trace(trace_id) if _ID.fullmatch(trace_id) else None
        if not isinstance(what, dict):
            raise HTTPException(404, "there is no such trace, or it has ended")
        if what.get("payloads"):
            _check_role(request)
        return trace_id, what

    def _book(self) -> TapBook:
        control: Control | None = self._desk.control
        if control is None:
            raise HTTPException(503, "Redis has not been reached yet")
        if self._desk.is_stopping:
            raise HTTPException(503, "this node is about to end")
        return control.taps


def _check_role(request: Request) -> None:
    if role_of(request.scope) < Role.ADMIN:
        raise HTTPException(403, "payloads are shown to the role admin only")


async def _opened(book: TapBook, tap_id: str, watched: Watched) -> dict[str, str]:
    """Who does not tell, and why."""
    try:
        return await book.open(tap_id, watched)
    except NobodyTells as error:
        raise HTTPException(503, f"no node can be watched: {error}") from None


async def _follow(
    voice: Voice,
    book: TapBook,
    tap_id: str,
    watched: Watched,
    silent: dict[str, str],
    after: str,
    *,
    is_trace: bool,
) -> None:
    """Until a trace has ended; else for ever."""
    for node, reason in silent.items():
        await voice.say("silent", orjson.dumps({"node": _name(node), "reason": reason}))
    reader = book.reader(tap_id, after, is_trace=is_trace)
    async with aclosing(reader), anyio.create_task_group() as tasks:
        tasks.start_soon(book.keep_open, tap_id, watched)
        while not reader.has_ended:
            for news in await reader.next():
                if isinstance(news, Record):
                    await voice.say(*(("packet", news.json, news.id) if is_trace else ("event", news.json)))
                else:
                    await voice.say("left_out", _left_out(news))
        tasks.cancel_scope.cancel()


async def _close(book: TapBook, tap_id: str, watched: Watched) -> None:
    """Nobody reads it any more; if that can't be told, it ends by itself."""
    with anyio.move_on_after(_CLOSING_SECONDS, shield=True), suppress(StoreError):
        await book.close(tap_id, watched)


def _left_out(news: LeftOut) -> bytes:
    return orjson.dumps({"node": _name(news.incarnation), "records": news.records, "unseen": news.unseen})


def _name(incarnation: str) -> str:
    return incarnation.rpartition(".")[0] or incarnation
