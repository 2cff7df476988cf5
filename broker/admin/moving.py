"""`/api/v1/export` and `import`: sessions and retained messages, users, rules and bans, page by page, for a
back-up or another broker.

Nothing is kept between two requests, so any node can answer the next one. What the records are:
`cluster.moved`, `cluster.moved_users`.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final

import orjson
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.asking import control_of
from broker.admin.audit import note_change
from broker.admin.describe import AFTER, Query, describe
from broker.admin.exchange import Body, answer, read_body
from broker.admin.paging import flag_of
from broker.mqtt import is_valid_topic_filter
from broker.settings import Settings
from cluster.control import Desk
from cluster.exporting import Page, Place, RetainedPlace
from cluster.importing import Limits, Order
from cluster.moved import FORMAT, Record
from cluster.moved_users import AnyRecord, MovedBan, MovedRules, MovedUser, UserRecord

RECORDS_PER_IMPORT: Final = 512
IMPORT_BYTES: Final = 1 << 20
"""Of a body, and as much as the largest message takes."""
_CLIENT_ID_BYTES: Final = 65_535


class ImportBody(Body):
    """`format`: of the records, as the export said. `id`: the same for all batches of an import, of 16
    hexadecimal digits. `replace`: what is there goes. `dry_run`: only tell what would become of them."""

    format: int
    id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    records: Annotated[list[AnyRecord], Field(max_length=RECORDS_PER_IMPORT)]
    replace: bool = False
    dry_run: bool = False


def moving_routes(desk: Desk, settings: Callable[[], Settings]) -> Sequence[Route]:
    """Below `/api/v1`. `settings`: those in force."""
    api = _Moving(desk, settings)
    return [
        Route("/export/sessions", api.sessions, methods=["GET"]),
        Route("/export/retained", api.retained, methods=["GET"]),
        Route("/export/users", api.users, methods=["GET"]),
        Route("/export/rules", api.rules, methods=["GET"]),
        Route("/export/bans", api.bans, methods=["GET"]),
        Route("/import", api.take, methods=["POST"]),
    ]


class _Moving:
    def __init__(self, desk: Desk, settings: Callable[[], Settings]) -> None:
        self._desk = desk
        self._settings = settings

    @describe(
        "moving",
        "Persistent sessions with what waits for them, as `records` for an import.",
        query={
            "prefix": "How the Client Identifiers begin.",
            "queues": Query("Also their messages.", {"type": "boolean", "default": False}),
            "after": AFTER,
        },
    )
    async def sessions(self, request: Request) -> Response:
        query = request.query_params
        beginning = query.get("prefix", "")
        place = _session_place(query.get("after"))
        with_queues = flag_of(request, "queues")
        if len(beginning.encode()) > _CLIENT_ID_BYTES:
            raise HTTPException(422, "prefix: too long")
        exporter = control_of(self._desk).exporter
        page, following = await exporter.sessions(beginning, place, with_queues=with_queues)
        if "after" not in query:
            note_change(request, "sessions_exported", prefix=beginning, queues=with_queues)
        fields = None if following is None else [following.bucket, following.after, following.part]
        return _answer(page, fields)

    @describe(
        "moving",
        "Retained messages that match a Topic Filter, as `records` for an import; none of `$SYS`.",
        query={"filter": Query("A Topic Filter.", {"type": "string", "default": "#"}), "after": AFTER},
    )
    async def retained(self, request: Request) -> Response:
        query = request.query_params
        topic_filter = query.get("filter", "#")
        if not is_valid_topic_filter(topic_filter):
            raise HTTPException(422, "filter: no Topic Filter")
        place = _retained_place(query.get("after"))
        page, following = await control_of(self._desk).exporter.retained(topic_filter, place)
        if "after" not in query:
            note_change(request, "retained_exported", filter=topic_filter)
        return _answer(page, None if following is None else [following.bucket, following.cursor])

    @describe(
        "moving",
        "Users that are kept in Redis, as `records` for an import: with their hashes and SCRAM keys.",
        query={"after": AFTER},
    )
    async def users(self, request: Request) -> Response:
        after = _user_place(request.query_params.get("after"))
        page, following = await control_of(self._desk).user_mover.users(after)
        if after is None:
            note_change(request, "users_exported")
        return _answer(page, None if following is None else [following])

    @describe("moving", "The rules that are kept in Redis, as `records` for an import: one, or none.")
    async def rules(self, request: Request) -> Response:
        page = await control_of(self._desk).user_mover.rules()
        note_change(request, "rules_exported")
        return _answer(page, None)

    @describe("moving", "Bans, as `records` for an import; one may come twice.", query={"after": AFTER})
    async def bans(self, request: Request) -> Response:
        cursor = _ban_place(request.query_params.get("after"))
        page, following = await control_of(self._desk).user_mover.bans(cursor)
        if not cursor:
            note_change(request, "bans_exported")
        return _answer(page, [following] if following else None)

    @describe(
        "moving",
        "Makes what `records` has, in their order; what is there stays, unless it is to be replaced. The same"
        " may be sent again.",
        body=ImportBody,
    )
    async def take(self, request: Request) -> Response:
        settings = self._settings()
        body = await read_body(request, ImportBody, IMPORT_BYTES + 2 * settings.mqtt.maximum_packet_size)
        if body.format != FORMAT:
            raise HTTPException(422, f"format: this release reads {FORMAT} only")
        order = Order(bytes.fromhex(body.id), _limits(settings), body.replace)
        control = control_of(self._desk)
        users, records = _sorted(body.records)
        work = control.importer.look if body.dry_run else control.importer.take
        summary = await work(records, order)
        await control.user_mover.take(users, summary, replaces=body.replace, is_dry=body.dry_run)
        if not body.dry_run:
            made: dict[str, object] = {
                "sessions": summary.sessions["made"],
                "replaced": summary.sessions["replaced"],
            }
            made |= {what: counts["made"] + counts["replaced"] for what, counts in summary.access.items()}
            note_change(request, "imported", **made, retained=summary.retained["made"])
        return answer(asdict(summary))


def _sorted(given: Sequence[Record | UserRecord]) -> tuple[list[UserRecord], list[Record]]:
    """What is of users, rules and bans, and what is not."""
    users: list[UserRecord] = []
    others: list[Record] = []
    for each in given:
        if isinstance(each, MovedUser | MovedRules | MovedBan):
            users.append(each)
        else:
            others.append(each)
    return users, others


def _limits(settings: Settings) -> Limits:
    return Limits(
        settings.session.queue_limit,
        settings.session.queue_policy == "drop_oldest",
        settings.limits.subscriptions_per_session,
        settings.limits.retained_messages,
        settings.limits.retained_payload_bytes,
        settings.session.qos2_retry_limit_seconds * 1000,
    )


def _answer(page: Page[Record] | Page[UserRecord], following: Sequence[object] | None) -> Response:
    records = [record.model_dump(mode="json", exclude_defaults=True) for record in page.records]
    cursor = None if following is None else base64.urlsafe_b64encode(orjson.dumps(following)).decode()
    return answer({"format": FORMAT, "records": records, "problems": page.problems, "next": cursor})


# A cursor is JSON: a place may be any Client Identifier, or have U+0000 in it.


def _session_place(cursor: str | None) -> Place:
    match _fields(cursor):
        case None:
            return Place()
        case [int(bucket), str() | None as after, None] if bucket >= 0:
            return Place(bucket, after)
        case [int(bucket), str(after), [int(gen), int(n)]] if bucket >= 0:
            return Place(bucket, after, (gen, n))
    raise _no_cursor()


def _retained_place(cursor: str | None) -> RetainedPlace:
    match _fields(cursor):
        case None:
            return RetainedPlace()
        case [int(bucket), str() | None as position] if bucket >= 0:
            return RetainedPlace(bucket, position)
    raise _no_cursor()


def _user_place(cursor: str | None) -> str | None:
    match _fields(cursor):
        case None:
            return None
        case [str(after)]:
            return after
    raise _no_cursor()


def _ban_place(cursor: str | None) -> int:
    match _fields(cursor):
        case None:
            return 0
        case [int(position)] if 0 <= position < 1 << 64:
            return position
    raise _no_cursor()


def _fields(cursor: str | None) -> Any:
    if cursor is None:
        return None
    try:
        return orjson.loads(base64.urlsafe_b64decode(cursor.encode()))
    except ValueError:
        raise _no_cursor() from None


def _no_cursor() -> HTTPException:
    return HTTPException(422, "after: what `next` of the page before says")
