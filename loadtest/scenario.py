"""Scenarios: what `moorline loadtest run` runs, as TOML. One model per shape says which keys there are.

All mistakes of a file, of `--set` and of the flags are told at once, each with the place where it was made.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from loadtest.payload import MAXIMUM_SIZE, MINIMUM_SIZE
from loadtest.plan import WINDOW_LIMIT, Account, Habit, Plan, Shape, Sleep, Storm, Viewing, plan_mistakes
from loadtest.target import Security, Target, TargetError, resolve_target

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seconds = Annotated[float, Field(gt=0, le=604_800, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]

PACE: Final = ("window", "rate_per_second", "rate_per_device")
"""Keys of which a scenario has one: one that is set on the command line takes the others' place."""

DEFAULT_WINDOW: Final = 20
_FOLDER: Final = "scenarios"
_SUFFIX: Final = ".toml"


class ScenarioError(ValueError):
    """The scenario can't be run; the message has a line for each mistake."""

    def __init__(self, name: str, mistakes: Iterable[str]) -> None:
        lines = [f"  {mistake}" for mistake in dict.fromkeys(mistakes)]
        super().__init__("\n".join([f"{name} can't be run:", *lines]))


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays in a scenario."""

    publishers: int
    subscribers: int
    persistent: bool = False
    count: int | None = None  # messages of each publisher
    habit: Habit | None = None


class TargetTable(BaseModel):
    """The table `[target]`: where the load goes."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    brokers: Annotated[list[str], Field(min_length=1)] = ["127.0.0.1:1883"]
    subscribe_at: list[str] = []
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False

    @property
    def security(self) -> Security:
        """For the addresses with TLS."""
        return Security(self.ca_file, self.cert_file, self.key_file, self.insecure)


class Scenario(BaseModel):
    """The keys of every scenario."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    shape: str
    description: str = ""
    mqtt_version: Literal[3, 4, 5] = 4
    username: str | None = None
    qos: Literal[0, 1, 2] = 1
    payload_bytes: Annotated[int, Field(ge=MINIMUM_SIZE, le=MAXIMUM_SIZE)] = MINIMUM_SIZE
    window: Annotated[int, Field(ge=1, le=WINDOW_LIMIT)] | None = None
    rate_per_second: Rate | None = None
    duration_seconds: Seconds = 10.0
    warm_up_seconds: SecondsOrNone = 1.0
    drain_seconds: Seconds = 5.0
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    persistent_publishers: bool = False
    target: TargetTable = TargetTable()

    def cast(self) -> Cast:
        """Who plays."""
        raise NotImplementedError

    @property
    def rate(self) -> float | None:
        """Messages per second of all publishers; None: a window."""
        return self.rate_per_second


class _Counted(Scenario):
    """Those that may end after a number of messages, with sessions of either kind."""

    count: Count | None = None
    persistent: bool = False


class Pairs(_Counted):
    """Publisher i to subscriber i."""

    pairs: Count = 10

    def cast(self) -> Cast:
        """See Scenario."""
        return Cast(self.pairs, self.pairs, self.persistent, self.count)


class FanIn(_Counted):
    """All publishers to one subscriber."""

    publishers: Count = 10

    def cast(self) -> Cast:
        """See Scenario."""
        return Cast(self.publishers, 1, self.persistent, self.count)


class FanOut(_Counted):
    """One publisher to all subscribers."""

    subscribers: Count = 10

    def cast(self) -> Cast:
        """See Scenario."""
        return Cast(1, self.subscribers, self.persistent, self.count)


class SharedGroup(_Counted):
    """Each message to one member of a group."""

    publishers: Count = 10
    members: Count = 4

    def cast(self) -> Cast:
        """See Scenario."""
        return Cast(self.publishers, self.members, self.persistent, self.count)


class Telemetry(_Counted):
    """Devices that report, each at a rate, and back-ends that read them all by a wildcard."""

    devices: Count = 100
    back_ends: Count = 1
    rate_per_device: Rate | None = None

    def cast(self) -> Cast:
        """See Scenario."""
        return Cast(self.devices, self.back_ends, self.persistent, self.count)

    @property
    def rate(self) -> float | None:
        """See Scenario."""
        return self.rate_per_second if self.rate_per_device is None else self.rate_per_device * self.devices


class Commands(Scenario):
    """Commands to devices that are asleep for a part of the time: all must come."""

    devices: Count = 100
    publishers: Count = 1
    asleep_percent: Annotated[float, Field(ge=0, lt=100, allow_inf_nan=False)] = 50.0
    cycle_seconds: Seconds = 4.0
    count: Count | None = None

    def cast(self) -> Cast:
        """See Scenario."""
        habit = Sleep(self.asleep_percent, self.cycle_seconds)
        return Cast(self.publishers, self.devices, True, self.count, habit)


class ReconnectStorm(Scenario):
    """Clients that are all cut in one moment, and come back."""

    clients: Count = 100
    publishers: Count = 1
    persistent: bool = True
    every_seconds: Seconds = 5.0
    away_seconds: SecondsOrNone = 0.0
    at_once: Count = 200

    def cast(self) -> Cast:
        """See Scenario."""
        habit = Storm(self.every_seconds, self.away_seconds, self.at_once)
        return Cast(self.publishers, self.clients, self.persistent, habit=habit)


class RetainedDashboard(Scenario):
    """Dashboards that open with all that is retained, while it is updated."""

    topics: Count = 1000
    publishers: Count = 1
    dashboards: Count = 4
    view_seconds: Seconds = 2.0

    def cast(self) -> Cast:
        """See Scenario."""
        return Cast(self.publishers, self.dashboards, habit=Viewing(self.topics, self.view_seconds))


MODELS: Final[Mapping[Shape, type[Scenario]]] = {
    Shape.PAIRS: Pairs,
    Shape.FAN_IN: FanIn,
    Shape.FAN_OUT: FanOut,
    Shape.SHARED: SharedGroup,
    Shape.TELEMETRY: Telemetry,
    Shape.COMMANDS: Commands,
    Shape.STORM: ReconnectStorm,
    Shape.DASHBOARD: RetainedDashboard,
}


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a scenario, and what messages about it are to call it."""

    name: str  # of the scenario
    place: str  # of the text
    text: str


