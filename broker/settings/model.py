"""Every knob of a node: unit, default, and what goes wrong when it is too small or too large.

One frozen model per group. `docs/configuration.md` is generated from the descriptions here.
"""

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
    PlainSerializer,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from broker.settings.address import Address, parse_address
from broker.settings.group import Group
from broker.settings.topics import TopicSettings

ENVIRONMENT_PREFIX = "MOORLINE_"
DAY_SECONDS = 86_400
SERVER_REFERENCE_LENGTH = 1024
WORKERS_MAXIMUM = 1024
NAME_MAXIMUM = 128
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")


def _parse_addresses(value: object) -> tuple[Address, ...]:
    parts = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not parts:
        raise ValueError("not a list of HOST:PORT")
    addresses = tuple(_parse_listed(part) for part in parts)
    fixed = [address for address in addresses if address.port]
    if len(set(fixed)) < len(fixed):
        raise ValueError("the same address is there twice")
    return addresses


def _parse_listed(part: object) -> Address:
    """One address of several: the mistake says which."""
    try:
        return parse_address(part)
    except ValueError as error:
        raise ValueError(f"{part!r}: {error}") from None


def _parse_address_or_off(value: object) -> Address | None:
    return None if value is None or value == "off" else parse_address(value)


def _parse_workers(value: object) -> int:
    if value == "auto":
        return min(usable_cores(), WORKERS_MAXIMUM)
    text = str(value)
    count = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= count <= WORKERS_MAXIMUM:
        raise ValueError(f"not a number from 1 to {WORKERS_MAXIMUM}, nor auto")
    return count


