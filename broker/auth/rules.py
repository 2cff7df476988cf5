"""Rules: who may publish and subscribe to what. From a TOML file, or made of what a token says.

The first rule that fits decides. A SUBSCRIBE asks for every topic that its filter can match: one of them that
is denied is enough to deny it, and only if a rule allows each of them it is allowed.

`%u`, `%c` and `%cn` in a filter stand for the user name, the Client Identifier and the common name in the
client's certificate. A name that would bring a `/` or a wildcard, begin the filter with `$`, or isn't there,
fits no rule that allows; in a rule that denies, all that could be meant is denied. So no name makes a
client's rights wider.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from broker.auth.access import Access, Action, Decision
from broker.auth.overlap import NONE, TooManyStates, first_matches
from broker.auth.toml_lines import line_of
from broker.mqtt import is_valid_topic_filter, matches

_PLACE: Final = re.compile("%(?:cn|c|u)")
_RULES_MAXIMUM: Final = 1000
_FILTERS_MAXIMUM: Final = 1000  # of one rule
_KNOWN_MAXIMUM: Final = 1024
RULES_BYTES: Final = 256 << 10
"""Of a text that is not a file."""


def _check_filter(filter: str) -> str:
    if not is_valid_topic_filter(filter):
        raise ValueError(f"{filter!r} is not a Topic Filter")
    if filter.startswith(("$share/", "$exclusive/")):
        raise ValueError(f"{filter!r}: name the filter that comes after that; the rule holds for both")
    return filter


_Names = Annotated[tuple[str, ...], Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Rule(_Table):
    """One `[[rules]]`. What is not given fits everybody. `users`, `clients` and `listeners` are names, in
    which `*` stands for any characters; a client that nobody knows is no user."""

    effect: Literal["allow", "deny"]
    filters: tuple[Annotated[str, AfterValidator(_check_filter)], ...] = Field(
        min_length=1, max_length=_FILTERS_MAXIMUM
    )
    actions: tuple[Action, ...] = Field(default=(Action.PUBLISH, Action.SUBSCRIBE), min_length=1)
    users: _Names | None = None
    groups: _Names | None = None
    clients: _Names | None = None
    listeners: _Names | None = None
    addresses: Annotated[tuple[IPv4Network | IPv6Network, ...], Field(min_length=1)] | None = None


class _File(_Table):
    """The whole file. `groups`: their users."""

    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = Field(max_length=_RULES_MAXIMUM)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A filter of a rule, filled in for one client. `first`: its first level, None for a wildcard."""

    filter: str
    decision: Decision
    first: str | None


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules in order."""

    rules: Sequence[Rule]
    groups: Mapping[str, frozenset[str]]
    """Of the file, by user; beside those that an identity brings."""
    others: "Rules | None" = None
    """They come after these, and have groups of their own."""
    _known: dict[object, Sequence[_Entry]] = field(default_factory=dict, repr=False, compare=False)
    """What holds for a client and an action, of some who have asked lately."""

    def decide(self, access: Access) -> Decision:
        """By the first rule that fits, for all topics that the filter of a SUBSCRIBE matches."""
        entries = self._entries(access)
        first = access.topic.partition("/")[0]
        if first not in ("+", "#"):
            entries = [entry for entry in entries if entry.first is None or entry.first == first]
        if access.action is Action.PUBLISH:
            for entry in entries:
                if matches(entry.filter, access.topic):
                    return entry.decision
            return Decision.NO_OPINION
        return _decide_all(access.topic, entries)

    def _entries(self, access: Access) -> Sequence[_Entry]:
        identity = access.identity
        key = (
            identity.username,
            identity.groups,
            access.client_id,
            access.address,
            access.action,
            access.listener,
            access.common_name,
        )
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _KNOWN_MAXIMUM:
                self._known.clear()
            known = self._known[key] = list(self._filled(access))
        return known

    def _filled(self, access: Access) -> Iterator[_Entry]:
        """The filters of the rules that hold for this client and action, in order."""
        for rule in self.rules:
            if access.action in rule.actions and self._fits(rule, access):
                is_denial = rule.effect == "deny"
                decision = Decision.DENY if is_denial else Decision.ALLOW
                for filter in rule.filters:
                    filled = _fill(filter, access, is_denial) if "%" in filter else filter
                    if filled is not None:
                        first = filled.partition("/")[0]
                        yield _Entry(filled, decision, None if first in ("+", "#") else first)
        if self.others is not None:
            yield from self.others._filled(access)

    def _fits(self, rule: Rule, access: Access) -> bool:
        username = access.identity.username
        if rule.users is not None and (username is None or not is_named(username, rule.users)):
            return False
        if rule.groups is not None:
            groups = access.identity.groups
            if username is not None:
                groups |= self.groups.get(username, frozenset())
            if groups.isdisjoint(rule.groups):
                return False
        if rule.clients is not None and not is_named(access.client_id, rule.clients):
            return False
        if rule.listeners is not None and not is_named(access.listener, rule.listeners):
            return False
        return rule.addresses is None or _is_within(access.address, rule.addresses)


def read_rules(path: Path) -> Rules:
    """The rules of a file. ValueError has a line for each mistake."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8") from None
    try:
        return parse_rules(text)
    except ValueError as error:
        raise ValueError("\n".join(f"{path}: {mistake}" for mistake in str(error).splitlines())) from None


