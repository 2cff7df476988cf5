"""`/api/v1/forwards`: how the forwards are, as the nodes say that have them."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.describe import describe
from broker.admin.exchange import answer, time_text
from broker.observability.forwards import ELSEWHERE
from cluster.control import Desk

_COUNTED = ("sent", "received", "failed", "refused", "dropped", "skipped")
_MOMENTS = ("last_error_at", "last_sent_at")
NOWHERE = "nowhere"
"""No node has it just now."""

Said = Mapping[str, Any]


def forward_routes(desk: Desk) -> list[Route]:
    """The routes below `/api/v1`."""

    @describe("forwards", "Lists the forwards: state, node, what waits, counts, last error.")
    async def forwards(_: Request) -> Response:
        if desk.control is None:
            raise HTTPException(503, "Redis has not been reached yet")
        answers = await desk.control.questions.ask("forwards", {})
        by_name: dict[str, list[tuple[str, Said]]] = {}
        for incarnation, said in answers.said.items():
            if isinstance(said, dict):
                for name, status in said.items():
                    by_name.setdefault(name, []).append((incarnation, status))
        return answer(
            {
                "forwards": [_shown(name, by_name[name]) for name in sorted(by_name)],
                "next": None,
                "silent": sorted(answers.silent),
            }
        )

    return [Route("/forwards", forwards, methods=["GET"])]


def _shown(name: str, told: list[tuple[str, Said]]) -> dict[str, object]:
    """Counts are of all nodes that are there, each since its start; the rest is of the one that has it."""
    having = [(node, status) for node, status in told if status["state"] != ELSEWHERE]
    node, status = having[0] if having else (None, max((each for _, each in told), key=_latest))
    shown: dict[str, object] = {
        "name": name,
        "kind": status["kind"],
        "state": status["state"] if having else NOWHERE,
        "since": time_text(int(status["since"] * 1000)),
        "node": node,
        "waiting": status["waiting"] if having else None,
    }
    shown |= {counted: sum(each[counted] for _, each in told) for counted in _COUNTED}
    shown["last_error"] = status["last_error"]
    for moment in _MOMENTS:
        shown[moment] = time_text(int(status[moment] * 1000)) if status[moment] else None
    return shown


def _latest(status: Said) -> float:
    return float(status["since"])
