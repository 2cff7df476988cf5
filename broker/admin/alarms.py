"""`/api/v1/alarms`: what deserves somebody's attention, in the whole cluster."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.describe import AFTER, LIMIT, describe
from broker.admin.exchange import answer, time_text
from broker.admin.paging import limit_of
from cluster.alarms import Alarm, in_order
from cluster.control import Desk
from cluster.store.errors import StoreError


def alarm_routes(desk: Desk) -> list[Route]:
    """The route below `/api/v1`."""
    return [Route("/alarms", _Alarms(desk).list, methods=["GET"])]


class _Alarms:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @describe(
        "cluster",
        "Alarms that are raised, of all nodes, critical ones first; `incomplete` if Redis does not answer:"
        " then of this node.",
        query={"limit": LIMIT, "after": AFTER},
    )
    async def list(self, request: Request) -> Response:
        control = self._desk.control
        if control is None:
            raise HTTPException(503, "Redis has not been reached yet")
        limit, after = limit_of(request), request.query_params.get("after", "")
        is_incomplete = False
        try:
            found = await control.alarms.all()
        except StoreError:
            is_incomplete = True
            found = in_order(control.alarms.own)
        rest = [alarm for alarm in found if _place(alarm) > after]
        page = rest[:limit]
        following = _place(page[-1]) if len(rest) > len(page) else None
        return answer(
            {"alarms": [shown_alarm(alarm) for alarm in page], "next": following, "incomplete": is_incomplete}
        )


def _place(alarm: Alarm) -> str:
    """Where it is among all of them, which are in this order."""
    return f"{alarm.severity != 'critical':d}/{alarm.name}/{alarm.node}"


def shown_alarm(alarm: Alarm) -> dict[str, object]:
    """As JSON has it."""
    return {
        "name": alarm.name,
        "severity": alarm.severity,
        "node": alarm.node,
        "since": time_text(alarm.since_ms),
        "value": round(alarm.value, 4),
        "threshold": alarm.threshold,
        "text": alarm.text,
        "runbook": alarm.runbook,
    }
