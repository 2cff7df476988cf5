"""Who gets a message with a given topic: all subscriptions of the cluster, as this node knows them.

The index holds the subscriptions of every persistent session, connected here or not, of the direct sessions
connected here, and what the clients of each other node are interested in: such a node is a subscriber, too,
one for each kind of interest.

Theory of operation. Nearly all subscriptions are those of persistent sessions. Each is a row of bytes, by
filter in `_rows` and by client in `_filters`, and becomes an object when it matches. The others, and shared
subscriptions, are objects all the time (`_held`, `shares`). The tree knows which filters with wildcards there
are. What a topic matches is remembered until a subscription changes that could alter it, and so are the
objects of a filter with wildcards. The Subscriber of a persistent session is made when it is asked for, and
there is no second one while anything refers to the first: it stays while the session is connected here, else
until `trim` lets it go, when the router has no batch under way."""

from itertools import islice
from typing import Final

from broker.mqtt import EXCLUSIVE_PREFIX, SHARE_PREFIX, is_exclusive, is_shared, without_exclusive
from broker.routing.filter_tree import FilterTree
from broker.routing.holders import Holders
from broker.routing.knowledge import Knowledge
from broker.routing.loading import Loaded
from broker.routing.packed import PackedMap
from broker.routing.subscription import (
    AT_MOST_ONCE_INTEREST,
    DIRECT_INTEREST,
    EXCLUSIVE_MARK,
    EXCLUSIVE_NAME,
    PERSISTENT_INTEREST,
    READS_BURSTS,
    Share,
    Subscriber,
    Subscription,
    merge,
    name_of,
    pack_row,
    stamp_of,
    subscription_of,
    unpack_row,
)
from cluster.store import records
from cluster.store.keys import bucket_of

_CACHE_LIMIT: Final = 65536
_CACHED_TOPIC_LENGTH: Final = 128  # longer ones would make the cache as large as anybody likes
_VISITORS_LIMIT: Final = 65536

_INTEREST_OPTIONS: Final = records.pack_options(2, False, False, 0, 0)


