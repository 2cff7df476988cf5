"""How the subscription index follows what is in Redis: loaded once, then kept up by the change log; and by
the channel, for what isn't in the log."""

import logging
from collections.abc import Collection, Sequence

from broker.routing.index import SubscriptionIndex
from broker.routing.subscription import (
    AT_MOST_ONCE_INTEREST,
    DIRECT_INTEREST,
    PERSISTENT_INTEREST,
    Subscription,
)
from cluster.store import keys, records
from cluster.store.reply import as_bytes, as_int, as_text
from cluster.store.store import Store
from cluster.store.subscriptions import Change

logger = logging.getLogger(__name__)


def apply_changes(index: SubscriptionIndex, changes: Sequence[Change], version: str) -> None:
    """Applies entries of the change log, oldest first; the index then stands at `version`."""
    for change in changes:
        if change.kind == "sub+":
            _add(index, change.who, change.filter, change.options, change.stamp)
        elif change.kind == "sub-":
            subscriber = index.subscribers.get(change.who)
            if subscriber is not None:
                subscriber.stamp = max(subscriber.stamp, change.stamp)
                index.remove(subscriber, change.filter, change.stamp)
        elif change.kind == "int+":
            index.add_interest(change.who, f"{DIRECT_INTEREST}:{change.filter}")
        elif change.kind == "int-":
            index.remove_interest(change.who, f"{DIRECT_INTEREST}:{change.filter}")
        elif change.kind == "gone":
            index.remove_node(change.who)
        else:
            index.unknown_changes += 1
    index.version = version


def learn(index: SubscriptionIndex, client_id: str, stamp: int, told: Sequence[object]) -> list[Subscription]:
    """Takes over the subscriptions of a persistent session as the store has told them (filter, options,
    stamp, ...), all that there are at `stamp`. Answer: the rows that no session has. Raises what a damaged
    answer leads to."""
    subscriber = index.subscriber(client_id, keys.bucket_of(client_id))
    held = set()
    for i in range(0, len(told), 3):
        filter, options, told_stamp = as_text(told[i]), as_bytes(told[i + 1]), as_int(told[i + 2])
        held.add(filter)
        known = subscriber.filters.get(filter)
        if known is None or known.stamp < told_stamp:
            _add(index, client_id, filter, options, told_stamp)
    stale = [
        subscription
        for filter, subscription in subscriber.filters.items()
        if filter not in held and subscription.stamp <= stamp
    ]
    for subscription in stale:
        index.remove(subscriber, subscription.filter, subscription.stamp)
    subscriber.stamp = max(subscriber.stamp, stamp)
    index.forget_if_unused(subscriber)
    return stale


async def load_index(index: SubscriptionIndex, store: Store) -> None:
    """Reads all subscriptions of the cluster, and the interest of the other nodes, into the index; what it
    held and Redis doesn't is removed."""
    stale = {
        (client_id, filter)
        for client_id, subscriber in index.subscribers.items()
        for filter in subscriber.filters
    }
    version, pages = await store.load_subscriptions()
    async for page in pages:
        for row in page:
            stale.discard((row.client_id, row.filter))
            _add(index, row.client_id, row.filter, row.options, row.stamp)
    for client_id, filter in stale:
        subscriber = index.subscribers.get(client_id)
        if subscriber is not None and filter in subscriber.filters:
            index.remove(subscriber, filter, subscriber.filters[filter].stamp)
    await _load_interest(index, store, (DIRECT_INTEREST,), frozenset())
    index.version = version


async def load_unversioned(index: SubscriptionIndex, store: Store, told: Collection[tuple[str, str]]) -> None:
    """Reads what is told on the channel only, as some of it may have been missed. `told`: node and field of
    what the channel has said since it was listened to again; that is newer than what is read here."""
    members = await _load_interest(index, store, (AT_MOST_ONCE_INTEREST, PERSISTENT_INTEREST), told)
    members.update(node for node, _ in told)
    for node in set(index.nodes) - members:
        index.remove_node(node)


async def _load_interest(
    index: SubscriptionIndex, store: Store, kinds: Sequence[str], told: Collection[tuple[str, str]]
) -> set[str]:
    """The nodes that are members."""
    stale = {
        (node, f"{kind}:{filter}")
        for node, subscribers in index.nodes.items()
        for kind, subscriber in subscribers.items()
        if kind in kinds
        for filter in subscriber.filters
    }
    members = set()
    async for node, fields in store.load_interest():
        members.add(node)
        for field in fields:
            stale.discard((node, field))
            if field.partition(":")[0] in kinds and (node, field) not in told:
                index.add_interest(node, field)
    for node, field in stale:
        if (node, field) not in told:
            index.remove_interest(node, field)
    return members


def _add(index: SubscriptionIndex, client_id: str, filter: str, packed: bytes, stamp: int) -> None:
    try:
        options = records.unpack_options(packed)
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # what damage, or a newer record, leads to
        logger.error("subscription of %r to %r left out: %s", client_id, filter, error)
        return
    index.add(
        index.subscriber(client_id, keys.bucket_of(client_id)),
        filter,
        options.qos,
        options.no_local,
        options.retain_as_published,
        options.subscription_identifier,
        packed,
        stamp,
    )
