"""What a route of `/api/v1` says of itself, beside its endpoint: for the OpenAPI document and docs/api.md.

    @describe("bans", "Bans somebody, on all nodes.", body=BanBody, status=201)
    async def add(self, request: Request) -> Response: ...

Paths and methods are those of the `Route`, the role is that of `door.NEEDS`. A test finds routes that say
nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import BaseModel

E = TypeVar("E", bound=Callable[..., Any])

JSON: Final = "application/json"
PAGE: Final = 100
PAGE_MAXIMUM: Final = 500


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter behind `?`; `schema` as JSON Schema has it."""

    text: str
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})
    is_required: bool = False


LIMIT: Final = Query(
    "How many at most.", {"type": "integer", "minimum": 1, "maximum": PAGE_MAXIMUM, "default": PAGE}
)
AFTER: Final = Query("Where to begin: what `next` of the page before says.")


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path. `answer` None: an object in JSON, of which `summary` tells enough. `is_open`: it
    needs no token. `headers`: of the answer, by name, what they are for."""

    tag: str
    summary: str
    body: type[BaseModel] | None
    query: Mapping[str, str | Query]
    answer: type[BaseModel] | None
    status: int
    media_type: str
    is_open: bool
    headers: Mapping[str, str]


_OPERATIONS: Final[dict[object, Operation]] = {}


def describe(
    tag: str,
    summary: str,
    *,
    body: type[BaseModel] | None = None,
    query: Mapping[str, str | Query] = {},
    answer: type[BaseModel] | None = None,
    status: int = 200,
    media_type: str = JSON,
    is_open: bool = False,
    headers: Mapping[str, str] = {},
) -> Callable[[E], E]:
    """Marks an endpoint. `query`: by name, what a parameter is for. `media_type`: of the answer; a stream of
    events has another one than JSON."""
    operation = Operation(tag, summary, body, query, answer, status, media_type, is_open, headers)

    def mark(endpoint: E) -> E:
        _OPERATIONS[endpoint] = operation
        return endpoint

    return mark


def operation_of(endpoint: object) -> Operation | None:
    """What was said of an endpoint, which may be a bound method; None if nothing was."""
    return _OPERATIONS.get(getattr(endpoint, "__func__", endpoint))
