"""The group of settings for what the broker makes of topics beyond the specification."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from broker.settings.durability import DurabilityRule
from broker.settings.group import Group

RULES_MAXIMUM = 100
_LENGTH_MAXIMUM = 65_535
_CAPTURE = re.compile(r"\$([0-9]+)")
_FILTER = re.compile(r"(?:(?:\+|[^+#/\0]*)/)*(?:\+|#|[^+#/\0]*)")


class RewriteRule(Group):
    """One of `topics.rewrite`. The rule holds for topics, filters or both, of which all of the text matches
    `pattern`; in `target` $1 to $9 are its groups, %c the Client Identifier and %u the user name."""

    action: Literal["publish", "subscribe", "all"] = "all"
    pattern: str = Field(min_length=1, max_length=1000)
    target: str = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"pattern: not a regular expression: {error}") from None
        wrong = [number for number in _CAPTURE.findall(self.target) if not 1 <= int(number) <= min(groups, 9)]
        if wrong:
            raise ValueError(f"target: ${wrong[0]}, but the pattern has {groups} groups")
        if "\0" in self.target:
            raise ValueError("target: no topic has a NUL in it")
        if self.action != "subscribe":
            if "+" in self.target or "#" in self.target:
                raise ValueError("target: no message can be published to a topic with + or #")
            if self.target.startswith("$SYS/"):
                raise ValueError("target: no message can be published to $SYS")
        return self


class AutoSubscription(Group):
    """One of `topics.auto_subscribe`: a Topic Filter, in which %c is the Client Identifier and %u the user
    name, with its options."""

    filter: str = Field(min_length=1, max_length=_LENGTH_MAXIMUM)
    qos: int = Field(default=0, ge=0, le=2)
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = Field(default=0, ge=0, le=2)

    @field_validator("filter")
    @classmethod
    def _is_valid(cls, filter: str) -> str:
        if not _FILTER.fullmatch(filter):
            raise ValueError(f"{filter!r} is not a Topic Filter")
        return filter

    @model_validator(mode="after")
    def _shared_is_never_local(self) -> Self:
        if self.no_local and self.filter.startswith("$share/"):
            raise ValueError("no_local is not for shared subscriptions")
        return self


class TopicSettings(Group):
    """What the broker makes of topics beyond MQTT, each only if asked for; see [topics](topics.md)."""

    delayed_maximum_seconds: int = Field(
        default=0,
        ge=0,
        le=0xFFFF_FFFF,
        description="Longest delay of a message published to `$delayed/<seconds>/<topic>`; one that asks for"
        " more is refused (0x97). 0: such topics are refused (0x90). Too small: clients have to keep the time"
        " themselves. Too large: what was meant to be soon, and is years away by a mistake, stays in Redis.",
    )
    delayed_limit: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Delayed messages of one client that wait; further ones are refused (0x97). Too small: a"
        " client that plans a day ahead can't. Too large: a faulty one fills Redis.",
    )
    rewrite: tuple[RewriteRule, ...] = Field(
        default=(),
        max_length=RULES_MAXIMUM,
        description="Rules that change topics before anything else looks at them: tables with `action`"
        " (`publish`, `subscribe` or `all`, the default), `pattern` (a regular expression for the whole topic"
        " or filter) and `target` ($1 to $9: its groups, %c: Client Identifier, %u: user name). The first one"
        " that matches counts. In a variable it is JSON. Each rule takes about half a microsecond of each"
        " message, and 3 of one that it changes; a pattern that backtracks without end holds up everybody.",
    )
    auto_subscribe: tuple[AutoSubscription, ...] = Field(
        default=(),
        max_length=RULES_MAXIMUM,
        description="Subscriptions that each client has from its CONNECT on: tables with `filter` (%c: Client"
        " Identifier, %u: user name), `qos`, `no_local`, `retain_as_published` and `retain_handling`. In a"
        " variable it is JSON. A wide filter at QoS 1 or 2: every persistent session gets, and keeps, all of"
        " it.",
    )
    durability: tuple[DurabilityRule, ...] = Field(
        default=(),
        max_length=RULES_MAXIMUM,
        description="How well messages are kept before they are acknowledged, by topic: tables with `filter`"
        " (a Topic Filter) and `level` (`stored`, `replicated(N)`, `fsynced` or `fsynced+replicated(N)`)."
        " What all filters that match ask for counts, and what the listener does. In a variable it is JSON."
        " See [durability levels](redis.md#durability-levels). Too weak: a fail-over loses what was"
        " acknowledged. Too strong: publishers wait, and nothing is acknowledged while it can't be had.",
    )
    exclusive: bool = Field(
        default=False,
        description="Let clients subscribe to `$exclusive/<filter>`, which one client at a time may have in"
        " the whole cluster; others are refused (0x97). Otherwise such filters are invalid (0x8F). A"
        " persistent session keeps what it has while its client is away.",
    )
