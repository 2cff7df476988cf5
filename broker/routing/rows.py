"""How the subscription index follows the rows in Redis: loaded once, then kept up by the change log."""

import logging
from collections.abc import Sequence

from broker.routing.index import SubscriptionIndex
from cluster.store import keys, records
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
                index.remove(subscriber, change.filter, change.stamp)
    index.version = version


async def load_index(index: SubscriptionIndex, store: Store) -> None:
    """Reads all subscriptions of the cluster into the index; what it held and Redis doesn't is removed."""
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
    index.version = version


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
