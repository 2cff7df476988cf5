"""The OpenAPI document has all routes, says nothing else, and is one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its types are elsewhere
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.describe import describe
from broker.admin.openapi import document, entries
from docs.api_page import routes

META_SCHEMA = Path(__file__).with_name("openapi-3.1.json")
"""https://spec.openapis.org/oas/3.1/schema/2022-10-07, by the OpenAPI Initiative (Apache-2.0)."""


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