def usable_cores() -> int:
    """Processor cores that this process may run on; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_name(name: str, number: int) -> str:
    """What the worker with this number, from 1, of a node with this name is called."""
    return f"{name}-{number}"


def _parse_redis_url(value: object) -> str | None:
    if value is None or value == "":
        return None
    scheme, separator, _ = str(value).partition("://")
    if not separator or scheme not in REDIS_SCHEMES:
        raise ValueError(f"does not begin with one of {', '.join(s + '://' for s in REDIS_SCHEMES)}")
    return str(value)


def _parse_server_reference(value: object) -> str | None:
    if value is None or value == "":
        return None
    text = str(value)
    if not text.isprintable() or len(text) > SERVER_REFERENCE_LENGTH:
        raise ValueError(f"not a line of at most {SERVER_REFERENCE_LENGTH} characters")
    return text


def _default_name(validated: dict[str, Any]) -> str:
    """`<hostname>-<port>`; the process id where the system picks the port: two nodes of a machine differ."""
    listen: tuple[Address, ...] = validated.get("listen", ())
    number = next((address.port for address in listen if address.port), os.getpid())
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{socket.gethostname()}-{number}")


Listen = Annotated[
    tuple[InstanceOf[Address], ...],
    BeforeValidator(_parse_addresses),
    PlainSerializer(lambda addresses: [str(address) for address in addresses], when_used="json"),
    NoDecode,
]
AddressOrOff = Annotated[
    InstanceOf[Address] | None,
    BeforeValidator(_parse_address_or_off),
    PlainSerializer(lambda address: "off" if address is None else str(address), when_used="json"),
    NoDecode,
]
Workers = Annotated[int, BeforeValidator(_parse_workers)]
RedisUrl = Annotated[str | None, BeforeValidator(_parse_redis_url)]
ServerReference = Annotated[str | None, BeforeValidator(_parse_server_reference)]


class NodeSettings(Group):
    """The process: where it listens, what it is called, how it starts and stops."""

    allow_anonymous: bool = Field(
        default=False,
        description="Let clients without credentials in on addresses that other machines can reach too. On"
        " loopback addresses they always may.",
    )
    listen: Listen = Field(
        default=(Address("127.0.0.1", 1883),),
        description="Addresses HOST:PORT for MQTT over TCP; in a variable several are separated by commas."
        " Port 0 picks a free port and prints it. An address that other machines can reach also"
        " needs `allow_anonymous`.",
    )
    admin: AddressOrOff = Field(
        default=Address("127.0.0.1", 8080),
        description="Address HOST:PORT of `/healthz`, `/readyz`, `/metrics` and `/api/v1`, or `off`. It asks"
        " for no password: on a public address anybody can read the figures, and `/api/v1` is refused.",
    )
    name: str = Field(
        default_factory=_default_name,
        min_length=1,
        max_length=NAME_MAXIMUM,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Name of the node in logs and metrics: letters, digits, `.`, `_`, `-`. Default: host"
        " name and first port. Two nodes with one name can't be told apart in the logs; nothing"
        " else depends on it.",
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
        public = [str(address) for address in listen if not address.is_loopback]
        if public and not info.data.get("allow_anonymous", True):
            raise ValueError(
                f"other machines can reach {', '.join(public)}, and nothing would ask clients who they are;"
                " use a loopback address, or let everybody in with --allow-anonymous"
            )
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
    def _own_port(cls, admin: Address | None, info: ValidationInfo) -> Address | None:
        if admin is not None and admin.port and admin in info.data.get("listen", ()):
            raise ValueError("is an address of node.listen too")
        return admin


class RedisSettings(Group):
    """Redis or Valkey (7.0 or newer): where everything durable is kept."""

    url: RedisUrl = Field(
        default=None,
        repr=False,
        description="`redis://`, `rediss://` or `unix://` URL. Default: the node starts a private server"
        " in `data_dir`. Nodes with the same server and prefix are one broker.",
    )
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


class MqttSettings(Group):
    """Limits of the protocol that the broker announces or enforces on each connection."""

    maximum_packet_size: int = Field(
        default=1_048_576,
        ge=256,
        le=268_435_460,
        description="Largest packet accepted, in bytes. Too small: clients with larger payloads are"
        " disconnected (0x95). Too large: each connection may make the node hold that much.",
    )
    receive_maximum: int = Field(
        default=1000,
        ge=1,
        le=65_535,
        description="QoS 1 and 2 messages one client may have unacknowledged towards the broker. Too"
        " small: a publisher waits for round trips. Too large: more is held while Redis is"
        " away.",
    )
    topic_alias_maximum: int = Field(
        default=32,
        ge=0,
        le=65_535,
        description="Topic Aliases a MQTT 5 client may set on its connection. 0: none. Too large: each"
        " connection may keep that many topics, up to 64 KiB each, in memory.",
    )
    topic_levels_maximum: int = Field(
        default=128,
        ge=1,
        le=32_768,
        description="Levels of a Topic Filter; a deeper one is refused (0x8F). Too small: deep trees can't be"
        " subscribed to. Too large: one hostile filter makes matching slow for everybody.",
    )
    connect_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        le=300,
        description="Seconds a connection has to send its CONNECT. Too small: clients on bad networks"
        " never get in. Too large: connections that say nothing use up the places.",
    )
    keep_alive_maximum_seconds: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="Longest Keep Alive in seconds; MQTT 5 clients that ask for more are told this one"
        " (Server Keep Alive). 0: whatever the client asks for. Too small: traffic and drained"
        " batteries. Too large: dead connections, and their wills, are noticed late.",
    )
    session_expiry_maximum_seconds: int = Field(
        default=30 * DAY_SECONDS,
        ge=0,
        le=0xFFFF_FFFF,
        description="Longest Session Expiry Interval in seconds, and what a session of MQTT 3 with Clean"
        " Session 0 gets. Too small: devices that sleep longer lose their messages. Too large:"
        " queues of devices that never come back fill Redis. 4294967295: never.",
    )
    sys_interval_seconds: int = Field(
        default=60,
        ge=0,
        le=DAY_SECONDS,
        description="Seconds between two tellings of the `$SYS` topics; what is told expires after three of"
        " them. 0: there are none. Too small: some twenty retained messages of each node go to Redis all the"
        " time. Too large: figures are old, and a node that is gone is seen for long.",
    )


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


class LimitSettings(Group):
    """What one client, and all together, may take of the node."""

    connections_maximum: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="MQTT connections of the node. 0: as many as the limit of open files allows, less a"
        " reserve. Too small: clients are refused. Too large: accept fails when files or memory"
        " run out.",
    )
    outbound_buffer_bytes: int = Field(
        default=1_048_576,
        ge=4096,
        le=1_073_741_824,
        description="Bytes that wait to be written to one client; beyond it its QoS 0 messages are dropped"
        " and counted. Too small: bursts are lost. Too large: slow clients fill the memory.",
    )
    inbound_unacknowledged_bytes: int = Field(
        default=4_194_304,
        ge=4096,
        le=1_073_741_824,
        description="Bytes one client may have published without an acknowledgement; beyond it nothing"
        " more is read from it. Too small: publishers stall whenever Redis is slow. Too large:"
        " they fill the memory while it is away.",
    )
    subscriptions_per_session: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Subscriptions of one session; further ones are refused (0x97). Too small: gateways"
        " can't subscribe. Too large: one client makes resuming and matching slow.",
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


class Settings(BaseSettings):
    """All groups. Made by `load`, which collects the mistakes."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
    )

    node: NodeSettings = Field(default_factory=NodeSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    mqtt: MqttSettings = Field(default_factory=MqttSettings)
    session: SessionSettings = Field(default_factory=SessionSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    topics: TopicSettings = Field(default_factory=TopicSettings)
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags before environment before file; no .env file and no secrets directory."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
