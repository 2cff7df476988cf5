"""From flags, environment and file to checked Settings, with all mistakes told at once; and from a process
to its children, whole.
"""

import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError as SourceError

from broker.errors import SettingsError
from broker.settings.forwards import ForwardSettings
from broker.settings.group import RESTORING, Group
from broker.settings.listener import ListenerSettings
from broker.settings.root import ENVIRONMENT_PREFIX, Settings

NOT_SETTINGS = frozenset(
    {
        "MOORLINE_PURE",
        "MOORLINE_CONFIG",
        "MOORLINE_ADMIN_URL",
        "MOORLINE_CAFILE",
        "MOORLINE_TOKEN",
        "MOORLINE_TOKEN_FILE",
        "MOORLINE_LOADTEST_PASSWORD",
        "MOORLINE_ZONE",
    }
)
"""Variables with our prefix that are read elsewhere: by the import hook, by the command line, and by
`cluster.kubernetes`."""

SECRET_SETTINGS = frozenset(
    {
        "redis.url",
        "auth.sql_url",
        "auth.http_authenticate_url",
        "auth.http_authorize_url",
        "telemetry.otlp_url",
    }
)
"""Settings whose value may hold a password: no message repeats it."""

LISTENERS = "listeners"
FORWARDS = "forwards"
TABLES: dict[str, type[Group]] = {LISTENERS: ListenerSettings, FORWARDS: ForwardSettings}
"""The settings that are no groups: tables, by names that people choose."""

FLAG_NAMES = {"redis.url": "--redis", "node.name": "--node-name"}
"""Flags that are not called like their field."""


Flags = Mapping[str, Mapping[str, object]]
"""Values of command line flags by group and field."""


def groups() -> Iterator[tuple[str, type[Group]]]:
    """Each group's name and model, in the order of the documentation."""
    for name, field in Settings.model_fields.items():
        if name in TABLES:
            continue
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, Group)
        yield name, field.annotation


def setting_names() -> list[str]:
    """`group.field` of every setting of a group."""
    return [f"{group}.{field}" for group, model in groups() for field in model.model_fields]


def table_settings(table: str, name: str) -> list[str]:
    """`listeners.NAME.field` of a listener with this name; likewise of the other tables."""
    return [f"{table}.{name}.{field}" for field in TABLES[table].model_fields]


def environment_name(setting: str) -> str:
    """The variable of a setting: `session.queue_limit` -> `MOORLINE_SESSION__QUEUE_LIMIT`."""
    return ENVIRONMENT_PREFIX + setting.upper().replace(".", "__")


def may_be_secret(setting: str) -> bool:
    """Whether its value may hold a password, or a token in a path."""
    table, _, field = setting.rpartition(".")
    return setting in SECRET_SETTINGS or (table.partition(".")[0] == FORWARDS and field == "url")


def load(flags: Flags | None = None, config: Path | None = None) -> Settings:
    """Read all sources and check them; SettingsError holds every mistake found.

    A file that can't be read is reported alone: its contents are unknown.
    """
    given: dict[str, Any] = {group: dict(fields) for group, fields in (flags or {}).items()}
    file_values = _read_config(config)
    mistakes = _unknown_variables(os.environ)

    class Loaded(Settings, toml_file=config):
        """The settings with their file: pydantic-settings takes its path from the class."""

    try:
        settings = Loaded(**given)
    except ValidationError as error:
        mistakes += [
            _describe(details, given, file_values)
            for details in error.errors(include_url=False)
            if not _told_already(details)
        ]
    except SourceError as error:
        mistakes.append(f"environment: {error}")
    else:
        if not mistakes:
            return settings
    raise SettingsError(mistakes)


def dump(settings: Settings) -> dict[str, object]:
    """All settings as they are, in values that JSON knows, for `restore` in another process.

    The Redis URL is in there, with its password.
    """
    return settings.model_dump(mode="json")


def restore(dumped: Mapping[str, object]) -> Settings:
    """The settings that were dumped; neither environment nor file is read. ValueError if it is no dump."""
    if missing := [name for name in Settings.model_fields if name not in dumped]:
        raise ValueError(f"no settings of {', '.join(missing)}")
    restored: dict[str, Any] = {
        name: model.model_validate(dumped[name], context=RESTORING) for name, model in groups()
    }
    for table, model in TABLES.items():
        tables: TypeAdapter[dict[str, Group]] = TypeAdapter(dict[str, model])  # type: ignore[valid-type]  # known at run time only
        restored[table] = tables.validate_python(dumped[table], context=RESTORING)
    return Settings.model_construct(None, **restored)


def _read_config(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        with config.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError([f"configuration file {config}: {error.strerror}"]) from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise SettingsError([f"configuration file {config}: {error}"]) from error


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    known = {environment_name(setting) for setting in setting_names()}
    known |= {environment_name(group) for group in Settings.model_fields} | NOT_SETTINGS
    return [
        f"{name}: no such setting" + _suggestion(name.upper(), known)
        for name in sorted(environ)
        if name.upper().startswith(ENVIRONMENT_PREFIX)
        and name.upper() not in known
        and not name.upper().startswith(_TABLE_VARIABLES)  # which Settings knows better
    ]


_TABLE_VARIABLES = tuple(environment_name(table) + "__" for table in TABLES)


def _suggestion(wrong: str, known: Collection[str]) -> str:
    near = get_close_matches(wrong, sorted(known), n=1, cutoff=0.7)
    return f" (did you mean {near[0]}?)" if near else ""


def _told_already(details: ErrorDetails) -> bool:
    """Whether another line tells it: an unknown variable, or what a default could not be made from."""
    if details["type"] == "extra_forbidden" and details["loc"][0] not in TABLES:
        return _in_environment(".".join(str(part) for part in details["loc"]))
    return details["type"] == "default_factory_not_called"


def _in_environment(setting: str) -> bool:
    variable = environment_name(setting)
    return any(name.upper() == variable for name in os.environ)


def _describe(details: ErrorDetails, flags: Flags, file_values: Mapping[str, Any]) -> str:
    """One line for one mistake: setting, where its value came from, what is wrong with it."""
    path = [str(part) for part in details["loc"]]
    is_table = path[0] in TABLES
    setting = ".".join(path[: 3 if is_table else 2])
    origin = _origin(setting, flags, file_values)
    if details["type"] == "extra_forbidden":
        known = list(Settings.model_fields) if len(path) == 1 else setting_names()
        if is_table:
            known = table_settings(path[0], path[1])
        return f"{setting} ({origin}): no such setting" + _suggestion(setting, known)
    reason = details["msg"].removeprefix("Value error, ")
    hidden = may_be_secret(setting) or not isinstance(details["input"], str | int | float)
    shown = "" if hidden else f"{details['input']!r}: "
    place = "".join(f"{part}: " for part in path[3 if is_table else 2 :])
    return f"{setting} ({origin}): {place}{shown}{reason}"


def _origin(setting: str, flags: Flags, file_values: Mapping[str, Any]) -> str:
    group, _, field = setting.partition(".")
    if field in flags.get(group, {}):
        return "flag " + FLAG_NAMES.get(setting, "--" + field.replace("_", "-"))
    if _in_environment(setting):
        return environment_name(setting)
    in_file = file_values.get(group)
    for name in field.split(".") if field else ():
        in_file = in_file.get(name) if isinstance(in_file, dict) else in_file
    return "default" if in_file is None else "configuration file"
