"""`/api/v1/explain`: what holds up a client, who gets a topic, where a message is."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.exchange import answer
from broker.admin.explain.gathering import gather
from broker.admin.explain.shown import shown_client
from cluster.control import Control, Desk

_ID_BYTES = 65_535
_WAYS = "client_id, topic, token, or client_id and n"


def explain_routes(desk: Desk) -> list[Route]:
    """The routes below `/api/v1`."""
    return [Route("/explain", _Explain(desk).explain, methods=["GET"])]


class _Explain:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def explain(self, request: Request) -> Response:
        """Of what is asked for, exactly one."""
        asked = {name: value for name, value in request.query_params.multi_items() if value}
        client_id = asked.get("client_id")
        if set(asked) == {"client_id"} and client_id is not None:
            return await self._client(client_id)
        raise HTTPException(422, f"say what: {_WAYS}")

    async def _client(self, client_id: str) -> Response:
        if len(client_id.encode(errors="surrogatepass")) > _ID_BYTES:
            raise HTTPException(422, "client_id: too long")
        facts, letters = await gather(self._control(), client_id)
        return answer(shown_client(facts, letters))

    def _control(self) -> Control:
        if self._desk.control is None:
            raise HTTPException(503, "Redis has not been reached yet")
        return self._desk.control
