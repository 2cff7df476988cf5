"""Who asks the API for something: for the audit log, and for what is noted beside a change."""

from typing import Final

from starlette.requests import Request

from broker.observability.audit import record

WHO: Final = "moorline.who"
"""In the scope of a request: the name of whoever asks, from somebody who has made sure of it."""


def who(request: Request) -> str | None:
    """Who asks, if that is known."""
    name = request.scope.get(WHO)
    return name if isinstance(name, str) else None


def address_of(request: Request) -> str | None:
    """From where."""
    return request.client.host if request.client is not None else None


def note_change(request: Request, event: str, **fields: object) -> None:
    """Somebody has changed something. `fields` say what; never passwords or tokens."""
    record(event, by=who(request), address=address_of(request), **fields)
