"""Who subscribes to what: clients, other nodes with clients, and groups of clients that share."""

from collections.abc import Sequence
from typing import Final

from broker.mqtt import SHARE_PREFIX, is_exclusive
from broker.session import Session
from cluster.store import records
from cluster.store.keys import bucket_of

NO_IDENTIFIERS: Final[tuple[int, ...]] = ()

DIRECT_INTEREST: Final = "1"
"""Of direct subscribers at QoS 1 and 2: versioned, as a subscription counts from its SUBACK."""
AT_MOST_ONCE_INTEREST: Final = "0"
"""Of subscribers at QoS 0."""
PERSISTENT_INTEREST: Final = "p"
"""Of persistent subscribers at QoS 1 and 2 that are connected: they have a queue, but not for QoS 0."""

KNOWLEDGE: Final = "k"
"""No interest: what a node can read of what older releases don't write. Not versioned, never withdrawn."""
READS_BURSTS: Final = f"{KNOWLEDGE}:bursts"

EXCLUSIVE_MARK: Final = "\0x"
"""Before the key of a subscriber with an exclusive subscription: it may have an ordinary one beside it."""
EXCLUSIVE_NAME: Final = EXCLUSIVE_MARK.encode()


class Subscriber:
    """A client with subscriptions. `session` is there while it is connected to this node.

    A direct session and a persistent one may have the same Client Identifier for a moment, when one has just
    replaced the other (perhaps on another node): `key` tells them apart. `batch` and `group` belong to the
    router: the group that collects what this subscriber gets in the current batch; and so does `handed`, the
    last batch of which it got something at QoS 0, past its queue.

    `stamp` is of a persistent session: every change of its subscriptions up to this one is in the index.

    `filters` are its subscriptions as far as they are objects: of a direct session or a node all of them, of
    a persistent session the shared ones. If `node` is not empty, this is another node and not a client:
    `interest` says for which of its clients.
    If `share` is there, this is a shared subscription, whose members are subscribers.
    """

    __slots__ = (
        "batch",
        "bucket",
        "client_id",
        "filters",
        "group",
        "handed",
        "interest",
        "is_direct",
        "key",
        "node",
        "session",
        "share",
        "stamp",
    )

    def __init__(
        self, client_id: str, bucket: int, is_direct: bool, node: str = "", interest: str = ""
    ) -> None:
        self.client_id = client_id
        self.key = "\0" + client_id if is_direct else client_id
        if node:
            self.key = f"\0\0{interest}{node}"
        self.bucket = bucket
        self.is_direct = is_direct
        self.node = node
        self.interest = interest
        self.session: Session | None = None
        self.share: Share | None = None
        self.filters: dict[str, Subscription] = {}
        self.stamp = 0
        self.batch = 0
        self.group = 0
        self.handed = 0

    def __repr__(self) -> str:
        where = self.node or ("here" if self.session is not None else "away")
        return f"Subscriber({self.client_id!r}, {where})"


class Subscription:
    """One Topic Filter of one subscriber; also what several of them that match the same topic add up to.

    In the latter case `overlapping` holds the single ones, and `filter` and `stamp` are those of the highest
    QoS. `stamp` orders the changes of this row (0 for direct sessions); `options` is its packed form.
    """

    __slots__ = (
        "filter",
        "no_local",
        "options",
        "overlapping",
        "qos",
        "retain_as_published",
        "stamp",
        "subscriber",
        "subscription_identifiers",
    )

    def __init__(
        self,
        subscriber: Subscriber,
        filter: str,
        qos: int,
        no_local: bool,
        retain_as_published: bool,
        subscription_identifiers: tuple[int, ...],
        options: bytes,
        stamp: int,
        overlapping: "Sequence[Subscription]" = (),
    ) -> None:
        self.subscriber = subscriber
        self.filter = filter
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.subscription_identifiers = subscription_identifiers
        self.options = options
        self.stamp = stamp
        self.overlapping = overlapping

    def __repr__(self) -> str:
        client_id = self.subscriber.client_id
        return f"Subscription({client_id!r}, {self.filter!r}, qos={self.qos}, stamp={self.stamp})"


