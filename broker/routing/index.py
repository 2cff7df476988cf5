"""Who gets a message with a given topic: all subscriptions of the cluster, as this node knows them.

Filters without wildcards are in one flat dictionary, the others in a trie by topic level. What a topic
matches is remembered until a subscription changes that could alter it. The index holds the subscriptions of
every persistent session, connected here or not, of the direct sessions connected here, and what the clients
of each other node are interested in: such a node is a subscriber, too, one for each kind of interest."""

from typing import Final

from broker.mqtt import SHARE_PREFIX, is_exclusive, is_shared, without_exclusive
from broker.routing.subscription import (
    AT_MOST_ONCE_INTEREST,
    DIRECT_INTEREST,
    NO_IDENTIFIERS,
    PERSISTENT_INTEREST,
    Share,
    Subscriber,
    Subscription,
    merge,
)

_CACHE_LIMIT: Final = 65536
_CACHED_TOPIC_LENGTH: Final = 128  # longer ones would make the cache as large as anybody likes


class _Level:
    """A place in the trie: filters that end here, and those that go on."""

    __slots__ = ("children", "multi", "single", "subscriptions")

    def __init__(self) -> None:
        self.children: dict[str, _Level] = {}
        self.single: _Level | None = None  # '+'
        self.multi: dict[str, Subscription] = {}  # '#', by subscriber
        self.subscriptions: dict[str, Subscription] = {}  # ends here, by subscriber

    def is_empty(self) -> bool:
        return not (self.children or self.single is not None or self.multi or self.subscriptions)


class SubscriptionIndex:
    """Topic -> subscriptions.

    `count`: subscriptions of clients, `direct_count`: of these, those of direct sessions. `generation` grows
    with every change. `version` is how far the cluster's change log has been applied. `incarnation` is this
    node: its own interest is not in here. `unknown_changes` were in that log and are of a kind that only
    newer nodes know."""

    __slots__ = (
        "_cache",
        "_exact",
        "_root",
        "count",
        "direct_count",
        "generation",
        "incarnation",
        "nodes",
        "shares",
        "subscribers",
        "unknown_changes",
        "version",
    )

    def __init__(self, incarnation: str = "") -> None:
        # Persistent ones; a direct one belongs to its connection.
        self.subscribers: dict[str, Subscriber] = {}
        self.nodes: dict[str, dict[str, Subscriber]] = {}  # incarnation -> kind of interest -> subscriber
        self.incarnation = incarnation
        self.count = 0
        self.direct_count = 0
        self.generation = 0
        self.unknown_changes = 0
        self.version = ""
        self.shares: dict[str, Share] = {}
        self._exact: dict[str, dict[str, Subscription]] = {}
        self._root = _Level()
        self._cache: dict[str, list[Subscription]] = {}

    def subscriber(self, client_id: str, bucket: int) -> Subscriber:
        """The persistent session with this Client Identifier as a subscriber; made if it isn't known yet."""
        known = self.subscribers.get(client_id)
        if known is None:
            known = Subscriber(client_id, bucket, False)
            self.subscribers[client_id] = known
        return known

    def add(
        self,
        subscriber: Subscriber,
        filter: str,
        qos: int,
        no_local: bool,
        retain_as_published: bool,
        subscription_identifier: int,
        options: bytes,
        stamp: int,
    ) -> bool:
        """Adds or replaces a subscription. False if a newer one is known already (higher stamp)."""
        old = subscriber.filters.get(filter)
        if old is not None and old.stamp > stamp:
            return False
        subscriber.stamp = max(subscriber.stamp, stamp)
        identifiers = (subscription_identifier,) if subscription_identifier else NO_IDENTIFIERS
        subscription = Subscription(
            subscriber, filter, qos, no_local, retain_as_published, identifiers, options, stamp
        )
        if old is None and not subscriber.node:
            self.count += 1
            self.direct_count += subscriber.is_direct
        subscriber.filters[filter] = subscription
        if is_shared(filter):
            self._join(filter[len(SHARE_PREFIX) :], subscription)
        else:
            matched, key = _place_of(filter, subscriber.key)
            self._place(matched)[key] = subscription
            self._changed(matched)
        return True

    def remove(self, subscriber: Subscriber, filter: str, stamp: int) -> bool:
        """Removes a subscription that is not newer than `stamp`. The last one takes an unconnected subscriber
        along."""
        old = subscriber.filters.get(filter)
        if old is None or old.stamp > stamp:
            return False
        if not subscriber.node:
            self.count -= 1
            self.direct_count -= subscriber.is_direct
        del subscriber.filters[filter]
        if is_shared(filter):
            self._leave(filter[len(SHARE_PREFIX) :], subscriber.key)
        else:
            matched, key = _place_of(filter, subscriber.key)
            self._unplace(matched, key)
            self._changed(matched)
        self.forget_if_unused(subscriber)
        return True

    def forget_if_unused(self, subscriber: Subscriber) -> None:
        """Drops a subscriber that is not connected here and subscribes to nothing."""
        if not subscriber.filters and subscriber.session is None:
            known = self.subscribers.get(subscriber.client_id)
            if known is subscriber:
                del self.subscribers[subscriber.client_id]

    def add_interest(self, node: str, field: str) -> bool:
        """Clients of another node want what matches a filter; `field` is `<kind>:<filter>`. False for an
        unknown kind: it is of a newer release, and nothing that we could serve."""
        kind, _, filter = field.partition(":")
        if kind not in (DIRECT_INTEREST, AT_MOST_ONCE_INTEREST, PERSISTENT_INTEREST):
            return False
        if node == self.incarnation:
            return True
        kinds = self.nodes.setdefault(node, {})
        subscriber = kinds.get(kind)
        if subscriber is None:
            subscriber = kinds[kind] = Subscriber("", 0, True, node, kind)
        if filter not in subscriber.filters:
            self.add(subscriber, filter, 2, False, False, 0, b"", 0)
        return True

    def remove_interest(self, node: str, field: str) -> None:
        """They don't want it any more."""
        kind, _, filter = field.partition(":")
        subscriber = self.nodes.get(node, {}).get(kind)
        if subscriber is not None:
            self.remove(subscriber, filter, 0)

    def remove_node(self, node: str) -> None:
        """The node is gone."""
        for subscriber in self.nodes.pop(node, {}).values():
            for filter in list(subscriber.filters):
                self.remove(subscriber, filter, 0)

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

    def _match(self, topic: str) -> list[Subscription]:
        single: list[Subscription] = []
        exact = self._exact.get(topic)
        if exact is not None:
            single.extend(exact.values())
        root = self._root
        if root.children or root.single is not None or root.multi:
            _collect(root, topic.split("/"), single)
        if len(single) < 2:
            return single
        by_client: dict[str, list[Subscription]] = {}
        for subscription in single:
            by_client.setdefault(subscription.subscriber.key, []).append(subscription)
        if len(by_client) == len(single):
            return single
        return [merge(overlapping) for overlapping in by_client.values()]

    def _join(self, name: str, member: Subscription) -> None:
        share = self.shares.get(name)
        if share is None:
            share = self.shares[name] = Share(name)
            filter = _filter_of(name)
            self._place(filter)[share.as_target.subscriber.key] = share.as_target
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
            self._unplace(filter, share.as_target.subscriber.key)
            self._changed(filter)

    def _changed(self, filter: str) -> None:
        self.generation += 1
        if "+" in filter or "#" in filter:
            self._cache.clear()
        else:
            self._cache.pop(filter, None)

    def _place(self, filter: str) -> dict[str, Subscription]:
        if "+" not in filter and "#" not in filter:
            return self._exact.setdefault(filter, {})
        level = self._root
        for name in filter.split("/"):
            if name == "#":
                return level.multi
            if name == "+":
                if level.single is None:
                    level.single = _Level()
                level = level.single
                continue
            child = level.children.get(name)
            if child is None:
                child = _Level()
                level.children[name] = child
            level = child
        return level.subscriptions

    def _unplace(self, filter: str, key: str) -> None:
        if "+" not in filter and "#" not in filter:
            subscriptions = self._exact[filter]
            del subscriptions[key]
            if not subscriptions:
                del self._exact[filter]
            return
        _prune(self._root, filter.split("/"), key)


