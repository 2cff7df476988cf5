"""The knobs of the protocol; see `broker.settings.model` for the form."""

from pydantic import Field

from broker.settings.group import DAY_SECONDS, Group
from broker.settings.values import ResponseInformation


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
    sent_topic_aliases_maximum: int = Field(
        default=32,
        ge=0,
        le=65_535,
        description="Topic Aliases the broker sets on a connection of a MQTT 5 client that takes them (its"
        " Topic Alias Maximum may lower it), for topics that come again. 0: none. Too small: long topics are"
        " sent in full. Too large: each connection may keep twice that many topics, up to 64 KiB each, in"
        " memory.",
    )
    topic_levels_maximum: int = Field(
        default=128,
        ge=1,
        le=32_768,
        description="Levels of a Topic Filter; a deeper one is refused (0x8F). Too small: deep trees can't be"
        " subscribed to. Too large: one hostile filter makes matching slow for everybody.",
    )
    maximum_qos: int = Field(
        default=2,
        ge=0,
        le=2,
        description="Highest QoS at which clients may publish. MQTT 5 clients are told; one that publishes at"
        " a higher one all the same is disconnected (0x9B), one of MQTT 3 is, too, and a will at a higher one"
        " is refused with its CONNECT. At 0 nothing that is published outlives a failure.",
    )
    retain_available: bool = Field(
        default=True,
        description="Whether messages may be retained. Without: MQTT 5 clients are told; who publishes with"
        " RETAIN is disconnected (0x9A), MQTT 3 clients too, a will with it is refused with its CONNECT, and"
        " no subscription is answered with what is still retained.",
    )
    wildcard_subscription_available: bool = Field(
        default=True,
        description="Whether Topic Filters may have wildcards. Without: MQTT 5 clients are told, and"
        " disconnected for it (0xA2); MQTT 3 clients are refused that filter (0x80).",
    )
    shared_subscription_available: bool = Field(
        default=True,
        description="Whether there are shared subscriptions (`$share/...`). Without: MQTT 5 clients are told,"
        " and disconnected for it (0x9E); MQTT 3 clients are refused that filter (0x80).",
    )
    subscription_identifier_available: bool = Field(
        default=True,
        description="Whether subscriptions may have Subscription Identifiers. Without: MQTT 5 clients are"
        " told, and disconnected for it (0xA1).",
    )
    payload_format_check: bool = Field(
        default=False,
        description="Whether a payload is checked that its Payload Format Indicator calls UTF-8. One that is"
        " not is refused with 0x99, in PUBACK, PUBREC, or by a disconnect at QoS 0; a will with its CONNECT."
        " It costs time for each such message. Without, subscribers have to check for themselves.",
    )
    response_information: ResponseInformation = Field(
        default=None,
        description="What a MQTT 5 client is told that asks for Response Information: where its Response"
        " Topics may be. `%c` stands for its Client Identifier, `%u` for its User Name. Clients without a"
        " User Name, or with one that can't be part of a topic, are told nothing. None: nobody is told"
        " anything.",
    )
    connect_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        le=300,
        description="Seconds a connection has to send its CONNECT, and with an Authentication Method to be"
        " authenticated. Too small: clients on bad networks never get in. Too large: connections that say"
        " nothing use up the places.",
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