class Share:
    """A shared subscription: each message is for one of its members. `name` is `group/filter`.

    Members are clients connected here, persistent sessions anywhere, and other nodes with connected ones.
    """

    __slots__ = ("_order", "_turn", "as_target", "keepers", "members", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[str, Subscription] = {}  # by subscriber
        self.keepers = 0  # of these, the ones that messages at QoS 1 and 2 may wait for
        subscriber = Subscriber(SHARE_PREFIX + name, bucket_of(name), False)
        subscriber.key = "\0\0\0" + name
        subscriber.share = self
        self.as_target = Subscription(subscriber, SHARE_PREFIX + name, 2, False, True, NO_IDENTIFIERS, b"", 0)
        self._order: list[Subscription] = []
        self._turn = 0

    def __repr__(self) -> str:
        return f"Share({self.name!r}, {len(self.members)} members)"

    def join(self, member: Subscription) -> None:
        """A new member, or new options of one."""
        key = member.subscriber.key
        if key not in self.members and _is_keeper(member):
            self.keepers += 1
        self.members[key] = member
        self._order = []

    def leave(self, key: str) -> None:
        """It is one no more."""
        if _is_keeper(self.members.pop(key)):
            self.keepers -= 1
        self._order = []

    def next(self, only_here: bool) -> Subscription | None:
        """The member whose turn it is for a message at QoS 0: a client that is connected here, or, unless
        `only_here`, another node."""
        if not self._order:
            self._order = self._candidates()
        order = self._order
        for _ in range(len(order)):
            self._turn = (self._turn + 1) % len(order)
            member = order[self._turn]
            if member.subscriber.session is not None or (member.subscriber.node and not only_here):
                return member
        return None

    def _candidates(self) -> list[Subscription]:
        """Each other node once, whatever its clients want it at."""
        nodes: set[str] = set()
        found: list[Subscription] = []
        for member in self.members.values():
            node = member.subscriber.node
            if not node or node not in nodes:
                nodes.add(node)
                found.append(member)
        return found


def _is_keeper(member: Subscription) -> bool:
    """The interest that a node has for its persistent sessions is none: these are members themselves."""
    return member.subscriber.interest != PERSISTENT_INTEREST


def merge(overlapping: Sequence[Subscription]) -> Subscription:
    """One copy at the highest QoS with all Subscription Identifiers [MQTT-3.3.4-2], [MQTT-3.3.4-3]."""
    if len(overlapping) == 1:
        return overlapping[0]
    best = overlapping[0]
    identifiers: tuple[int, ...] = NO_IDENTIFIERS
    retain_as_published = False
    no_local = False
    for subscription in overlapping:
        if subscription.qos > best.qos:
            best = subscription
        identifiers += subscription.subscription_identifiers
        retain_as_published = retain_as_published or subscription.retain_as_published
        no_local = no_local or subscription.no_local
    return Subscription(
        best.subscriber,
        best.filter,
        best.qos,
        no_local,
        retain_as_published,
        identifiers,
        best.options,
        best.stamp,
        tuple(overlapping),
    )


def without_no_local(subscription: Subscription) -> Subscription | None:
    """What is left of a match for the publisher's own message: subscriptions with No Local don't count
    [MQTT-3.8.3-3]."""
    if not subscription.no_local:
        return subscription
    rest = [single for single in subscription.overlapping if not single.no_local]
    return merge(rest) if rest else None


def subscription_of(subscriber: Subscriber, filter: str, packed: bytes, stamp: int) -> Subscription:
    """With options as they are stored. Raises ValueError and others if they are damaged."""
    options = records.unpack_options(packed)
    identifier = options.subscription_identifier
    return Subscription(
        subscriber,
        filter,
        options.qos,
        options.no_local,
        options.retain_as_published,
        (identifier,) if identifier else NO_IDENTIFIERS,
        packed,
        stamp,
    )


# Rows of persistent sessions, as a PackedMap has them: filter, name, "stamp:options", where the options are
# as if they had been Latin text, since it takes no other bytes than those of UTF-8.


def name_of(filter: str, client: bytes) -> bytes:
    """What stands for a client with this filter beside what topics are matched with."""
    return EXCLUSIVE_NAME + client if is_exclusive(filter) else client


def pack_options(options: bytes) -> bytes:
    return options.decode("latin-1").encode()


def pack_row(stamp: int, options: bytes) -> bytes:
    return b"%d:%b" % (stamp, pack_options(options))


def stamp_of(row: bytes) -> int:
    return int(row[: row.index(b":")])


def options_of(row: bytes) -> bytes:
    """As they are stored."""
    return row.partition(b":")[2].decode().encode("latin-1")


def unpack_row(subscriber: Subscriber, filter: str, row: bytes) -> Subscription:
    stamp, _, options = row.partition(b":")
    return subscription_of(subscriber, filter, options.decode().encode("latin-1"), int(stamp))
