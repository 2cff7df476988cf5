"""Rewrite rules: topics and filters that clients name are changed before anything else looks at them.

Messages go to subscribers under their new topic; clients never see what it was. A subscription is stored as
it was rewritten, and UNSUBSCRIBE names it by the same rules. The rules see a filter without its
`$share/<group>/` or `$exclusive/`, and the topic of a delayed message without its `$delayed/<seconds>/`.
"""

import re
from collections.abc import Callable, Sequence

from broker.client.renaming import renamed, split_special
from broker.mqtt import (
    SYS_PREFIX,
    Connect,
    Packet,
    Properties,
    is_valid_topic_filter,
    is_valid_topic_name,
)
from broker.settings import RewriteRule

_INSERTED = re.compile(r"\$([1-9])|%([cu])")


class _Rule:
    """One rule, ready for use."""

    __slots__ = ("_pattern", "_target")

    def __init__(self, rule: RewriteRule) -> None:
        self._pattern = re.compile(rule.pattern, re.DOTALL)
        self._target = rule.target

    def apply(self, text: str, client_id: str, username: str) -> str | None:
        """What becomes of it; None if the rule does not match, or would need a name that this client does not
        have."""
        found = self._pattern.fullmatch(text)
        if found is None:
            return None
        names = {"c": client_id, "u": username}

        def insert(place: re.Match[str]) -> str:
            return (found[int(place[1])] or "") if place[1] else names[place[2]]

        for name in _INSERTED.findall(self._target):
            if name[1] and not is_harmless(names[name[1]]):
                return None
        return _INSERTED.sub(insert, self._target)


def is_harmless(name: str) -> bool:
    """Whether a client's name may become a part of a topic or filter: it must not bring wildcards."""
    return name != "" and "+" not in name and "#" not in name and "\0" not in name


class Rewriting:
    """All rules of a node."""

    def __init__(self, rules: Sequence[RewriteRule]) -> None:
        self._of_topics = [_Rule(rule) for rule in rules if rule.action != "subscribe"]
        self._of_filters = [_Rule(rule) for rule in rules if rule.action != "publish"]

    def packets(self, packets: Sequence[Packet], client_id: str, username: str) -> list[Packet]:
        """What a client has sent, as it is to be handled."""
        first = packets[0] if packets else None
        if isinstance(first, Connect):  # nobody knows yet whose connection it is
            client_id, username = first.client_id, first.username or ""
        return renamed(packets, _Names(self, client_id, username))

    def topic(self, topic: str, client_id: str, username: str) -> str:
        """The topic that a message is really published to."""
        return _first(self._of_topics, topic, is_valid_topic_name, client_id, username)

    def filter(self, filter: str, client_id: str, username: str) -> str:
        """The filter that a client really subscribes to."""
        return _first(self._of_filters, filter, is_valid_topic_filter, client_id, username)


class _Names:
    """What the rules make of the names that one client uses."""

    __slots__ = ("_client_id", "_rewriting", "_username")

    def __init__(self, rewriting: Rewriting, client_id: str, username: str) -> None:
        self._rewriting = rewriting
        self._client_id = client_id
        self._username = username

    def topic(self, topic: str) -> str:
        return self._rewriting.topic(topic, self._client_id, self._username)

    def filter(self, filter: str) -> str:
        return self._rewriting.filter(filter, self._client_id, self._username)

    def properties(self, properties: Properties | None) -> Properties | None:
        return properties


def _first(
    rules: Sequence[_Rule], text: str, is_valid: Callable[[str], bool], client_id: str, username: str
) -> str:
    """By the first rule that applies, and makes something of it that may stand there."""
    if text.startswith(SYS_PREFIX):
        return text
    prefix, rest = split_special(text)
    for rule in rules:
        rewritten = rule.apply(rest, client_id, username)
        if rewritten is not None and is_valid(rewritten):
            return prefix + rewritten
    return text