def _filter_of(name: str) -> str:
    """What topics are matched with, of `group/filter`."""
    return name.partition("/")[2]


def _place_of(filter: str, key: str) -> tuple[str, str]:
    """What topics are matched with, and the subscriber's key there: it may have an exclusive subscription
    beside an ordinary one to the same filter."""
    return (without_exclusive(filter), "\0x" + key) if is_exclusive(filter) else (filter, key)


# Both walk in loops, not by recursion: a filter has as many levels as the settings allow.


def _collect(root: _Level, names: list[str], found: list[Subscription]) -> None:
    # [MQTT-4.7.2-1]: wildcards at the start don't match topics that begin with '$'.
    wildcards_count = not names[0].startswith("$")
    levels = [root]
    for name in names:
        following: list[_Level] = []
        for level in levels:
            if level.multi and wildcards_count:
                found.extend(level.multi.values())
            child = level.children.get(name)
            if child is not None:
                following.append(child)
            if level.single is not None and wildcards_count:
                following.append(level.single)
        if not following:
            return
        levels = following
        wildcards_count = True
    for level in levels:
        if level.multi:
            found.extend(level.multi.values())  # '#' matches the parent level too
        if level.subscriptions:
            found.extend(level.subscriptions.values())


def _prune(root: _Level, names: list[str], key: str) -> None:
    level = root
    path: list[tuple[_Level, str]] = []
    for name in names:
        if name == "#":
            break
        path.append((level, name))
        following = level.single if name == "+" else level.children[name]
        assert following is not None  # the subscription is there
        level = following
    del (level.multi if names[-1] == "#" else level.subscriptions)[key]
    while path and level.is_empty():
        level, name = path.pop()
        if name == "+":
            level.single = None
        else:
            del level.children[name]
