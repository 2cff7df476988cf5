"""`/api/v1/explain`: what holds up a client, who gets a topic, where a message is."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.describe import Query, describe
from broker.admin.exchange import answer
from broker.admin.explain.gathering import gather
from broker.admin.explain.messages import explain_entry, explain_token, explain_topic
from broker.admin.explain.shown import shown_client
from broker.mqtt import is_valid_topic_name
from cluster.control import Control, Desk

_TOKEN_BYTES: Final = 256
_LARGEST: Final = 1 << 53
_WAYS: Final = "client_id, topic, token, or client_id and n"


def explain_routes(desk: Desk) -> list[Route]:
    """The routes below `/api/v1`."""
    return [Route("/explain", _Explain(desk).explain, methods=["GET"])]


class _Explain:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @describe(
        "explain",
        "Tells in `verdict`, in sentences, what holds up a client, who gets a topic, or where a message is.",
        query={
            "client_id": "A client: also its session, connection, queue, what it has lost, its last events.",
            "n": Query(
                "With `client_id`: the entry of its queue with that number.",
                {"type": "integer", "minimum": 1},
            ),
            "topic": "A Topic Name: which sessions, groups and clients get it, by which filter.",
            "token": "Of a QoS 2 message, hexadecimal: which sessions have it.",
        },
    )
    async def explain(self, request: Request) -> Response:
        """Of what is asked for, exactly one."""
        asked = {name: value for name, value in request.query_params.multi_items() if value}
        control = self._control()
        match asked:
            case {"client_id": client_id} if len(asked) == 1:
                facts, letters = await gather(control, client_id)
                return answer(shown_client(facts, letters))
            case {"topic": topic} if len(asked) == 1:
                if not is_valid_topic_name(topic):
                    raise HTTPException(422, "topic: a Topic Name, without wildcards")
                return answer(await explain_topic(control, topic))
            case {"token": token} if len(asked) == 1:
                return answer(await explain_token(control, _token(token)))
            case {"client_id": client_id, "n": n} if len(asked) == 2:
                return answer(await explain_entry(control, client_id, _number(n)))
        raise HTTPException(422, f"say what: {_WAYS}")

    def _control(self) -> Control:
        if self._desk.control is None:
            raise HTTPException(503, "Redis has not been reached yet")
        return self._desk.control


def _token(value: str) -> bytes:
    """Hexadecimal, as it is shown with the exchanges of a session."""
    if len(value) > 2 * _TOKEN_BYTES:
        raise HTTPException(422, f"token: more than {_TOKEN_BYTES} bytes")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise HTTPException(422, "token: hexadecimal digits") from None


def _number(value: str) -> int:
    if not (value.isascii() and value.isdecimal() and int(value) < _LARGEST):
        raise HTTPException(422, "n: the number of an entry")
    return int(value)