class SubscriptionIndex:
    """Topic -> subscriptions.

    `count`: subscriptions of clients, `direct_count`: of these, those of direct sessions. `generation` grows
    with every change. `version` is how far the cluster's change log has been applied. `incarnation` is this
    node: its own interest is not in here. `unknown_changes` were in that log and are of a kind that only
    newer nodes know."""

    __slots__ = (
        "_cache",
        "_filters",
        "_held",
        "_rows",
        "_visitors",
        "_visitors_limit",
        "_wildcard_cache",
        "_wildcards",
        "direct_count",
        "generation",
        "incarnation",
        "knowledge",
        "nodes",
        "readers",
        "shares",
        "subscribers",
        "unknown_changes",
        "version",
    )

    def __init__(self, incarnation: str = "", visitors_limit: int = _VISITORS_LIMIT) -> None:
        # Persistent ones: all that are connected here, and visitors; a direct one belongs to its connection.
        self.subscribers: dict[str, Subscriber] = {}
        self.nodes: dict[str, dict[str, Subscriber]] = {}  # incarnation -> kind of interest -> subscriber
        self.readers: set[str] = set()  # nodes that read bursts
        self.incarnation = incarnation
        self.direct_count = 0
        self.generation = 0
        self.unknown_changes = 0
        self.version = ""
        self.shares: dict[str, Share] = {}
        self._held: dict[str, dict[str, Subscription]] = {}  # filter -> key of the subscriber
        self._rows = PackedMap()  # filter -> client -> "stamp:options"; no shared ones
        self._filters = PackedMap()  # client -> filter -> stamp
        self.knowledge = Knowledge()
        self._wildcards = FilterTree()
        self._cache: dict[str, list[Subscription]] = {}
        self._wildcard_cache: dict[str, list[Subscription]] = {}  # of a filter
        self._visitors_limit = visitors_limit
        self._visitors = 0  # subscribers that were made for a match since the last trim

    @property
    def count(self) -> int:
        return self._filters.count + self.direct_count

    def subscriber(self, client_id: str) -> Subscriber:
        """The persistent session with this Client Identifier as a subscriber."""
        known = self.subscribers.get(client_id)
        if known is None:
            known = self.subscribers[client_id] = Subscriber(client_id, bucket_of(client_id), False)
            rows = self._filters.names(client_id.encode())
            known.stamp = self.knowledge.up_to(client_id.encode(), [int(stamp) for _, stamp in rows])
            self._visitors += 1
        return known

    def known(self, client_id: str) -> Subscriber | None:
        """The same, if it subscribes to anything."""
        return self.subscriber(client_id) if self._filters.has(client_id.encode()) else None

    def clients_on(self, page: int) -> list[str] | None:
        """Some of the persistent sessions that subscribe to anything, for whoever goes through all of them
        page by page; None behind the last page."""
        keys = self._filters.keys_on(page)
        return None if keys is None else [key.decode() for key in keys]

    def trim(self) -> None:
        """Lets go of subscribers that are not connected here, if there are many. Nobody may have one, or a
        match, and count on finding the same again."""
        if self._visitors < self._visitors_limit:
            return
        self._visitors = 0
        self._cache = {}
        self._wildcard_cache = {}
        self.subscribers = {
            client_id: subscriber
            for client_id, subscriber in self.subscribers.items()
            if subscriber.session is not None or subscriber.filters
        }

    # Single subscriptions

    def add(self, subscriber: Subscriber, filter: str, options: bytes, stamp: int) -> bool:
        """Adds or replaces a subscription. False if a newer one is known already (higher stamp). Raises
        ValueError and others if the options are damaged."""
        if not subscriber.is_direct:
            return self.add_row(subscriber.client_id, filter, options, stamp)
        if not subscriber.node:
            self.direct_count += filter not in subscriber.filters
        subscription = subscriber.filters[filter] = subscription_of(subscriber, filter, options, stamp)
        if is_shared(filter):
            self._join(filter[len(SHARE_PREFIX) :], subscription)
        else:
            matched = without_exclusive(filter)
            self._hold(matched, _key_of(filter, subscriber), subscription)
            self._changed(matched)
        return True

    def remove(self, subscriber: Subscriber, filter: str, stamp: int) -> bool:
        """Removes a subscription that is not newer than `stamp`."""
        if not subscriber.is_direct:
            return self.remove_row(subscriber.client_id, filter, stamp)
        if subscriber.filters.pop(filter, None) is None:
            return False
        if not subscriber.node:
            self.direct_count -= 1
        if is_shared(filter):
            self._leave(filter[len(SHARE_PREFIX) :], subscriber.key)
        else:
            matched = without_exclusive(filter)
            self._let_go(matched, _key_of(filter, subscriber))
            self._changed(matched)
        return True

    def add_row(self, client_id: str, filter: str, options: bytes, stamp: int) -> bool:
        """`add` for a persistent session."""
        client = client_id.encode()
        if is_shared(filter):
            return self._add_shared(client, client_id, filter, options, stamp)
        matched = without_exclusive(filter)
        key = matched.encode()
        name = name_of(filter, client)
        old = self._rows.get(key, name)
        if old is not None and stamp_of(old) > stamp:
            return False
        records.unpack_options(options)  # if they are damaged, now is the time to say so
        self._rows.put(key, name, pack_row(stamp, options))
        self._filters.put(client, filter.encode(), b"%d" % stamp)
        self._raise_stamp(client_id, stamp)
        if old is None and _has_wildcards(matched):
            self._wildcards.add(matched)
        self._changed(matched)
        return True

    def _add_shared(self, client: bytes, client_id: str, filter: str, options: bytes, stamp: int) -> bool:
        subscriber = self.subscriber(client_id)
        old = subscriber.filters.get(filter)
        if old is not None and old.stamp > stamp:
            return False
        subscription = subscriber.filters[filter] = subscription_of(subscriber, filter, options, stamp)
        self._raise_stamp(client_id, stamp)
        self._filters.put(client, filter.encode(), b"%d" % stamp)
        self._join(filter[len(SHARE_PREFIX) :], subscription)
        return True

    def remove_row(self, client_id: str, filter: str, stamp: int) -> bool:
        """`remove` for a persistent session. The last one takes a subscriber along that is not connected."""
        client = client_id.encode()
        if is_shared(filter):
            is_removed = self._remove_shared(client_id, filter, stamp)
        else:
            is_removed = self._remove_row(client, filter, stamp)
        if is_removed:
            self._filters.remove(client, filter.encode())
            if not self._filters.has(client):
                self.knowledge.forget(client)
            subscriber = self.subscribers.get(client_id)
            if subscriber is not None:
                self.forget_if_unused(subscriber)
        return is_removed

    def _remove_row(self, client: bytes, filter: str, stamp: int) -> bool:
        matched = without_exclusive(filter)
        key = matched.encode()
        name = name_of(filter, client)
        old = self._rows.get(key, name)
        if old is None or stamp_of(old) > stamp:
            return False
        self._rows.remove(key, name)
        self._prune(matched)
        self._changed(matched)
        return True

    def _remove_shared(self, client_id: str, filter: str, stamp: int) -> bool:
        subscriber = self.subscribers.get(client_id)
        old = subscriber.filters.get(filter) if subscriber is not None else None
        if subscriber is None or old is None or old.stamp > stamp:
            return False
        del subscriber.filters[filter]
        self._leave(filter[len(SHARE_PREFIX) :], subscriber.key)
        return True

    def forget_if_unused(self, subscriber: Subscriber) -> None:
        """Drops a persistent subscriber that is not connected here and subscribes to nothing. Another one
        that is not connected is a visitor."""
        client_id = subscriber.client_id
        if subscriber.session is not None or self.subscribers.get(client_id) is not subscriber:
            return
        if self._filters.has(client_id.encode()):
            self._visitors += 1
        else:
            del self.subscribers[client_id]

    def note(self, client_id: str, stamp: int) -> None:
        """Every change of a persistent session's subscriptions up to this one is in here now."""
        self._raise_stamp(client_id, stamp)
        if self._filters.has(client_id.encode()):
            self.knowledge.note(client_id.encode(), stamp)

    def _raise_stamp(self, client_id: str, stamp: int) -> None:
        subscriber = self.subscribers.get(client_id)
        if subscriber is not None and not self.knowledge.is_doubted(client_id.encode()):
            subscriber.stamp = max(subscriber.stamp, stamp)

    def doubt(self, client_id: str) -> None:
        """The store has to be asked for its subscriptions (`Knowledge`)."""
        self.knowledge.doubt(client_id.encode())
        self.subscriber(client_id).stamp = 0

    # What a subscriber has

    def subscription(self, subscriber: Subscriber, filter: str) -> Subscription | None:
        """Its subscription to a filter."""
        if subscriber.is_direct or is_shared(filter):
            return subscriber.filters.get(filter)
        matched = without_exclusive(filter)
        row = self._rows.get(matched.encode(), name_of(filter, subscriber.client_id.encode()))
        return None if row is None else unpack_row(subscriber, filter, row)

    def subscriptions_of(self, subscriber: Subscriber) -> int:
        """How many it has."""
        if subscriber.is_direct:
            return len(subscriber.filters)
        return self._filters.count_of(subscriber.client_id.encode())

    def stamps_of(self, client_id: str) -> dict[str, int]:
        """The filters of a persistent session, with their stamps."""
        return {name.decode(): int(stamp) for name, stamp in self._filters.names(client_id.encode())}

    def told_of(self, client_id: str) -> tuple[int, list[tuple[str, bytes, int]]]:
        """A persistent session's subscriptions (filter, options, stamp), all that there are at a stamp."""
        if client_id not in self.subscribers and not self._filters.has(client_id.encode()):
            return 0, []
        subscriber = self.subscriber(client_id)
        told = []
        for filter, stamp in self.stamps_of(client_id).items():
            subscription = self.subscription(subscriber, filter)
            if subscription is not None:
                told.append((filter, subscription.options, stamp))
        return subscriber.stamp, told

    def replace(self, loaded: Loaded) -> None:
        """From now on these are the rows, and what else was known of persistent sessions is not."""
        self._rows = loaded.rows
        self._filters = loaded.filters
        self.knowledge.forget_noted(loaded.filters)
        self._wildcards = loaded.wildcards
        for filter in self._held:
            if _has_wildcards(filter):
                self._wildcards.add(filter)
        self._replace_shared(loaded.shared)
        self._cache = {}
        self._wildcard_cache = {}
        self.generation += 1
        for subscriber in list(self.subscribers.values()):
            self.forget_if_unused(subscriber)

    def _replace_shared(self, rows: dict[tuple[str, str], tuple[bytes, int]]) -> None:
        for subscriber in list(self.subscribers.values()):
            for filter in list(subscriber.filters):
                if (subscriber.client_id, filter) not in rows:
                    self._remove_shared(subscriber.client_id, filter, subscriber.filters[filter].stamp)
        for (client_id, filter), (options, stamp) in rows.items():
            self._add_shared(client_id.encode(), client_id, filter, options, stamp)

    # Other nodes

    def add_interest(self, node: str, field: str) -> bool:
        """Clients of another node want what matches a filter; `field` is `<kind>:<filter>`. False for an
        unknown kind: it is of a newer release, and nothing that we could serve."""
        kind, _, filter = field.partition(":")
        if field == READS_BURSTS:
            self.readers.add(node)
            return True
        if kind not in (DIRECT_INTEREST, AT_MOST_ONCE_INTEREST, PERSISTENT_INTEREST):
            return False
        if node == self.incarnation:
            return True
        kinds = self.nodes.setdefault(node, {})
        subscriber = kinds.get(kind)
        if subscriber is None:
            subscriber = kinds[kind] = Subscriber("", 0, True, node, kind)
        if filter not in subscriber.filters:
            self.add(subscriber, filter, _INTEREST_OPTIONS, 0)
        return True

    def remove_interest(self, node: str, field: str) -> None:
        """They don't want it any more."""
        kind, _, filter = field.partition(":")
        subscriber = self.nodes.get(node, {}).get(kind)
        if subscriber is not None:
            self.remove(subscriber, filter, 0)

    def remove_node(self, node: str) -> None:
        """The node is gone."""
        self.readers.discard(node)
        for subscriber in self.nodes.pop(node, {}).values():
            for filter in list(subscriber.filters):
                self.remove(subscriber, filter, 0)

    # For whoever lists them

    @property
    def rows(self) -> PackedMap:
        """Those of persistent sessions that are not shared: filter -> `name_of` -> `unpack_row`."""
        return self._rows

    @property
    def held(self) -> dict[str, dict[str, Subscription]]:
        """Those of others, by filter: direct sessions, nodes, groups."""
        return self._held

    def filters_matching(self, topic: str) -> list[str]:
        """Filters that match a topic, if there are any subscriptions to them."""
        return [topic, *self._wildcards.matching(topic)]

    # Matching

    def match(self, topic: str) -> list[Subscription]:
        """The subscriptions that match, one for each subscriber. The list is shared: don't change it."""
        found = self._cache.get(topic)
        if found is not None:
            return found
        found = self._match(topic)
        if len(topic) <= _CACHED_TOPIC_LENGTH:
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            self._cache[topic] = found
        return found

    def filters_for(self, topic: str) -> list[str]:
        """Those that it matches, and that somebody has; shared ones without their group."""
        exact = [topic] if topic in self._held or self._rows.has(topic.encode()) else []
        return exact + self._wildcards.matching(topic)

    def holders(self, filter: str, persistent_limit: int, held_limit: int) -> Holders:
        """Who has a filter; at most so many persistent sessions and others are named."""
        key = filter.encode()
        persistent: list[Subscription] = []
        for name, row in self._rows.some_names(key, persistent_limit):
            is_exclusive_row = name.startswith(EXCLUSIVE_NAME)
            client_id = (name[len(EXCLUSIVE_NAME) :] if is_exclusive_row else name).decode()
            named = EXCLUSIVE_PREFIX + filter if is_exclusive_row else filter
            # Not one of ours, as it would stay.
            persistent.append(unpack_row(Subscriber(client_id, bucket_of(client_id), False), named, row))
        held = self._held.get(filter)
        others = list(islice(held.values(), held_limit)) if held is not None else []
        return Holders(filter, self._rows.count_of(key), persistent, len(held or ()), others)

    def _match(self, topic: str) -> list[Subscription]:
        single = self._subscriptions_to(topic)
        for filter in self._wildcards.matching(topic):
            subscriptions = self._wildcard_cache.get(filter)
            if subscriptions is None:
                subscriptions = self._subscriptions_to(filter)
                if len(self._wildcard_cache) >= _CACHE_LIMIT:
                    self._wildcard_cache.clear()
                self._wildcard_cache[filter] = subscriptions
            single.extend(subscriptions)
        if len(single) < 2:
            return single
        by_client: dict[str, list[Subscription]] = {}
        for subscription in single:
            by_client.setdefault(subscription.subscriber.key, []).append(subscription)
        if len(by_client) == len(single):
            return single
        return [merge(overlapping) for overlapping in by_client.values()]

    def _subscriptions_to(self, filter: str) -> list[Subscription]:
        held = self._held.get(filter)
        found = list(held.values()) if held is not None else []
        if self._rows.count:
            for name, row in self._rows.names(filter.encode()):
                if name.startswith(EXCLUSIVE_NAME):
                    subscriber = self.subscriber(name[len(EXCLUSIVE_NAME) :].decode())
                    found.append(unpack_row(subscriber, EXCLUSIVE_PREFIX + filter, row))
                else:
                    found.append(unpack_row(self.subscriber(name.decode()), filter, row))
        return found

    def _join(self, name: str, member: Subscription) -> None:
        share = self.shares.get(name)
        if share is None:
            share = self.shares[name] = Share(name)
            filter = _filter_of(name)
            self._hold(filter, share.as_target.subscriber.key, share.as_target)
            self._changed(filter)
        else:
            self.generation += 1
        share.join(member)

    def _leave(self, name: str, key: str) -> None:
        share = self.shares[name]
        share.leave(key)
        if not share.members:
            del self.shares[name]
            filter = _filter_of(name)
            self._let_go(filter, share.as_target.subscriber.key)
            self._changed(filter)

    def _hold(self, filter: str, key: str, subscription: Subscription) -> None:
        held = self._held.get(filter)
        if held is None:
            held = self._held[filter] = {}
            if _has_wildcards(filter):
                self._wildcards.add(filter)
        held[key] = subscription

    def _let_go(self, filter: str, key: str) -> None:
        held = self._held[filter]
        del held[key]
        if not held:
            del self._held[filter]
            self._prune(filter)

    def _prune(self, filter: str) -> None:
        """Takes a filter that nobody has any more out of the tree."""
        if _has_wildcards(filter) and filter not in self._held and not self._rows.has(filter.encode()):
            self._wildcards.remove(filter)

    def _changed(self, filter: str) -> None:
        self.generation += 1
        if not self._cache and not self._wildcard_cache:
            return
        if _has_wildcards(filter):
            self._cache.clear()
            self._wildcard_cache.pop(filter, None)
        else:
            self._cache.pop(filter, None)


def _has_wildcards(filter: str) -> bool:
    return "+" in filter or "#" in filter


def _filter_of(name: str) -> str:
    """What topics are matched with, of `group/filter`."""
    return name.partition("/")[2]


def _key_of(filter: str, subscriber: Subscriber) -> str:
    return EXCLUSIVE_MARK + subscriber.key if is_exclusive(filter) else subscriber.key