def parse_rules(text: str) -> Rules:
    """The same of the text of a file."""
    try:
        file = _File.model_validate(tomllib.loads(text))
    except ValidationError as error:
        mistakes = [
            f"{line_of(text, each['loc'])}{'.'.join(map(str, each['loc']))}:"
            f" {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise ValueError("\n".join(mistakes)) from None
    except RecursionError:
        raise ValueError("too many brackets") from None
    groups: dict[str, set[str]] = {}
    for group, users in file.groups.items():
        for user in users:
            groups.setdefault(user, set()).add(group)
    return Rules(file.rules, {user: frozenset(names) for user, names in groups.items()})


def allow_rules(publish: Sequence[str], subscribe: Sequence[str]) -> Rules:
    """Rules that allow this. ValueError if it is not a list of Topic Filters."""
    lists = ((Action.PUBLISH, publish), (Action.SUBSCRIBE, subscribe))
    rules = [Rule(effect="allow", filters=tuple(each), actions=(action,)) for action, each in lists if each]
    return Rules(rules, {})


def _decide_all(filter: str, entries: Sequence[_Entry]) -> Decision:
    """For every topic that the filter matches."""
    found = set()
    try:
        for position in first_matches(filter, [entry.filter for entry in entries]):
            found.add(Decision.NO_OPINION if position == NONE else entries[position].decision)
            if Decision.DENY in found:
                return Decision.DENY
    except TooManyStates:
        return Decision.DENY
    return Decision.NO_OPINION if Decision.NO_OPINION in found else Decision.ALLOW


def _fill(filter: str, access: Access, is_denial: bool) -> str | None:
    """The filter for this client; None if there is none for it."""
    names = {
        "%u": access.identity.username or "",
        "%c": access.client_id,
        "%cn": access.common_name or "",
    }
    for place in _PLACE.finditer(filter):
        name = names[place[0]]
        if not name or set(name) & set("+#/\0") or (place.start() == 0 and name.startswith("$")):
            level = filter.rfind("/", 0, place.start()) + 1
            return filter[:level] + "#" if is_denial else None
    return _PLACE.sub(lambda place: names[place[0]], filter)


def is_named(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns, in which `*` stands for any characters, is this name."""
    return _pattern(patterns).fullmatch(name) is not None


@lru_cache(4 * _RULES_MAXIMUM)
def _pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(_expression, patterns)), re.DOTALL)


def _expression(pattern: str) -> str:
    first, *rest = map(re.escape, pattern.split("*"))
    if not rest:
        return first
    # The first place that fits is as good as any: without going back, long names cost nothing.
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1])
    return f"{first}{middle}.*{rest[-1]}"


@lru_cache(1024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:  # not of the internet
        return None
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def _is_within(text: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in networks)
