"""What one client may do, as tokens, HTTP servers and databases say it: made into rules.

One form allows: `{"publish": [...], "subscribe": [...]}`, lists of Topic Filters with `%u` and `%c`. The
other is a list in order, as EMQX has it: `{"permission": "allow", "action": "all", "topic": "a/%c/#"}`. What
an entry has beside that, and is not known here, would narrow it: so it is a mistake, and not left out.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from pydantic import ValidationError

from broker.auth.access import Action
from broker.auth.rules import Rule, Rules, allow_rules

_ENTRIES_MAXIMUM: Final = 1000
_ACTIONS: Final = {
    "publish": (Action.PUBLISH,),
    "subscribe": (Action.SUBSCRIBE,),
    "all": (Action.PUBLISH, Action.SUBSCRIBE),
}
_ANY_QOS: Final = [0, 1, 2]
_PLACES: Final = {"${username}": "%u", "${clientid}": "%c", "${cert_common_name}": "%cn"}
_PLACE: Final = re.compile(r"\$\{[^}]*\}?")
_AMBIGUOUS: Final = "${clientid}n"  # would be %cn

EVERYTHING: Final = allow_rules(["#", "$SYS/#"], ["#", "$SYS/#"])
"""For somebody to whom only the rules of the node apply."""

_Entry = tuple[str, tuple[Action, ...], str]
"""Permission, actions, filter."""


def rules_of(acl: object) -> Rules:
    """Of both forms. ValueError says what is wrong."""
    try:
        return _in_order(acl) if isinstance(acl, list) else _allowing(acl)
    except ValidationError:
        raise ValueError("acl has what is no Topic Filter") from None


def are_texts(values: object) -> bool:
    """Whether it is a list of texts that can be written."""
    return isinstance(values, list) and all(isinstance(value, str) and is_text(value) for value in values)


def is_text(value: str) -> bool:
    """Whether it can be written: JSON may have halves of characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _allowing(acl: object) -> Rules:
    if not isinstance(acl, dict) or not acl.keys() <= {"publish", "subscribe"}:
        raise ValueError("acl is not lists publish and subscribe")
    publish, subscribe = acl.get("publish", []), acl.get("subscribe", [])
    if not are_texts(publish) or not are_texts(subscribe):
        raise ValueError("acl has no Topic Filters")
    return allow_rules(publish, subscribe)


def _in_order(entries: Sequence[object]) -> Rules:
    if len(entries) > _ENTRIES_MAXIMUM:
        raise ValueError(f"acl has over {_ENTRIES_MAXIMUM} entries")
    read = [_read(entry) for entry in entries]
    rules = [
        Rule.model_validate(
            {"effect": permission, "actions": actions, "filters": tuple(filter for _, _, filter in group)}
        )
        for (permission, actions), group in groupby(read, lambda entry: entry[:2])
    ]
    return Rules(rules, {})


def _read(entry: object) -> _Entry:
    if not isinstance(entry, Mapping):
        raise ValueError("acl has something that is no entry")
    given = {key: value for key, value in entry.items() if value is not None}
    permission, action, topic = given.pop("permission", ""), given.pop("action", ""), given.pop("topic", "")
    qos, retain = given.pop("qos", _ANY_QOS), given.pop("retain", "all")
    if given or qos != _ANY_QOS or retain != "all":
        raise ValueError("an entry of acl depends on more than action and topic")
    if permission not in ("allow", "deny") or not isinstance(action, str) or action not in _ACTIONS:
        raise ValueError("an entry of acl has no permission or no action")
    if not isinstance(topic, str) or not is_text(topic) or topic.startswith("eq ") or _AMBIGUOUS in topic:
        raise ValueError("an entry of acl has no Topic Filter, or one that can't be said here")
    return permission, _ACTIONS[action], _PLACE.sub(_fill, topic)


def _fill(place: re.Match[str]) -> str:
    if place[0] not in _PLACES:
        raise ValueError("an entry of acl has a placeholder that is not known here")
    return _PLACES[place[0]]
