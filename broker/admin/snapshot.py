"""`/api/v1/metrics` and `/api/v1/settings`: what a node counts, and what holds for it."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.admin.asking import ask_here, control_of
from broker.admin.describe import Query, describe
from broker.admin.exchange import answer
from broker.admin.paging import flag_of
from broker.observability.metrics import SAMPLES_QUESTION, Counters
from broker.settings import Settings
from broker.settings.shown import Shown, shown_settings
from cluster.control import Desk


class Sample(BaseModel):
    """As Prometheus knows them. `value` null: no finite number."""

    node: str
    name: str
    labels: dict[str, str]
    value: float | None


class Samples(BaseModel):
    """`silent`: nodes that did not answer."""

    metrics: list[Sample]
    silent: list[str]


class Setting(BaseModel):
    """`changed`: it is not the default. `hidden`: some of `value` is left out, as it may be a secret."""

    value: Any
    default: Any
    unit: str | None
    changed: bool
    hidden: bool


class SettingsInForce(BaseModel):
    """By the name of the table (`mqtt`, `listeners.NAME`) and of the setting; `node` is who answers."""

    node: str
    settings: dict[str, dict[str, Setting]]


def snapshot_routes(desk: Desk, counters: Counters, settings: Callable[[], Settings]) -> list[Route]:
    """The routes below `/api/v1`. `settings`: those in force."""
    api = _Snapshot(desk, counters, settings)
    return [Route("/metrics", api.metrics), Route("/settings", api.settings)]


class _Snapshot:
    def __init__(self, desk: Desk, counters: Counters, settings: Callable[[], Settings]) -> None:
        self._desk = desk
        self._counters = counters
        self._settings = settings

    @describe(
        "node",
        "What this node counts, or each worker of this process, or all nodes: samples as on `/metrics`.",
        query={
            "name": "Only those whose names begin with this text.",
            "cluster": Query("Those of all nodes.", {"type": "boolean", "default": False}),
        },
        answer=Samples,
    )
    async def metrics(self, request: Request) -> Response:
        """Samples of each node, and nodes that said nothing."""
        argument = {"name": request.query_params.get("name", "")}
        if flag_of(request, "cluster"):
            answers = await control_of(self._desk).questions.ask(SAMPLES_QUESTION, argument)
        else:
            answers = await ask_here(self._desk, SAMPLES_QUESTION, argument)
        samples = [
            Sample(node=incarnation.rpartition(".")[0], **sample)
            for incarnation, said in sorted(answers.said.items())
            for sample in _samples(said)
        ]
        return answer(Samples(metrics=samples, silent=sorted(answers.silent)).model_dump())

    @describe(
        "node",
        "Settings in force in this process: value, default, unit and whether it differs; secrets are hidden.",
        query={"changed": Query("Only those that differ.", {"type": "boolean", "default": False})},
        answer=SettingsInForce,
    )
    async def settings(self, request: Request) -> Response:
        only_changed = flag_of(request, "changed")
        tables = {
            table: {
                name: _setting(each) for name, each in fields.items() if each.is_changed or not only_changed
            }
            for table, fields in shown_settings(self._settings()).items()
        }
        return answer(SettingsInForce(node=self._counters.node_name, settings=tables).model_dump())


def _samples(said: object) -> list[dict[str, Any]]:
    if not isinstance(said, list):
        raise HTTPException(503, "a node of another release answers in another way")
    return said


def _setting(shown: Shown) -> Setting:
    return Setting(
        value=shown.value,
        default=shown.default,
        unit=shown.unit,
        changed=shown.is_changed,
        hidden=shown.is_hidden,
    )