@dataclass(slots=True)
class Draft:
    """The values as they were given, and where: a line of the file, `--set`, or a flag."""

    source: Source
    values: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)  # by key: what gave it on the command line
    mistakes: list[str] = field(default_factory=list)

    def put(self, key: str, value: object, flag: str) -> None:
        """A value from the command line; `key` may be `table.key`. It takes the place of the file's."""
        if key in PACE:
            for other in PACE:
                self.values.pop(other, None)
        *tables, last = key.split(".")
        inner = self.values
        for table in tables:
            inner = inner.setdefault(table, {})
            if not isinstance(inner, dict):
                self.mistakes.append(f"{flag}: {table} is no table")
                return
        inner[last] = value
        self.flags[key] = flag

    def put_flags(self, flags: Mapping[str, tuple[str, object]]) -> None:
        """The values of flags by key, each with its flag; None: it wasn't given."""
        for key, (flag, value) in flags.items():
            if value is not None:
                self.put(key, value, flag)

    def where(self, key: str) -> str:
        """Where the value of this key stands."""
        if key in self.flags:
            return self.flags[key]
        name = rf"[\"']?{re.escape(key.rpartition('.')[2])}[\"']?"
        found = re.search(rf"^[ \t\[]*(?:\S+\.)?{name}[ \t]*[=.\]]", self.source.text, re.MULTILINE)
        if found is None:
            return self.source.place
        line = self.source.text.count("\n", 0, found.start()) + 1
        return f"{self.source.place}:{line}"


def builtin_names() -> list[str]:
    """The scenarios that come with the program."""
    folder = resources.files("loadtest") / _FOLDER
    return sorted(
        entry.name.removesuffix(_SUFFIX) for entry in folder.iterdir() if entry.name.endswith(_SUFFIX)
    )


def find_source(name: str) -> Source:
    """A built-in scenario, or a file. Raises ScenarioError."""
    if not name.endswith(_SUFFIX) and "/" not in name:
        if name in builtin_names():
            text = (resources.files("loadtest") / _FOLDER / f"{name}{_SUFFIX}").read_text()
            return Source(name, f"{name}{_SUFFIX}", text)
        known = ", ".join(builtin_names())
        raise ScenarioError(name, [f"no such scenario; there are {known}; or name a file: ./{name}{_SUFFIX}"])
    try:
        return Source(Path(name).stem, name, Path(name).read_text())
    except OSError as error:
        raise ScenarioError(name, [str(error.strerror)]) from error
    except UnicodeDecodeError as error:
        raise ScenarioError(name, ["it is not UTF-8"]) from error


