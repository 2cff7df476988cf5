"""docs/api.md, made from the routes of `/api/v1` and what they say of themselves."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from starlette.routing import BaseRoute

from broker.admin.api import api_routes
from broker.admin.describe import JSON, Operation
from broker.admin.login import outline
from broker.admin.openapi import Entry, entries
from broker.observability.health import Health
from broker.observability.metrics import Counters
from cluster.control import Desk
from cluster.drain import Departure

PAGE: Final = Path(__file__).parent / "api.md"

HEAD: Final = """\
<!-- Written by `make docs` from the routes in broker/admin/. Change it there, not in this file. -->
# The admin API

All paths are below `/api/v1` of the admin address (`node.admin`); any node answers for the whole cluster.
What to do with it, who may reach it, what errors mean: [operations](operations.md#the-api); tokens and roles:
[security](security.md#admin-address). `GET /api/v1/openapi.json` is this page for programs.

Each role includes those before it: `read`, `operate`, `admin`. A body is JSON; what changes something needs
`Content-Type: application/json`, and `{}` if there is nothing to say. Lists come in pages: `limit` is how
many at most (1 to 500, by default 100), `next` in the answer what to give as `after` for the next page, or
null after the last one. Names in paths are percent-encoded, with their slashes.
"""


def routes() -> Sequence[BaseRoute]:
    """All below `/api/v1`, of nobody's."""
    return [*api_routes(Health(), Counters(), Desk(Departure(), [])), *outline()]


def api_page() -> str:
    """The whole page."""
    described = [(each, each.operation) for each in entries(routes()) if each.operation is not None]
    parts = [HEAD]
    for tag in dict.fromkeys(operation.tag for _, operation in described):
        parts.append(f"\n## {tag.capitalize()}\n\n| Request | Role | What it does |\n|---|---|---|\n")
        parts += [_row(entry, said) for entry, said in described if said.tag == tag]
        bodies = dict.fromkeys(
            said.body for _, said in described if said.tag == tag and said.body is not None
        )
        parts += [_model(body) for body in bodies if body.model_fields]
        answers = dict.fromkeys(
            said.answer for _, said in described if said.tag == tag and said.answer is not None
        )
        parts += [_model(each) for each in answers]
    return "".join(parts)


def _row(entry: Entry, said: Operation) -> str:
    facts = [said.summary]
    if said.query:
        facts.append(f"Query: {', '.join(f'`{name}`' for name in said.query)}.")
    if said.body is not None and said.body.model_fields:
        facts.append(f"Body: `{said.body.__name__}`.")
    if said.answer is not None:
        facts.append(f"Answer: `{said.answer.__name__}`.")
    if said.media_type != JSON:
        facts.append(f"Answers with `{said.media_type}`.")
    role = "none" if said.is_open else entry.role
    return f"| `{entry.method} {entry.path}` | {role} | {' '.join(facts).replace('|', chr(92) + '|')} |\n"


def _model(model: type[BaseModel]) -> str:
    fields = ", ".join(
        f"`{name}`" + (" (needed)" if info.is_required() and model.__name__.endswith("Body") else "")
        for name, info in model.model_fields.items()
    )
    text = re.sub(r"\s+", " ", model.__doc__ or "").strip()
    return f"\n`{model.__name__}`: {fields}.\n{text}\n"
