"""The group of settings for when alarms are raised."""

from pydantic import Field

from broker.settings.group import Group


class AlarmSettings(Group):
    """When a node raises an alarm; see [alarms](operations.md#alarms)."""

    cpu_share: float = Field(
        default=0.9,
        gt=0,
        le=10,
        description="Share of a processor core that the node uses for a minute. Too small: it is raised in"
        " every busy hour. Too large: clients feel it first.",
    )
    loop_lag_seconds: float = Field(
        default=0.1,
        gt=0,
        le=60,
        description="Seconds by which what happens in the node is late, on average of 10 s. Too small: a busy"
        " machine raises it. Too large: clients feel it first.",
    )
    redis_latency_seconds: float = Field(
        default=0.1,
        gt=0,
        le=60,
        description="Seconds that Redis takes for a batch, on average of 10 s: so long each publisher waits"
        " at least. Too small: full batches raise it. Too large: publishers feel it first.",
    )
    redis_memory_share: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of `maxmemory` that Redis uses. Too small: it is raised for ever. Too large: no"
        " time is left to make room before publishers are held.",
    )
    queue_share: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of `session.queue_limit` or `session.queue_bytes` that the fullest queue has"
        " reached, or of `session.direct_queue_limit` the fullest backlog. Too small: each client"
        " that is away for long raises it. Too large: no time is left before messages are dropped.",
    )
    drops_per_second: float = Field(
        default=1.0,
        gt=0,
        le=1_000_000,
        description="Messages at QoS 1 and 2 that a node drops a second, on average of 10 s. Too small: a"
        " single client that is away for ever raises it. Too large: losses stay unseen.",
    )
    certificate_days: float = Field(
        default=14.0,
        gt=0,
        le=3650,
        description="Days until the first certificate of a listener ends. Too small: no time is left to get"
        " another one. Too large: one that is renewed by itself raises it.",
    )
    qos2_exchange_seconds: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="Seconds for which a QoS 2 exchange with a connected client is open. Too small: clients"
        " on slow networks raise it. Too large: messages that are stuck stay unseen.",
    )