def description_of(source: Source) -> str:
    """The line that says what it is for."""
    return str(tomllib.loads(source.text).get("description", ""))


def make_draft(source: Source, settings: Iterable[str]) -> Draft:
    """The values of a file, and those of `--set key=value` over them. Raises ScenarioError if it isn't TOML.

    What else is wrong is told by `check_draft`.
    """
    try:
        draft = Draft(source, tomllib.loads(source.text))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(source.place, [str(error)]) from error
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if equals and key:
            draft.put(key, _parse_value(value), f"--set {key}")
        else:
            draft.mistakes.append(f"--set {setting}: write key=value")
    return draft


def _parse_value(text: str) -> object:
    """As TOML has it; whatever isn't TOML is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def check_draft(draft: Draft) -> Scenario:
    """The scenario. Raises ScenarioError with everything that is wrong."""
    mistakes = list(draft.mistakes)
    shape = draft.values.get("shape")
    if shape not in list(Shape):
        mistakes.append(f"{draft.where('shape')}: shape: one of {', '.join(Shape)}")
        raise ScenarioError(draft.source.name, mistakes)
    model = MODELS[Shape(shape)]
    given = [key for key in PACE if draft.values.get(key) is not None and key in model.model_fields]
    if len(given) > 1:
        mistakes.append(f"{draft.where(given[1])}: {given[1]}: there is {given[0]} already")
    try:
        scenario = model.model_validate(draft.values)
    except ValidationError as error:
        mistakes += [_describe(details, draft, model) for details in error.errors(include_url=False)]
    else:
        if not mistakes:
            return scenario
    raise ScenarioError(draft.source.name, mistakes)


def _describe(details: ErrorDetails, draft: Draft, model: type[Scenario]) -> str:
    key = ".".join(part for part in details["loc"] if isinstance(part, str))
    where = draft.where(key)
    if details["type"] == "extra_forbidden":
        table = TargetTable if len(details["loc"]) > 1 else model
        close = get_close_matches(str(details["loc"][-1]), table.model_fields, 1)
        return f"{where}: {key}: no such key" + (f", did you mean {close[0]}?" if close else "")
    text = details["msg"].removeprefix("Input ")
    return f"{where}: {key}: {text}, and isn't {details['input']!r}"


def make_plan(
    scenario: Scenario, draft: Draft, *, owned: bool, run_id: str, password: str | None = None
) -> Plan:
    """What is to be done. Raises ScenarioError with everything that doesn't fit together."""
    mistakes: list[str] = []

    def resolve(key: str, addresses: list[str]) -> tuple[Target, ...]:
        found = []
        for address in addresses:
            try:
                found.append(resolve_target(address, owned=owned, security=scenario.target.security))
            except TargetError as error:
                mistakes.append(f"{draft.where(f'target.{key}')}: {error}")
        return tuple(found)

    brokers = resolve("brokers", scenario.target.brokers)
    subscribe_at = resolve("subscribe_at", scenario.target.subscribe_at)
    cast = scenario.cast()
    plan = Plan(
        target=brokers[0] if brokers else Target("", 0),
        run_id=run_id,
        account=Account(scenario.mqtt_version, scenario.username, password),
        shape=Shape(scenario.shape),
        publishers=cast.publishers,
        subscribers=cast.subscribers,
        qos=scenario.qos,
        persistent=cast.persistent,
        persistent_publishers=scenario.persistent_publishers,
        payload_bytes=scenario.payload_bytes,
        window=scenario.window or DEFAULT_WINDOW,
        rate_per_second=scenario.rate,
        duration_seconds=scenario.duration_seconds,
        count=cast.count,
        warm_up_seconds=scenario.warm_up_seconds,
        drain_seconds=scenario.drain_seconds,
        processes=scenario.processes,
        further_targets=brokers[1:],
        subscribers_targets=subscribe_at,
        habit=cast.habit,
    )
    mistakes += [f"{draft.source.place}: {mistake}" for mistake in plan_mistakes(plan)]
    if mistakes:
        raise ScenarioError(draft.source.name, mistakes)
    return plan
