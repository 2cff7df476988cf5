"""The settings of forwards: where messages go beside the clients, and what comes from another broker."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import NoDecode

from broker.settings.auth_http import http_context
from broker.settings.certificate import check_readable
from broker.settings.group import RESTORING, Group

FILTERS_MAXIMUM: Final = 100
_FILTER: Final = re.compile(r"(?:(?:\+|[^+#/\0]*)/)*(?:\+|#|[^+#/\0]*)")
_PREFIX: Final = re.compile(r"[^+#\0]*")
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_MEANING_MORE: Final = ("$share/", "$exclusive/", "$delayed/")

_SCHEMES: Final = {
    "webhook": ("https", "http"),
    "redis_stream": ("redis", "rediss", "unix"),
    "mqtt": ("mqtts", "mqtt"),
}
_TLS_SCHEMES: Final = ("https", "rediss", "mqtts")
_OF_KINDS: Final = {
    "url": ("webhook", "redis_stream", "mqtt"),
    "ca_file": ("webhook", "redis_stream", "mqtt"),
    "certificate": ("webhook", "redis_stream", "mqtt"),
    "key": ("webhook", "redis_stream", "mqtt"),
    "username": ("redis_stream", "mqtt"),
    "password_file": ("redis_stream", "mqtt"),
    "headers_file": ("webhook",),
    "batch": ("webhook", "redis_stream", "plugin"),
    "refused_tries": ("webhook", "redis_stream", "plugin"),
    "stream": ("redis_stream",),
    "stream_length": ("redis_stream",),
    "client_id": ("mqtt",),
    "version": ("mqtt",),
    "strip_prefix": ("mqtt",),
    "add_prefix": ("mqtt",),
    "in_topics": ("mqtt",),
    "in_qos": ("mqtt",),
    "in_strip_prefix": ("mqtt",),
    "in_add_prefix": ("mqtt",),
    "sink": ("plugin",),
    "options": ("plugin",),
}
"""Which settings are for which kinds only."""


def _parse_filters(value: object) -> object:
    """In a variable: filters with commas between them."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Filters = Annotated[tuple[str, ...], NoDecode, Field(max_length=FILTERS_MAXIMUM)]


