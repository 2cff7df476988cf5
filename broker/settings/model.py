"""Every knob of a node: unit, default, and what goes wrong when it is too small or too large.

One frozen model per group. `docs/configuration.md` is generated from the descriptions here.
"""

from collections.abc import Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from broker.settings.address import Address
from broker.settings.durability import DurabilityLevel
from broker.settings.group import DAY_SECONDS, RESTORING, Group
from broker.settings.redis_access import RedisAccessSettings
from broker.settings.values import (
    WORKERS_MAXIMUM,
    AutoOrBool,
    ListenOrOff,
    ServerReference,
    Workers,
    default_name,
    worker_name,
)

NAME_MAXIMUM = 128


clients_are_asked: ContextVar[bool] = ContextVar("clients_are_asked", default=False)
"""While settings are made: whether those of another group make clients say who they are."""


def refuse_public(addresses: Iterable[str]) -> None:
    """ValueError if there are any, as other machines can reach them, and nobody is asked who they are."""
    public = list(addresses)
    if public:
        raise ValueError(
            f"other machines can reach {', '.join(public)}, and nothing would ask clients who they are;"
            " name users (auth.password_file, auth.certificate_username), use a loopback address, or let"
            " everybody in with --allow-anonymous"
        )


class NodeSettings(Group):
    """The process: where it listens, what it is called, how it starts and stops."""

    allow_anonymous: bool = Field(
        default=False,
        description="Let clients in that do not say who they are. Without it they may come in on loopback"
        " addresses only, and only if nothing is there to ask who they are (`auth`).",
    )
    listen: ListenOrOff = Field(
        default=(Address("127.0.0.1", 1883),),
        description="Addresses HOST:PORT for MQTT over TCP, or `off`; in a variable several are separated by"
        " commas. Port 0 picks a free port and prints it. An address that other machines can reach also"
        " needs users (`auth`) or `allow_anonymous`. TLS and WebSocket: `[listeners.NAME]`.",
    )
    admin: ListenOrOff = Field(
        default=(Address("127.0.0.1", 8080),),
        description="Addresses HOST:PORT of `/healthz`, `/readyz` and `/metrics`, and of `/api/v1` where only"
        " this machine can reach them; in a variable several are separated by commas. `off`: none. They ask"
        " for no password: on a public one anybody can read the figures, and `/api/v1` is refused. The others"
        " are told the first public one, else the first.",
    )
    name: str = Field(
        default_factory=default_name,
        min_length=1,
        max_length=NAME_MAXIMUM,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Name of the node in logs and metrics: letters, digits, `.`, `_`, `-`. Default: host"
        " name and first port. Two nodes with one name can't be told apart in the logs; nothing"
        " else depends on it.",
    )
    durability: DurabilityLevel = Field(
        default="stored",
        description="How well what clients do is kept before it is acknowledged, where their listener does"
        " not say: `stored` (Redis has answered), `replicated(N)` (N replicas have it), `fsynced` (the disk"
        " of the primary has it) or `fsynced+replicated(N)`. Messages of some topics may ask for more"
        " (`topics.durability`). See [durability levels](redis.md#durability-levels). Too weak: a fail-over"
        " loses what was acknowledged. Too strong: all wait, and nothing is acknowledged while it can't be"
        " had.",
    )
    workers: Workers = Field(
        default=1,
        ge=1,
        le=WORKERS_MAXIMUM,
        description="Nodes that one command runs, each a process of its own, all on the same addresses;"
        " `auto`: one for each processor core that may be used. From 2 on a parent process supervises"
        " them: it has the private Redis and the admin address, and the nodes are called `<name>-1` and so"
        " on. A limit of a node is a limit of each of them. Too small: cores stay idle while a node is"
        " busy. Too large: they take the cores from each other and from Redis.",
    )
    data_dir: Path = Field(
        default=Path("moorline-data"),
        description="Directory of the private Redis: its socket and its append-only file. Every persistent"
        " session is in there; on a volatile disk they are gone with it. Not used with"
        " `redis.url`.",
    )
    backlog: int = Field(
        default=1024,
        ge=1,
        le=65_535,
        description="Connections that wait in the kernel for accept, per listener. Too small: a storm of"
        " reconnecting clients meets refusals and timeouts. Too large: a stalled node answers"
        " clients which gave up long ago. The kernel caps it (net.core.somaxconn).",
    )
    shutdown_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        le=600,
        description="Seconds from SIGTERM until what is still open is cut. Too small: what was in flight"
        " is sent again after the restart. Too large: the supervisor loses patience first and"
        " kills the node.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least severe lines that are written. `debug` costs noticeable time per connection;"
        " `warning` leaves out connects and disconnects.",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto",
        description="`json`: one object a line; `text`: for reading; `auto`: text on a terminal, else JSON.",
    )

    @field_validator("listen")
    @classmethod
    def _no_open_door(cls, listen: tuple[Address, ...], info: ValidationInfo) -> tuple[Address, ...]:
        is_open = not info.data.get("allow_anonymous", True) and not clients_are_asked.get()
        if is_open and info.context != RESTORING:
            refuse_public(str(address) for address in listen if not address.is_loopback)
        return listen

    @field_validator("workers")
    @classmethod
    def _names_fit(cls, workers: int, info: ValidationInfo) -> int:
        last = worker_name(info.data.get("name", ""), workers)
        if workers > 1 and len(last) > NAME_MAXIMUM:
            raise ValueError(
                f"node.name is too long to be followed by -{workers}: over {NAME_MAXIMUM} characters"
            )
        return workers

    @field_validator("admin")
    @classmethod
    def _own_ports(cls, admin: tuple[Address, ...], info: ValidationInfo) -> tuple[Address, ...]:
        for address in admin:
            if address.port and address in info.data.get("listen", ()):
                raise ValueError(f"{address} is an address of node.listen too")
        return admin


