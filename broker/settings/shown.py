"""Settings as they are in force, for people: with unit and default, and without secrets.

What is hidden: user names and passwords in URLs, and what comes behind `?` and `#`; the path, too, if it is
of the web, as that of a hook may be all that keeps others out; texts of settings whose names sound like a
secret, unless they are names of files. In doubt it is hidden.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, SecretBytes, SecretStr

from broker.settings.group import Group
from broker.settings.root import Settings
from broker.settings.source import TABLES

HIDDEN: Final = "***"
"""In place of a secret."""

_OPEN_PATHS: Final = ("jwt_keys_url",)
"""Settings of places on the web that are for everybody."""

_URL: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<host>[^/]*)(?P<path>.*)", re.DOTALL | re.I)
_SECRET_NAME: Final = re.compile(
    r"passw|passphrase|secret|token|credential|private|cookie|authorization|headers?$|(^|_)key$|dsn"
)
_UNITS: Final = {
    "bytes_per_second": "bytes/s",
    "per_second": "1/s",
    "per_minute": "1/min",
    "seconds": "s",
    "bytes": "bytes",
}
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting. `value` and `default` are what JSON knows, secrets hidden. `is_changed`: it is not the
    default; where that is made from other settings, as they are now."""

    value: object
    default: object
    unit: str | None
    is_changed: bool
    is_hidden: bool


def shown_settings(settings: Settings) -> dict[str, dict[str, Shown]]:
    """By the name of the table (`mqtt`, `listeners.NAME`) and of the setting."""
    return {table: shown_group(group) for table, group in _tables(settings)}


def shown_group(group: Group) -> dict[str, Shown]:
    """One table of them."""
    dumped = group.model_dump(mode="json")
    defaults = _defaults(group)
    shown: dict[str, Shown] = {}
    for name in type(group).model_fields:
        value, default = dumped[name], defaults.get(name)
        safe = _safe(name, getattr(group, name), value)
        shown[name] = Shown(safe, default, _unit(name), value != default, safe != value)
    return shown


def shown_toml(settings: Settings, *, only_changed: bool = False) -> str:
    """As a configuration file; what is not set, or hidden, is a comment. What differs from the default says
    what that is."""
    lines: list[str] = []
    for table, fields in shown_settings(settings).items():
        chosen = {name: each for name, each in fields.items() if each.is_changed or not only_changed}
        if not chosen and only_changed:
            continue
        lines += [f"[{table}]", *(_toml_line(name, each) for name, each in chosen.items()), ""]
    return "\n".join(lines)


def without_secrets(url: str, *, keeps_path: bool = True) -> str:
    """A URL as it may be shown; text that is none as it is."""
    found = _URL.fullmatch(url)
    if found is None:
        return url
    scheme = found["scheme"]
    rest, mark, behind = _cut(found["host"] + found["path"])
    if "@" in behind:  # of a password with such a character in it, perhaps
        return scheme + HIDDEN
    user, at, place = rest.rpartition("@")
    if not keeps_path and "/" in place.rstrip("/"):
        place = f"{place.partition('/')[0]}/{HIDDEN}"
    return scheme + (HIDDEN + at if user or at else "") + place + (mark + HIDDEN if behind else "")


def _cut(text: str) -> tuple[str, str, str]:
    """Before, at and behind the first `?` or `#`."""
    found = re.search(r"[?#]", text)
    if found is None:
        return text, "", ""
    return text[: found.start()], found[0], text[found.end() :]


def _tables(settings: Settings) -> Iterator[tuple[str, Group]]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if name in TABLES:
            yield from ((f"{name}.{each}", group) for each, group in value.items())
        else:
            yield name, value


def _defaults(group: Group) -> dict[str, object]:
    """As they are dumped. Nothing is validated: defaults are right."""
    fields = type(group).model_fields
    validated = {name: getattr(group, name) for name in fields}
    given = {
        name: info.get_default(call_default_factory=True, validated_data=validated)
        for name, info in fields.items()
        if not info.is_required()
    }
    made = type(group).model_construct(**given)
    return made.model_dump(mode="json", include=set(given), warnings=False)


def _safe(name: str, value: object, dumped: object) -> object:
    """What was dumped of a value, without secrets; `value` tells files from texts."""
    if isinstance(value, SecretStr | SecretBytes):
        return HIDDEN if value.get_secret_value() else dumped
    if isinstance(dumped, dict):
        return {key: _safe(_inner(name, key), _part(value, key), dumped[key]) for key in dumped}
    if isinstance(dumped, list) and isinstance(value, tuple | list):
        return [_safe(name, *pair) for pair in zip(value, dumped, strict=True)]
    if not isinstance(dumped, str) or isinstance(value, Path):
        return dumped
    if _SECRET_NAME.search(name.lower()) is not None:
        return HIDDEN if dumped else dumped
    is_of_web = dumped.lower().startswith(("http://", "https://"))
    return without_secrets(dumped, keeps_path=not is_of_web or name in _OPEN_PATHS)


def _inner(name: str, key: str) -> str:
    """The name of a part: all of a table of headers is like the table."""
    return name if _SECRET_NAME.search(name.lower()) is not None else key


def _part(value: object, key: str) -> object:
    if isinstance(value, BaseModel):
        return getattr(value, key, None)
    return value.get(key) if isinstance(value, Mapping) else None


def _unit(name: str) -> str | None:
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)


def _toml_line(name: str, shown: Shown) -> str:
    if shown.value is None:
        return f"# {name} is not set"
    line = f"{name} = {_toml(shown.value)}"
    if shown.is_hidden:
        return f"# hidden: {line}"
    return f"{line}  # default: {_default(shown.default)}" if shown.is_changed else line


def _default(default: object) -> str:
    return "none" if default is None else _toml(default)


def _toml(value: object) -> str:
    """A value as TOML writes it; there is no null in it."""
    if isinstance(value, dict):
        pairs = (f"{_toml_key(key)} = {_toml(each)}" for key, each in value.items() if each is not None)
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) for each in value if each is not None)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
