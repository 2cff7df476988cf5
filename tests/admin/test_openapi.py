"""The OpenAPI document has all routes, says nothing else, and is one."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its types are elsewhere
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.api import api_routes
from broker.admin.describe import describe
from broker.admin.door import Door
from broker.admin.login import login_routes, outline
from broker.admin.openapi import BASE, document, entries
from broker.observability.health import Health
from broker.observability.metrics import Counters, Tally
from cluster.control import Desk
from cluster.drain import Departure
from docs.api_page import routes

META_SCHEMA = Path(__file__).with_name("openapi-3.1.json")
"""https://spec.openapis.org/oas/3.1/schema/2022-10-07, by the OpenAPI Initiative (Apache-2.0)."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def found() -> Any:
    return json.loads(json.dumps(document(routes(), "1.0")))


def test_every_route_says_something_of_itself() -> None:
    silent = [f"{each.method} {each.path}" for each in entries(routes()) if each.operation is None]
    assert silent == [], "give their endpoints a line of broker.admin.describe"


def test_every_route_is_there_and_nothing_else(found: Any) -> None:
    there = {
        (method, re.sub(r":\w+\}", "}", route.path))
        for route in routes()
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert {(method.upper(), path) for path, each in found["paths"].items() for method in each} == there
    identifiers = [each["operationId"] for path in found["paths"].values() for each in path.values()]
    assert len(set(identifiers)) == len(identifiers)


def test_it_is_an_openapi_document(found: Any) -> None:
    validator = Draft202012Validator(json.loads(META_SCHEMA.read_text()))
    assert [error.message for error in validator.iter_errors(found)] == []
    for name, schema in found["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object", name
    assert set(re.findall(r"#/components/schemas/(\w+)", json.dumps(found))) == set(
        found["components"]["schemas"]
    )
    for path, methods in found["paths"].items():
        for each in methods.values():
            named = [parameter["name"] for parameter in each["parameters"] if parameter["in"] == "path"]
            assert named == re.findall(r"\{(\w+)\}", path)


def test_the_way_in_is_described(found: Any) -> None:
    """Though its routes are not among those of the API."""
    paths = found["paths"]
    tell, log_in, log_out = paths["/login"]["get"], paths["/login"]["post"], paths["/logout"]["post"]
    assert (tell["security"], tell["x-role"], tell["description"]) == ([], None, "Open to all.")
    assert (log_in["x-role"], log_out["x-role"]) == ("read", "read")
    assert "security" not in log_in
    assert [*log_in["responses"]["200"]["headers"]] == ["Set-Cookie"]
    assert found["security"] == [{"token": []}, {"session": []}]
    assert found["components"]["securitySchemes"]["session"]["name"] == "moorline"


def test_the_paths_of_the_way_in_are_those_that_are_served() -> None:
    served = [(route.path, route.methods) for route in login_routes(Door(None, Tally()))]
    assert served == [(BASE + route.path, route.methods) for route in outline()]


@pytest.mark.anyio
async def test_what_is_served_is_all_of_it(found: Any) -> None:
    app = Starlette(routes=api_routes(Health(), Counters(), Desk(Departure(), [])))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/openapi.json")).json()["paths"] == found["paths"]


def test_roles_bodies_and_parameters(found: Any) -> None:
    publish = found["paths"]["/publish"]["post"]
    assert (publish["x-role"], publish["requestBody"]["required"]) == ("admin", True)
    body = found["components"]["schemas"]["PublishBody"]
    assert body["required"] == ["topic"]
    assert found["paths"]["/retained"]["get"]["x-role"] == "read"
    assert not found["paths"]["/drain"]["post"]["requestBody"]["required"]
    limit = next(each for each in found["paths"]["/retained"]["get"]["parameters"] if each["name"] == "limit")
    assert limit["schema"]["maximum"] == 500


def test_two_models_of_one_name_are_told() -> None:
    def model(kind: type) -> type[BaseModel]:
        return type("Twice", (BaseModel,), {"__annotations__": {"a": kind}})

    @describe("x", "One.", body=model(int), media_type="text/event-stream")
    async def one(_: Request) -> Response:
        raise NotImplementedError

    @describe("x", "Two.", body=model(str))
    async def two(_: Request) -> Response:
        raise NotImplementedError

    assert document([Route("/one", one)], "1")["paths"]
    with pytest.raises(ValueError, match="two models Twice"):
        document([Route("/one", one), Route("/two", two)], "1")