class RedisSettings(RedisAccessSettings):
    """Redis or Valkey (7.0 or newer): where everything durable is kept."""

    prefix: str = Field(
        default="mq:",
        min_length=1,
        max_length=64,
        pattern=r"^[^{}%\s]+$",
        description="Beginning of every key, without braces, percent sign and spaces. A second broker on"
        " the same server needs another one; changing it later leaves all sessions behind under"
        " the old one.",
    )
    connect_retry_seconds: float = Field(
        default=3.0,
        gt=0,
        le=60,
        description="Seconds between two tries to reach Redis at start. Too small: the log fills while"
        " Redis is down. Too large: the node serves that much later than it could.",
    )
    exchange_timeout_seconds: float = Field(
        default=5.0,
        gt=0,
        le=300,
        description="Seconds until a batch without an answer counts as lost and is sent again on a new"
        " connection. Too small: a slow fsync looks like a failure. Too large: a dead Redis"
        " holds its clients for so long.",
    )
    away_limit_seconds: float = Field(
        default=30.0,
        ge=1,
        le=3600,
        description="Seconds without Redis after which clients are disconnected (0x89). Too small: a short"
        " fail-over sends every client into a reconnect storm. Too large: publishers hang"
        " without being told.",
    )

    @field_validator("away_limit_seconds")
    @classmethod
    def _outlasts_an_exchange(cls, away_limit: float, info: ValidationInfo) -> float:
        if away_limit < info.data.get("exchange_timeout_seconds", 0.0):
            raise ValueError("shorter than redis.exchange_timeout_seconds")
        return away_limit


class SessionSettings(Group):
    """Windows and queues of each session."""

    inflight_limit: int = Field(
        default=128,
        ge=1,
        le=65_535,
        description="QoS 1 and 2 messages sent to a client and not yet acknowledged; the client's Receive"
        " Maximum may lower it. Too small: throughput is bound by the round trip. Too large:"
        " more is sent again on a resume.",
    )
    direct_inflight_limit: int = Field(
        default=1000,
        ge=1,
        le=65_535,
        description="The same for a session which ends with its connection; nothing is ever sent again there."
        " Too small: a subscriber with many publishers falls behind them, and its queue overflows."
        " Too large: a weak device gets more at once than it can handle.",
    )
    queue_limit: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="Messages that wait in Redis for one persistent session. Too small: a device that"
        " sleeps loses messages by `queue_policy`. Too large: a few dead devices fill Redis.",
    )
    queue_bytes: int = Field(
        default=0,
        ge=0,
        le=1 << 40,
        description="Bytes of Redis' memory that these messages may take for one session, about: what is"
        " appended is counted; what is acknowledged only as soon as a full queue has lost a 64th of its"
        " messages, as Redis counts. With 0 any number: `queue_limit` times `mqtt.maximum_packet_size`, which"
        " it must not be less than. Shared subscriptions have none. Too small: a device that sleeps loses"
        " messages by `queue_policy`. Too large: a few dead devices fill Redis.",
    )
    queue_policy: Literal["drop_oldest", "drop_new"] = Field(
        default="drop_oldest",
        description="What a full queue does: `drop_oldest` makes room for the newest, `drop_new` keeps"
        " what is there. Either way it is counted and leaves a dead letter.",
    )
    direct_queue_limit: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="QoS 1 and 2 messages that wait in the node's memory for one session which ends with"
        " its connection. Too small: a slow subscriber loses bursts. Too large: slow"
        " subscribers fill the memory.",
    )
    direct_queue_bytes: int = Field(
        default=67_108_864,
        ge=65_536,
        le=1 << 38,
        description="Bytes of the payloads of these messages, for one session. Too small: a slow subscriber"
        " of large messages loses bursts. Too large: it fills the memory.",
    )
    shared_strategy: Literal["balanced", "least_loaded", "sticky", "hash_topic"] = Field(
        default="balanced",
        description="Which member of a shared subscription gets a message. `balanced`: in turn, of those that"
        " have room in their windows; `least_loaded`: who has the fewest unacknowledged ones; `sticky`: the"
        " same one as long as it has room; `hash_topic`: always the same one for a topic, and if that is slow"
        " its messages wait for it. Not the same on all nodes: each node follows its own for what it"
        " publishes.",
    )
    shared_inflight_limit: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="Messages of one shared subscription that a member has and has not acknowledged; its"
        " Receive Maximum may lower it. Too small: throughput is bound by the round trip. Too large: a slow"
        " member sits on work that others could do.",
    )
    takeovers_per_minute: int = Field(
        default=10,
        ge=0,
        le=10_000,
        description="How often within a minute open connections of one Client Identifier may be taken over by"
        " another connection, as far as this node sees; beyond it further ones wait, 1 to 30 s. 0: any"
        " number. Too small: a client that reconnects often on a bad network waits. Too large: two devices"
        " with one identifier keep taking the session from each other, and the cluster is busy with it.",
    )
    qos2_retry_limit_seconds: int = Field(
        default=7 * DAY_SECONDS,
        ge=60,
        le=30 * DAY_SECONDS,
        description="Seconds within which a QoS 2 publish that was cut off is completed exactly once. Too"
        " small: a publisher that returns later may have it delivered twice. Too large: its traces stay in"
        " Redis for so long.",
    )


