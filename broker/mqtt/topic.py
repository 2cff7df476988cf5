"""Topic Names and Topic Filters [4.7], and the form of Shared Subscriptions [4.8.2].

Names here mean what they say: a `topic` has no wildcards, a `filter` may. Everything takes the string as the
decoder made it (well-formed UTF-8 without NUL).
"""

from typing import Final

MAXIMUM_LENGTH_BYTES: Final = 65535  # [MQTT-4.7.3-3]
SHARE_PREFIX: Final = "$share/"
SYS_PREFIX: Final = "$SYS/"
"""Topics under which nodes tell of themselves; clients may not publish there."""
EXCLUSIVE_PREFIX: Final = "$exclusive/"
"""Of a filter that one client at a time may have: not MQTT's, but that of other brokers too."""
SHOWN_LENGTH: Final = 40
"""Characters of a peer's text in a message: it goes to logs, and back as a Reason String."""


class InvalidTopicFilter(ValueError):
    """The text isn't a Topic Filter; the message says why."""


def is_too_long(text: str) -> bool:
    """Whether it can't be a topic or filter [MQTT-4.7.3-3]."""
    # A character takes at most 4 bytes of UTF-8, so most strings needn't be encoded to know.
    return len(text) * 4 > MAXIMUM_LENGTH_BYTES and len(text.encode()) > MAXIMUM_LENGTH_BYTES


def levels(topic_or_filter: str) -> list[str]:
    """The levels in order; a level may be empty [4.7.1.1]."""
    return topic_or_filter.split("/")


def has_wildcards(topic_or_filter: str) -> bool:
    """Whether `+` or `#` occurs anywhere."""
    return "+" in topic_or_filter or "#" in topic_or_filter


def is_valid_topic_name(topic: str, maximum_levels: int = 0) -> bool:
    """Whether a message can be published to it. `maximum_levels` 0: as many as fit."""
    if not topic or has_wildcards(topic) or "\0" in topic:  # [MQTT-4.7.3-1], [MQTT-4.7.0-1], [MQTT-4.7.3-2]
        return False
    if maximum_levels and topic.count("/") >= maximum_levels:
        return False
    return not is_too_long(topic)


def has_valid_wildcards(filter: str) -> bool:
    """Whether the filter isn't empty and each wildcard stands where it may.

    `#` only as the last level [MQTT-4.7.1-1], `+` only as a whole level [MQTT-4.7.1-2]. That is all there is
    to a filter before MQTT 5, where "$share/..." has no meaning of its own.
    """
    if not filter:  # [MQTT-4.7.3-1]
        return False
    if "#" in filter and (filter.index("#") != len(filter) - 1 or (len(filter) > 1 and filter[-2] != "/")):
        return False
    if "+" in filter:
        for level in filter.split("/"):
            if "+" in level and level != "+":
                return False
    return True


def parse_filter(filter: str, maximum_levels: int = 0) -> tuple[str | None, str]:
    """The group of a Shared Subscription (None: not shared) and the filter that topics are matched with.

    `maximum_levels` 0: as many as fit. Raises InvalidTopicFilter.
    """
    group: str | None = None
    matched = filter
    shown = filter[:SHOWN_LENGTH]
    if filter.startswith(SHARE_PREFIX):
        group, slash, matched = filter[len(SHARE_PREFIX) :].partition("/")
        if not group or has_wildcards(group):  # [MQTT-4.8.2-1]
            raise InvalidTopicFilter(f"no valid ShareName in {shown!r}")
        if not slash or not matched:  # [MQTT-4.8.2-2]
            raise InvalidTopicFilter(f"a Topic Filter must follow the ShareName in {shown!r}")
    if not has_valid_wildcards(matched):
        raise InvalidTopicFilter(f"empty, or a wildcard in the wrong place: {shown!r}")
    if "\0" in filter or is_too_long(filter):  # [MQTT-4.7.3-2], [MQTT-4.7.3-3]
        raise InvalidTopicFilter("NUL in it, or longer than 65,535 bytes")
    if maximum_levels and matched.count("/") >= maximum_levels:
        raise InvalidTopicFilter(f"more than {maximum_levels} levels: {shown!r}")
    return group, matched


def is_valid_topic_filter(filter: str, maximum_levels: int = 0) -> bool:
    """Whether `parse_filter` accepts it."""
    try:
        parse_filter(filter, maximum_levels)
    except InvalidTopicFilter:
        return False
    return True


def is_shared(filter: str) -> bool:
    """Whether a valid filter is one of a Shared Subscription [4.8.2]."""
    return filter.startswith(SHARE_PREFIX)


def is_exclusive(filter: str) -> bool:
    """Whether a valid filter is one of an exclusive subscription."""
    return filter.startswith(EXCLUSIVE_PREFIX)


def without_exclusive(filter: str) -> str:
    """What topics are matched with."""
    return filter[len(EXCLUSIVE_PREFIX) :] if filter.startswith(EXCLUSIVE_PREFIX) else filter


def matches(filter: str, topic: str) -> bool:
    """Whether a Topic Name matches a valid filter (without its "$share/<group>/").

    The reference for faster ways, such as the subscription index.
    """
    if topic.startswith("$") and filter[:1] in ("#", "+"):  # [MQTT-4.7.2-1]
        return False
    wanted = filter.split("/")
    given = topic.split("/")
    for number, level in enumerate(wanted):
        if level == "#":  # includes the parent level [4.7.1.2]
            return True
        if number == len(given) or (level not in ("+", given[number])):  # [MQTT-4.7.3-4]
            return False
    return len(wanted) == len(given)
