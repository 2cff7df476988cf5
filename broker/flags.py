"""Flags of what runs a node, or looks at what it would be: from the command line to settings."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Final

import typer

from broker.settings import Settings, load

_GIVEN: Final = "sources"


class LogLevel(StrEnum):
    """Values of --log-level, least severe first."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings come from, beside the environment. They may be read again: then the file may have
    changed, the flags have not."""

    flags: dict[str, dict[str, object]]
    """By group and field."""
    config: Path | None = None

    def read(self) -> Settings:
        """Raises SettingsError, with all mistakes."""
        return load(self.flags, self.config)


def sources(
    config: Annotated[
        Path | None, typer.Option(envvar="MOORLINE_CONFIG", help="TOML file with settings.", metavar="FILE")
    ] = None,
    listen: Annotated[
        list[str] | None, typer.Option(help="Address for MQTT; can be repeated.", metavar="HOST:PORT")
    ] = None,
    redis: Annotated[
        str | None, typer.Option(help="Redis or Valkey to use; none: a private one.", metavar="URL")
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="Beginning of all keys in Redis.")] = None,
    node_name: Annotated[str | None, typer.Option(help="Name in logs and metrics.")] = None,
    admin: Annotated[
        list[str] | None,
        typer.Option(help="Address for health and metrics; can be repeated.", metavar="HOST:PORT|off"),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Directory of the private Redis.", metavar="DIRECTORY")
    ] = None,
    workers: Annotated[
        str | None, typer.Option(help="Nodes to run on the same addresses, or auto.", metavar="N|auto")
    ] = None,
    allow_anonymous: Annotated[
        bool | None,
        typer.Option("--allow-anonymous", help="Ask nobody who they are, on public addresses too."),
    ] = None,
    log_level: Annotated[LogLevel | None, typer.Option(help="Least severe lines to write.")] = None,
) -> Sources:
    """Of the flags; nothing is read yet."""
    flags: dict[str, dict[str, object]] = {
        "node": {
            "listen": listen or None,
            "name": node_name,
            "admin": admin or None,
            "data_dir": data_dir,
            "workers": workers,
            "allow_anonymous": allow_anonymous,
            "log_level": log_level and log_level.value,
        },
        "redis": {"url": redis, "prefix": prefix},
    }
    given = {
        group: {field: value for field, value in fields.items() if value is not None}
        for group, fields in flags.items()
    }
    return Sources(given, config)


def with_sources(command: Callable[..., None]) -> Callable[..., None]:
    """The command with these flags, for typer; they come as its argument `sources`."""
    ours = inspect.signature(sources, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters

    @wraps(command)
    def given(**arguments: object) -> None:
        flags = {name: arguments.pop(name) for name in ours}
        command(sources=_of(flags), **arguments)

    parameters = [*ours.values(), *(each for name, each in own.items() if name != _GIVEN)]
    vars(given)["__signature__"] = inspect.Signature(parameters)
    return given


def _of(flags: dict[str, object]) -> Sources:
    make: Callable[..., Sources] = sources
    return make(**flags)
