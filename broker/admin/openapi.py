"""`/api/v1/openapi.json`: what can be asked, made of the routes and of what they say of themselves."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import anyio.to_thread
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from broker.admin.describe import JSON, Operation, Query, describe, operation_of
from broker.admin.door import needed_role
from broker.admin.exchange import answer
from broker.auth.admin_tokens import Role

BASE: Final = "/api/v1"
_SCHEMAS: Final = "#/components/schemas/{model}"
_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_OBJECT: Final = {"type": "object"}
_SCHEMES: Final = {
    "token": {"type": "http", "scheme": "bearer"},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "moorline",
        "description": "Made by `POST /login`; over TLS its name is `__Host-moorline`.",
    },
}


class Error(BaseModel):
    """Every answer with a status from 400 on."""

    error: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A method of a path, as the document has it (`/users/{name}`). `operation` None: it says nothing of
    itself."""

    method: str
    path: str
    role: Role
    parameters: Sequence[str]
    operation: Operation | None


def entries(routes: Sequence[BaseRoute]) -> list[Entry]:
    """In the order of the routes."""
    return [each for route in routes if isinstance(route, Route) for each in _entries(route)]


def document(routes: Sequence[BaseRoute], version: str) -> dict[str, object]:
    """The whole document. Routes that say nothing of themselves are not in there."""
    described = [(entry, entry.operation) for entry in entries(routes) if entry.operation is not None]
    paths: dict[str, dict[str, object]] = {}
    for entry, operation in described:
        paths.setdefault(entry.path, {})[entry.method.lower()] = _operation(entry, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Moorline",
            "version": version,
            "description": "Looks at a cluster and steers it; any node answers for all of them.",
        },
        "servers": [{"url": BASE}],
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas([operation for _, operation in described]),
            "securitySchemes": _SCHEMES,
        },
    }


class OpenApi:
    """The route that answers with the document of the others, and of itself."""

    def __init__(self, routes: Sequence[BaseRoute], version: str) -> None:
        self._version = version
        self._routes = [*routes, self.route]
        self._document: dict[str, object] | None = None

    @property
    def route(self) -> Route:
        return Route("/openapi.json", self.show)

    @describe("api", "This document (OpenAPI 3.1).")
    async def show(self, _: Request) -> Response:
        if self._document is None:  # made in a thread: it takes longer than clients should wait
            self._document = await anyio.to_thread.run_sync(document, self._routes, self._version)
        return answer(self._document)


def _entries(route: Route) -> Iterator[Entry]:
    path = _PARAMETER.sub(r"{\1}", route.path)
    example = BASE + _PARAMETER.sub("x", route.path)
    parameters = _PARAMETER.findall(route.path)
    for method in sorted((route.methods or set()) - {"HEAD"}):
        yield Entry(method, path, needed_role(method, example), parameters, operation_of(route.endpoint))


def _schemas(operations: Sequence[Operation]) -> dict[str, object]:
    """Of the models that bodies and answers have, by name. Raises ValueError if two have the same."""
    found: dict[str, object] = {}
    models: set[type[BaseModel]] = {Error}
    models.update(each for said in operations for each in (said.body, said.answer) if each is not None)
    for model in models:
        schema = model.model_json_schema(ref_template=_SCHEMAS)
        for name, each in {**schema.pop("$defs", {}), model.__name__: schema}.items():
            if found.setdefault(name, each) != each:
                raise ValueError(f"there are two models {name}")
    return dict(sorted(found.items()))


def _operation(entry: Entry, operation: Operation) -> dict[str, object]:
    needed = f"Needs a token of the role `{entry.role}`, where tokens are asked for."
    done: dict[str, object] = {
        "description": "Done.",
        "content": {operation.media_type: {"schema": _schema_of(operation)}},
    }
    if operation.headers:
        done["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in operation.headers.items()
        }
    parameters = [_path_parameter(name) for name in entry.parameters]
    parameters += [_query_parameter(name, said) for name, said in operation.query.items()]
    described: dict[str, object] = {
        "operationId": _identifier(entry),
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": "Open to all." if operation.is_open else needed,
        "x-role": None if operation.is_open else str(entry.role),
        "parameters": parameters,
        "responses": {
            str(operation.status): done,
            "default": {"description": "Refused.", "content": {JSON: {"schema": _reference(Error)}}},
        },
    }
    if operation.is_open:
        described["security"] = []
    if operation.body is not None:
        described["requestBody"] = {
            "required": any(each.is_required() for each in operation.body.model_fields.values()),
            "content": {JSON: {"schema": _reference(operation.body)}},
        }
    return described


def _schema_of(operation: Operation) -> object:
    if operation.answer is not None:
        return _reference(operation.answer)
    return _OBJECT if operation.media_type == JSON else {"type": "string"}


def _reference(model: type[BaseModel]) -> object:
    return {"$ref": _SCHEMAS.format(model=model.__name__)}


def _path_parameter(name: str) -> dict[str, object]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameter(name: str, said: str | Query) -> dict[str, object]:
    query = Query(said) if isinstance(said, str) else said
    return {
        "name": name,
        "in": "query",
        "required": query.is_required,
        "description": query.text,
        "schema": dict(query.schema),
    }


def _identifier(entry: Entry) -> str:
    return "_".join([entry.method.lower(), *re.findall(r"\w+", entry.path)])