class ForwardSettings(Group):
    """One of the tables `[forwards.NAME]`."""

    kind: Literal["webhook", "redis_stream", "mqtt", "plugin"] = Field(
        description="Where the messages go: by HTTP POST (`webhook`), to a stream of Redis"
        " (`redis_stream`), to another MQTT broker, and from there (`mqtt`), or to a plug-in (`plugin`).",
    )
    topics: Filters = Field(
        default=(),
        description="Topic Filters of the messages that are forwarded. In a variable with commas between"
        " them. A message that several of them match is forwarded once.",
    )
    qos: int = Field(
        default=1,
        ge=0,
        le=2,
        description="Highest QoS of these subscriptions. Messages at QoS 1 and 2 wait in Redis until they are"
        " taken; at QoS 0 nothing waits, and what comes while the target is away is lost.",
    )
    in_flight: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Messages that the forward has in memory and that the target has not taken;"
        " `session.inflight_limit` holds, too. Too small: it waits for Redis. Too large: memory; and so many"
        " may come twice after a kill.",
    )
    queue_limit: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="Messages that wait for the target at most, then `session.queue_policy` holds. None:"
        " `session.queue_limit` and `session.queue_bytes`; with a number there is no limit in bytes. Too"
        " small: an outage of the target loses messages. Too large: it fills Redis.",
    )
    batch: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Messages that are sent at a time, if so many are there. None: 1 for a webhook, whose"
        " requests look different with more than 1; else `in_flight`. Too small: each waits for an answer of"
        " the target. Too large: what the target does not take in one piece is sent once more as a whole.",
    )
    timeout_seconds: float = Field(
        default=10.0,
        ge=0.1,
        le=600,
        allow_inf_nan=False,
        description="How long the target may take to answer; then it is tried again. Too small: a busy target"
        " gets everything twice. Too large: one that hangs is noticed late.",
    )
    retry_seconds_maximum: float = Field(
        default=30.0,
        ge=0.5,
        le=3600,
        allow_inf_nan=False,
        description="Longest pause between tries while the target is away: from half a second on"
        " they double. Too small: one that is down is asked all the time. Too large: it is up and waits.",
    )
    refused_tries: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="How often a message is tried that the target refuses for good; then it is dropped, and"
        " leaves a dead letter. Too small: a mistake of the target costs messages. Too large: one bad message"
        " holds up those behind it.",
    )
    url: str | None = Field(
        default=None,
        repr=False,
        description="Where the target is: `https://` or `http://` of a webhook; `redis://`, `rediss://` or"
        " `unix://` of a Redis, none: that of the broker; `mqtts://HOST:PORT` or `mqtt://HOST:PORT` of a"
        " broker. Secrets do not belong there, but into files.",
    )
    headers_file: Path | None = Field(
        default=None,
        description="File with headers of the requests to a webhook, a line `Name: value` each, such as"
        " `Authorization`. Read again when it changes.",
    )
    username: str | None = Field(default=None, description="User at that Redis or broker.")
    password_file: Path | None = Field(
        default=None,
        description="File whose first line is the password of that user. Read for each connection.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file with the authorities that the target's certificate may be of. None: those of"
        " the system. Read when the forward begins.",
    )
    certificate: Path | None = Field(
        default=None,
        description="PEM file with the certificate by which the node proves itself to the target.",
    )
    key: Path | None = Field(default=None, description="PEM file with the key of that certificate.")
    stream: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="Key of the stream. In the Redis of the broker it must not begin with `redis.prefix`, and"
        " the user of the broker needs the right to write there.",
    )
    stream_length: int = Field(
        default=1_000_000,
        ge=0,
        le=1_000_000_000,
        description="About how many entries the stream keeps; older ones are removed, read or not. 0: all."
        " Too small: readers miss some. Too large: it fills Redis.",
    )
    client_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Client Identifier at the other broker. None: `moorline-NAME`. Two clusters that connect"
        " to one broker need different ones.",
    )
    version: Literal["5.0", "3.1.1"] = Field(
        default="5.0",
        description="MQTT version that is spoken to the other broker. With 3.1.1 properties are lost, and"
        " messages can't be known again that come back.",
    )
    strip_prefix: str = Field(
        default="",
        description="What is taken from the topic of a message to the other broker, if it begins so; then"
        " `add_prefix` is put before it.",
    )
    add_prefix: str = Field(default="", description="What is put before its topic.")
    in_topics: Filters = Field(
        default=(),
        description="Topic Filters at the other broker, from where messages come and are published here. In a"
        " variable with commas between them.",
    )
    in_qos: int = Field(default=1, ge=0, le=2, description="Highest QoS of these subscriptions.")
    in_strip_prefix: str = Field(
        default="",
        description="What is taken from the topic of a message that comes from there, if it begins so; then"
        " `in_add_prefix` is put before it.",
    )
    in_add_prefix: str = Field(default="", description="What is put before its topic.")
    sink: str | None = Field(
        default=None, min_length=1, description="Name of the plug-in, an entry point of `moorline.sinks`."
    )
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="What the plug-in is told."
    )

    @field_validator("topics", "in_topics", mode="before")
    @classmethod
    def _are_listed(cls, value: object) -> object:
        return _parse_filters(value)

    @field_validator("topics", "in_topics")
    @classmethod
    def _are_filters(cls, filters: tuple[str, ...]) -> tuple[str, ...]:
        for filter in filters:
            if not filter or not _FILTER.fullmatch(filter) or filter.startswith(_MEANING_MORE):
                raise ValueError(f"{filter!r} is not a Topic Filter that can be forwarded")
        if len(set(filters)) < len(filters):
            raise ValueError("the same filter is there twice")
        return filters

    @field_validator("strip_prefix", "add_prefix", "in_strip_prefix", "in_add_prefix")
    @classmethod
    def _can_begin_a_topic(cls, prefix: str) -> str:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError("no topic begins with that")
        return prefix

    @field_validator("headers_file", "password_file")
    @classmethod
    def _is_readable(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.context != RESTORING:
            check_readable(file)
        return file

    @model_validator(mode="after")
    def _goes_together(self, info: ValidationInfo) -> Self:
        mistakes = [
            f"{name} is not for kind {self.kind!r}"
            for name in sorted(self.model_fields_set)
            if self.kind not in _OF_KINDS.get(name, (self.kind,)) and info.context != RESTORING
        ]
        mistakes += _mistakes_of_url(self)
        if not self.topics and not self.in_topics:
            mistakes.append("nothing is forwarded: topics" + (", in_topics" if self.kind == "mqtt" else ""))
        if self.kind == "redis_stream" and self.stream is None:
            mistakes.append("stream is missing")
        if self.kind == "plugin" and self.sink is None:
            mistakes.append("sink is missing")
        if self.kind == "mqtt":
            mistakes += _mistakes_of_bridge(self)
        if not mistakes and info.context != RESTORING:
            mistakes += _mistakes_of_files(self)
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self


def _mistakes_of_url(forward: ForwardSettings) -> list[str]:
    """None of them repeats the URL: it may be secret."""
    schemes = _SCHEMES.get(forward.kind)
    if schemes is None:
        return []
    if forward.url is None:
        return [] if forward.kind == "redis_stream" else ["url is missing"]
    try:
        parts = urlsplit(forward.url)
        port = parts.port
    except ValueError:  # its text has parts of it
        return ["url: not a URL"]
    beginnings = " nor with ".join(f"{scheme}://" for scheme in schemes)
    if parts.scheme not in schemes or not (parts.hostname or parts.scheme == "unix"):
        return [f"url: begins neither with {beginnings} and the name of a machine"]
    if _PRINTABLE.fullmatch(forward.url) is None or port == 0:
        return ["url: no URL in ASCII, or one with port 0"]
    if parts.password is not None or parts.username is not None:
        return ["url: user names and passwords have settings of their own"]
    return [*_mistakes_of_place(forward, parts)]


def _mistakes_of_place(forward: ForwardSettings, parts: SplitResult) -> list[str]:
    mistakes = []
    if forward.kind == "mqtt" and (parts.path.strip("/") or parts.query):
        mistakes.append("url: mqtt://HOST:PORT, and nothing behind it")
    if parts.scheme not in _TLS_SCHEMES:
        mistakes += [
            f"{name} is for TLS, and url has none"
            for name in ("ca_file", "certificate", "key")
            if getattr(forward, name) is not None
        ]
    return mistakes


def _mistakes_of_files(forward: ForwardSettings) -> list[str]:
    if (forward.certificate is None) != (forward.key is None):
        return ["certificate and key need each other"]
    try:
        http_context(forward.ca_file, forward.certificate, forward.key)
    except ValueError as error:
        return [str(error)]
    return []


def _mistakes_of_bridge(forward: ForwardSettings) -> list[str]:
    """MQTT 5 has what a message that comes back is known by. Without it what is taken from there must not go
    there again."""
    mistakes = []
    if forward.password_file is not None and forward.username is None:
        mistakes.append("password_file needs username")
    if forward.version == "5.0":
        return mistakes
    for here in forward.topics:
        there = mapped(here, forward.strip_prefix, forward.add_prefix)
        for wanted in forward.in_topics:
            comes_as = mapped(wanted, forward.in_strip_prefix, forward.in_add_prefix)
            if overlap(there, wanted) and overlap(comes_as, here):
                mistakes.append(f"a loop: {here!r} goes there, where {wanted!r} brings it back")
    return mistakes


def mapped(topic_or_filter: str, strip_prefix: str, add_prefix: str) -> str:
    """As it is called on the other side."""
    return add_prefix + topic_or_filter.removeprefix(strip_prefix)


def overlap(one: str, other: str) -> bool:
    """Whether there is a topic that both filters match."""
    first, second = one.split("/"), other.split("/")
    for here, there in zip(first, second, strict=False):
        if "#" in (here, there):
            return True
        if "+" not in (here, there) and here != there:
            return False
    longer = first[len(second) :] or second[len(first) :]
    return not longer or longer == ["#"]


def forwards_fit(forwards: dict[str, ForwardSettings], prefix: str | None) -> dict[str, ForwardSettings]:
    """Raises ValueError if one writes where the broker has its own keys."""
    for name, forward in forwards.items():
        if forward.url is None and forward.stream and prefix and forward.stream.startswith(prefix):
            raise ValueError(f"{name}: stream begins with {prefix}, as the broker's own keys do")
    return forwards


ForwardTables = dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)], ForwardSettings]
