"""How the subscription index follows what is in Redis: loaded once, then kept up by the change log; and by
the channel, for what isn't in the log."""

import logging
from collections.abc import Collection, Sequence

from anyio.lowlevel import checkpoint

from broker.routing.index import SubscriptionIndex
from broker.routing.loading import DAMAGE, Loaded, give_back_memory
from broker.routing.subscription import (
    AT_MOST_ONCE_INTEREST,
    DIRECT_INTEREST,
    KNOWLEDGE,
    PERSISTENT_INTEREST,
    Subscription,
)
from cluster.store.reply import as_bytes, as_int, as_text
from cluster.store.store import Store
from cluster.store.subscriptions import Change

logger = logging.getLogger(__name__)


def apply_changes(index: SubscriptionIndex, changes: Sequence[Change], version: str) -> None:
    """Applies entries of the change log, oldest first; the index then stands at `version`."""
    for change in changes:
        if change.kind == "sub+":
            _add_logged(index, change)
        elif change.kind == "sub-":
            index.remove_row(change.who, change.filter, change.stamp)
            index.note(change.who, change.stamp)
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
    stamps = index.stamps_of(client_id)
    held = set()
    for i in range(0, len(told), 3):
        filter, options, told_stamp = as_text(told[i]), as_bytes(told[i + 1]), as_int(told[i + 2])
        held.add(filter)
        if stamps.get(filter, -1) < told_stamp:
            _add(index, client_id, filter, options, told_stamp)
    subscriber = index.subscriber(client_id)
    stale = []
    for filter, known_stamp in stamps.items():
        subscription = index.subscription(subscriber, filter)
        if filter not in held and known_stamp <= stamp and subscription is not None:
            stale.append(subscription)
            index.remove_row(client_id, filter, known_stamp)
    index.knowledge.trust(client_id.encode())
    index.note(client_id, stamp)
    index.forget_if_unused(subscriber)
    return stale


async def load_index(index: SubscriptionIndex, store: Store) -> None:
    """Reads all subscriptions of the cluster, and the interest of the other nodes, into the index; what it
    held and Redis doesn't is removed."""
    loaded = Loaded()
    version = await store.load_subscriptions(loaded.take)
    for _ in loaded.pack():
        await checkpoint()
    index.replace(loaded)
    give_back_memory()
    await _load_interest(index, store, (DIRECT_INTEREST,), frozenset())
    index.version = version


async def load_unversioned(index: SubscriptionIndex, store: Store, told: Collection[tuple[str, str]]) -> None:
    """Reads what is told on the channel only, as some of it may have been missed. `told`: node and field of
    what the channel has said since it was listened to again; that is newer than what is read here."""
    kinds = (AT_MOST_ONCE_INTEREST, PERSISTENT_INTEREST, KNOWLEDGE)
    members = await _load_interest(index, store, kinds, told)
    members.update(node for node, _ in told)
    for node in index.readers.union(index.nodes) - members:
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


def _add_logged(index: SubscriptionIndex, change: Change) -> None:
    # The subscriber remembers its stamp: to look through all that it has for each entry would be quadratic.
    subscriber = index.subscribers.get(change.who) or index.known(change.who)
    is_late = False
    if subscriber is not None and change.stamp < subscriber.stamp:
        held = index.subscription(subscriber, change.filter)
        is_late = held is None or held.stamp != change.stamp
    if _add(index, change.who, change.filter, change.options, change.stamp) and is_late:
        index.doubt(change.who)


def _add(index: SubscriptionIndex, client_id: str, filter: str, options: bytes, stamp: int) -> bool:
    try:
        return index.add_row(client_id, filter, options, stamp)
    except DAMAGE as error:
        logger.error("subscription of %r to %r left out: %s", client_id, filter, error)
        return False
