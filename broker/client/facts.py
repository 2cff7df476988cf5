"""What a node knows of a client by itself, as it tells whoever asks. Times are seconds ago, as clocks of
nodes are not compared; moments are of Redis time.

They go between releases: fields are added at the end, and each has a default from which nothing follows."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SubscriptionFacts:
    """Of a direct session: those of others are in Redis."""

    filter: str
    qos: int


@dataclass(frozen=True, slots=True)
class FlowFacts:
    """Messages on their way to the client. The `oldest` of those in flight waits for `awaited` (PUBACK,
    PUBREC, PUBCOMP), at least for so long. `releasing`: QoS 2 exchanges that wait for PUBCOMP.
    `is_behind`: more is in its queue than what was handed over in memory. `waits_for_packet_id`: the next
    message needs an identifier that is still in use, 0 if not. `waiting`, `waiting_limit`: a direct session's
    messages without a place in the window. `shared_waiting`: the same of shared subscriptions. `last_sent`:
    the number of the last entry of its queue that was sent, now or before."""

    window: int = 0
    free: int = 0
    in_flight: int = 0
    releasing: int = 0
    oldest_seconds: float | None = None
    awaited: str = ""
    is_behind: bool = False
    waits_for_packet_id: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    waiting_limit: int = 0
    shared_waiting: int = 0
    last_sent: int = 0


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """An open connection. `is_accepted`: CONNACK has left. `silent_seconds`: since its last byte.
    `reading_paused`: why nothing is read from it, by name; `paused_seconds` at least for so long.
    `limit`: the setting by which it waits, if it is that. `unanswered`: messages of the client that are not
    stored yet. `blocked_seconds`: since when it takes nothing of what is sent, None if it does."""

    peer: str
    address: str = ""
    username: str = ""
    listener: str = ""
    is_accepted: bool = False
    connected_seconds: float = 0.0
    silent_seconds: float = 0.0
    protocol: int = 0
    keep_alive_seconds: float = 0.0
    is_persistent: bool = False
    epoch: int = 0
    flow: FlowFacts | None = None
    reading_paused: list[str] = field(default_factory=list)
    paused_seconds: float | None = None
    limit: str = ""
    unanswered: int = 0
    unanswered_bytes: int = 0
    blocked_seconds: float | None = None
    unsent_bytes: int = 0
    subscription_count: int = 0
    subscriptions: list[SubscriptionFacts] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BanFacts:
    """Why the client would not be let in. `until_ms` 0: for ever."""

    target: str
    reason: str
    by: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """`redis_away_seconds`: since when Redis does not answer this node, None if it does. `takeovers`: how
    often an open connection of the client was taken over within the last minute; beyond
    `takeovers_limit` (0: none) a CONNECT waits. `now_ms`: the time of Redis as the node knows it."""

    connection: ConnectionFacts | None = None
    redis_away_seconds: float | None = None
    is_in_doubt: bool = False
    takeovers: int = 0
    takeovers_limit: int = 0
    ban: BanFacts | None = None
    queue_limit: int = 0
    queue_bytes: int = 0
    drops_oldest: bool = True
    now_ms: int = 0


@dataclass(frozen=True, slots=True)
class SubscriberFacts:
    """Who has a filter."""

    client_id: str
    qos: int
    no_local: bool = False
    is_exclusive: bool = False


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A shared subscription. `waiting`: messages that no member has, `given`: that members have and have not
    acknowledged; None if it has no member at the node that says it."""

    name: str
    members: int
    waiting: int | None = None
    given: int | None = None


@dataclass(frozen=True, slots=True)
class FilterFacts:
    """A filter that matches. Of `persistent_count` sessions, wherever they are, and of `direct_count` clients
    of this node some are named. `nodes`: others with subscribers."""

    filter: str
    persistent_count: int = 0
    persistent: list[SubscriberFacts] = field(default_factory=list)
    direct_count: int = 0
    direct: list[SubscriberFacts] = field(default_factory=list)
    groups: list[GroupFacts] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What one node knows of who gets a topic. `filter_count`: how many match; some of them are listed.
    `version`: how far the node has followed the change log, as two numbers."""

    filter_count: int = 0
    filters: list[FilterFacts] = field(default_factory=list)
    version: tuple[int, int] = (0, 0)
