"""`/api/v1/subscriptions`, `shared`, `letters` and `queue`: who gets what, what waits, what was dropped."""

import base64
import re
from collections.abc import Sequence
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.asking import control_of
from broker.admin.clients import silent_nodes
from broker.admin.describe import AFTER, LIMIT, Query, describe
from broker.admin.exchange import answer, time_text
from broker.admin.paging import choice_of, limit_of
from cluster.clients import Clients, WhichGroups, WhichSubscriptions
from cluster.control import Desk
from cluster.store.explained import QueuedEntry
from cluster.store.letters import Letter
from cluster.store.queues import Peeked

_ENTRY: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
_ENDS: Final = ("head", "tail")
_ONE_OF: Final = ("client_id", "filter", "topic")


def waiting_routes(desk: Desk) -> Sequence[Route]:
    """Below `/api/v1`."""
    api = _Waiting(desk)
    return [
        Route("/subscriptions", api.subscriptions, methods=["GET"]),
        Route("/shared", api.shared, methods=["GET"]),
        Route("/letters", api.letters, methods=["GET"]),
        Route("/queue", api.queue, methods=["GET"]),
    ]


class _Waiting:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @describe(
        "subscriptions",
        "Subscriptions of a client, those whose filters begin so, or those that match a topic; by filter.",
        query={
            "client_id": "Of this session.",
            "filter": "How filters begin.",
            "topic": "A Topic Name that they match.",
            "limit": LIMIT,
            "after": AFTER,
        },
    )
    async def subscriptions(self, request: Request) -> Response:
        query = request.query_params
        given = [name for name in _ONE_OF if name in query]
        if len(given) > 1:
            raise HTTPException(422, f"only one of {', '.join(_ONE_OF)}")
        after, limit = query.get("after", ""), limit_of(request)
        if "client_id" in query:
            return await self._subscriptions_of(query["client_id"], after, limit)
        place = _place_of(after)
        which = WhichSubscriptions(query.get("filter", ""), query.get("topic"), place, limit)
        listed = await Clients(control_of(self._desk)).subscriptions(which)
        following = _cursor_of(listed.after) if listed.after is not None else None
        return answer({"subscriptions": listed.items, "next": following, **silent_nodes(listed)})

    async def _subscriptions_of(self, client_id: str, after: str, limit: int) -> Response:
        found = await Clients(control_of(self._desk)).subscriptions_of(client_id)
        if found is None:
            raise HTTPException(404, f"there is no session {client_id}")
        rest = [item for item in found if str(item["filter"]) > after]
        page = rest[:limit]
        following = page[-1]["filter"] if len(rest) > limit else None
        return answer({"subscriptions": page, "next": following, "silent": []})

    @describe(
        "subscriptions",
        "Shared subscriptions: messages that nobody has (`waiting`), that members have (`given`), how many"
        " `members` are connected.",
        query={"prefix": "How `group/filter` begins.", "limit": LIMIT, "after": AFTER},
    )
    async def shared(self, request: Request) -> Response:
        query = request.query_params
        which = WhichGroups(query.get("prefix", ""), query.get("after", ""), limit_of(request))
        listed = await Clients(control_of(self._desk)).groups(which)
        return answer({"shared": listed.items, "next": listed.after, **silent_nodes(listed)})

    @describe(
        "messages",
        "Dead letters, newest first: what somebody did not get, and why. Of one client, a page may have fewer"
        " than `limit` with a `next`.",
        query={"client_id": "Whose; `$share/group/filter` if nobody's.", "limit": LIMIT, "after": AFTER},
    )
    async def letters(self, request: Request) -> Response:
        query = request.query_params
        browser = control_of(self._desk).browser
        try:
            page = await browser.letters(
                limit_of(request), client_id=query.get("client_id"), after=query.get("after")
            )
        except ValueError:
            raise _no_cursor() from None
        return answer({"letters": [_shown_letter(letter) for letter in page.items], "next": page.after})

    @describe(
        "messages",
        "What waits for a session, without payloads. A page of large messages has fewer than `limit`.",
        query={
            "client_id": Query("Whose.", is_required=True),
            "from": Query("Oldest or newest first.", {"type": "string", "enum": [*_ENDS], "default": "head"}),
            "limit": LIMIT,
            "after": AFTER,
        },
    )
    async def queue(self, request: Request) -> Response:
        query = request.query_params
        client_id, behind = query.get("client_id"), query.get("after")
        if client_id is None:
            raise HTTPException(422, "client_id: whose queue?")
        if behind is not None and _ENTRY.fullmatch(behind) is None:
            raise _no_cursor()
        from_tail = choice_of(request, "from", _ENDS) == "tail"
        browser = control_of(self._desk).browser
        if await browser.brief(client_id) is None:
            raise HTTPException(404, f"there is no session {client_id}")
        page = await browser.queue(client_id, limit_of(request), from_tail=from_tail, behind=behind)
        return answer({"queue": [shown_entry(entry) for entry in page.items], "next": page.after})


# A place among the subscriptions has U+0000 in it, which no command line can.


def _cursor_of(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode()


def _place_of(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor.encode()).decode()
    except ValueError:
        raise _no_cursor() from None


def _no_cursor() -> HTTPException:
    return HTTPException(422, "after: what `next` of the page before says")


def _shown_letter(letter: Letter) -> dict[str, object]:
    return {
        "at": time_text(letter.at_ms),
        "client_id": letter.client_id,
        "topic": letter.topic,
        "reason": letter.reason,
    }


def shown_entry(entry: Peeked | QueuedEntry) -> dict[str, object]:
    """As JSON has it; without its payload."""
    return {
        "n": entry.n,
        "topic": entry.topic,
        "qos": entry.qos,
        "retain": entry.retain,
        "bytes": entry.payload_bytes,
        "expires_at": time_text(entry.deadline_ms) if entry.deadline_ms else None,
    }