class ClusterSettings(Group):
    """The node as one of many: what becomes of its clients when it stops, or has too many."""

    server_reference: ServerReference = Field(
        default=None,
        description="Where MQTT 5 clients should connect instead when this node sends them away (Server"
        " Reference with 0x9C or 0x9D): the address of the load balancer or of other nodes, HOST:PORT,"
        " several separated by spaces. None: a node that stops says 0x8B, and clients go by what they know."
        " A wrong one: clients that heed it get lost.",
    )
    drain_clients_per_second: float = Field(
        default=500.0,
        gt=0,
        le=1_000_000,
        description="Clients per second that are sent away when the node stops or is rebalanced. Too small:"
        " nothing bad at a stop, as all are told within 60 % of `node.shutdown_timeout_seconds` anyway; a"
        " rebalance takes long. Too large: the clients all connect to the other nodes in one moment, which"
        " are slow for everybody meanwhile. A compiled node takes some 5,000 connects per second if it does"
        " nothing else.",
    )
    drain_pause_seconds: float = Field(
        default=0.0,
        ge=0,
        le=600,
        description="Seconds that a node which is to stop goes on as before, while `/readyz` is 503 already;"
        " `node.shutdown_timeout_seconds` begins after that. Too small: load balancers, which look each few"
        " seconds, still send clients to a node that takes none. Too large: a stop takes so much longer, and"
        " the supervisor loses patience and kills the node.",
    )
    rebalance_clients_per_minute: float = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="Clients per minute, of the whole cluster, that are sent away by themselves from nodes"
        " that have more than their share, as after a scale-out. 0: only `moorline ctl"
        " rebalance` does that. It helps where clients that connect are spread over the nodes."
        " Too small: new nodes stay empty for long. Too large: clients feel it as an outage.",
    )
    rebalance_tolerance: float = Field(
        default=0.1,
        ge=0,
        le=100,
        description="How far above the mean a node may be before it is rebalanced by itself: 0.1, a tenth."
        " Too small: clients are moved for nothing, as no load balancer is that even. Too large:"
        " nothing happens.",
    )
    rebalance_quiet_seconds: float = Field(
        default=60.0,
        ge=0,
        le=3600,
        description="Seconds for which no node has come, gone, drained or died before any client is sent"
        " away. Too small: clients are moved in the middle of a roll, and again by its next"
        " step. Too large: it begins that much later.",
    )


class KubernetesSettings(Group):
    """What a node does with the Kubernetes API; it serves without it. The pod is told by the variables
    POD_NAME, POD_NAMESPACE, POD_UID, POD_IP and NODE_NAME of the Downward API."""

    enabled: AutoOrBool = Field(
        default="auto",
        description="`true`: use the API, and refuse to start where something is missing for that; `auto`:"
        " use it if this is a pod that is told its name and has a service account, and the"
        " package `kubernetes` is installed; `false`: never ask for anything.",
    )
    kubeconfig: Path | None = Field(
        default=None,
        description="File that says how to reach the API. Default: the service account of the pod. For a"
        " process that is no pod, and for tests.",
    )
    api_timeout_seconds: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="Seconds until a request to the API counts as lost. Too small: a busy API server looks"
        " as if it were away. Too large: what hangs is noticed later. Clients wait for neither.",
    )
    publish_interval_seconds: float = Field(
        default=15.0,
        ge=0.1,
        le=3600,
        description="Seconds between two updates of the pod's deletion cost, which is the number of its"
        " connections; small changes wait ten times as long. Too small: every pod is updated all"
        " the time, which is a burden for all who watch pods. Too large: a scale-in takes a pod"
        " that was empty some time ago.",
    )
    lease_name: str = Field(
        default="moorline-chores",
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="Name of the Lease by which one pod of all gets the turn to rebalance, in the namespace"
        " of the pod. Two brokers in one namespace need two names: else only one of them is"
        " rebalanced.",
    )
    zone_label: str = Field(
        default="topology.kubernetes.io/zone",
        description="Label of the pod that says in which zone it runs, for `moorline ctl nodes`; not needed"
        " where the variable MOORLINE_ZONE says so.",
    )
