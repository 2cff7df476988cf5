"""Why there can't be a subscription: by its filter, by what this node offers, by limits."""

from broker.client.client import Client
from broker.client.publishing import EVENTS_PREFIX
from broker.mqtt import (
    EXCLUSIVE_PREFIX,
    SHARE_PREFIX,
    InvalidTopicFilter,
    ReasonCode,
    is_exclusive,
    is_shared,
    is_valid_topic_filter,
    parse_filter,
    without_exclusive,
)

_NOT_EXCLUSIVE = (SHARE_PREFIX, EXCLUSIVE_PREFIX)  # what has a meaning of its own


def refusal_of_filter(client: Client, filter: str, asked: int) -> tuple[ReasonCode, str] | None:
    """Why there can't be such a subscription, for the client and for people."""
    settings = client.hub.settings
    try:
        _, name = parse_filter(filter)
    except InvalidTopicFilter as error:
        return ReasonCode.TOPIC_FILTER_INVALID, str(error)
    mount_point = client.entrance.mount_point
    if mount_point is not None and not mount_point.has(without_exclusive(name)):
        return ReasonCode.TOPIC_FILTER_INVALID, "it begins with $, or is too long below the mount point"
    if is_exclusive(name) and not (settings.topics.exclusive and _may_be_exclusive(filter)):
        return ReasonCode.TOPIC_FILTER_INVALID, "there is no such exclusive subscription here"
    if without_exclusive(name).startswith(EVENTS_PREFIX) and not client.entrance.is_internal:
        return ReasonCode.NOT_AUTHORIZED, f"{EVENTS_PREFIX} is for forwards"
    unavailable = settings.capabilities.refusal(filter)
    if unavailable is not None:
        return unavailable, "this kind of subscription is not available here"
    if name.count("/") >= settings.topic_levels_maximum:
        note_limit(client, "topic_levels_maximum")
        return ReasonCode.TOPIC_FILTER_INVALID, f"more than {settings.topic_levels_maximum} levels"
    limits = client.hub.topic_limits
    if limits is not None and limits.is_too_long(filter):
        note_limit(client, "topic_bytes")
        return ReasonCode.TOPIC_FILTER_INVALID, f"longer than {limits.size_bytes} bytes"
    if not has_room(client, filter, asked):
        note_limit(client, "subscriptions_per_session")
        return ReasonCode.QUOTA_EXCEEDED, f"more than {settings.subscriptions_maximum} subscriptions"
    return None


def note_limit(client: Client, limit: str) -> None:
    """A limit has refused something of this client."""
    client.hub.offences.refuse(limit, client_id=client.client_id, peer=client.peer)


def has_room(client: Client, filter: str, asked: int) -> bool:
    """Whether the client may have this subscription beside those which it has, and has just asked for."""
    index = client.hub.index
    subscriber = client.subscriber
    count = index.subscriptions_of(subscriber) if subscriber is not None else 0
    if count + asked < client.hub.settings.subscriptions_maximum:
        return True
    return subscriber is not None and index.subscription(subscriber, filter) is not None


def _may_be_exclusive(filter: str) -> bool:
    matched = without_exclusive(filter)
    return is_valid_topic_filter(matched) and not is_shared(filter) and not matched.startswith(_NOT_EXCLUSIVE)
