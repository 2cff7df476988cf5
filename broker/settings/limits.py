"""What clients may take of a node: see `broker.settings.model` for the form.

The types at the end are those of the fields by which a listener has limits of its own.
"""

from typing import Annotated

from pydantic import Field

from broker.settings.group import Group
from broker.settings.values import MemoryMark


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
    retained_messages: int = Field(
        default=0,
        ge=0,
        le=1_000_000_000,
        description="Retained messages of the whole cluster. 0: any number. Beyond it a message for a topic"
        " that has none is delivered, but not retained. At QoS 1 with MQTT 5 its publisher is told (0x97),"
        " otherwise it is acknowledged. Nodes look once a second what there is, so what is published under"
        " other first levels within that second may exceed it. `$SYS` topics count, and always find room."
        " Give all nodes the same. Each takes some 200 bytes of Redis beside its payload. Too small: new"
        " devices have no state. Too large: topics that nobody clears fill Redis.",
    )
    retained_payload_bytes: int = Field(
        default=0,
        ge=0,
        le=268_435_460,
        description="Largest payload of a retained message, in bytes. 0: any, up to"
        " `mqtt.maximum_packet_size`. A message with a larger one reaches nobody: it is refused with 0x97 at"
        " QoS 1 and 2 with MQTT 5, acknowledged with MQTT 3, dropped at QoS 0; a will is refused with its"
        " CONNECT. Too small: images and configurations can't be retained. Too large: they fill Redis.",
    )
    connections_per_address: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="Connections from one address, of IPv6 from one /64; further ones are closed at once."
        " 0: any number. Too small: clients behind one NAT, or a proxy that does not tell their addresses,"
        " are refused. Too large: one machine takes all places.",
    )
    half_open_connections: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="Connections that have not sent their CONNECT, or are in the middle of an Authentication"
        " Method; beyond it the oldest of them is closed. 0: half of `limits.connections_maximum`. Too small:"
        " in a storm of reconnecting clients those on slow networks never get in. Too large: connections that"
        " say nothing use up the places.",
    )
    connects_per_second: float = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="Connections taken a second; beyond it they wait in the kernel (`node.backlog`). 0: any"
        " number. Too small: after an outage it takes long until all are back. Too large: clients that are"
        " connected feel a storm of others.",
    )
    connects_per_second_per_address: float = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="Connections a second from one address, of IPv6 from one /64; further ones are closed at"
        " once. 0: any number. Too small: clients behind one NAT or proxy are refused. Too large: one machine"
        " keeps the node busy with handshakes.",
    )
    messages_per_second: float = Field(
        default=0.0,
        ge=0,
        le=10_000_000,
        description="Packets a second from one client, acknowledgements not counted; beyond it the node reads"
        " from it only as fast as this. 0: any number. Too small: bursts are late, and so are answers to"
        " PINGREQ behind them. Too large: one client keeps the node busy.",
    )
    bytes_per_second: float = Field(
        default=0.0,
        ge=0,
        le=100_000_000_000,
        description="Bytes a second from one client; beyond it the node reads from it only as fast as this."
        " 0: any number. Too small: a large message takes long. Too large: one client fills the network of"
        " the node.",
    )
    burst_seconds: float = Field(
        default=2.0,
        ge=0.01,
        le=3600,
        description="How much of each rate may come at once, if little came before: what may come in so many"
        " seconds. Too small: what comes in bursts is slowed down though it is little. Too large: the limit"
        " holds in the long run only.",
    )
    throttled_seconds: float = Field(
        default=0.0,
        ge=0,
        le=86_400,
        description="Seconds that a client may be over its rate without a break, before it is disconnected"
        " (0x96). 0: it is slowed down for as long as it likes. Too small: a client that has much to send"
        " once is disconnected. Too large: as if it were 0.",
    )
    stalled_seconds: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="Seconds in which a client takes nothing of what waits for it, over 64 KiB, before it is"
        " disconnected (0x97). 0: its keep-alive alone decides. Too small: devices that sleep are cut off."
        " Too large: what waits for the dead fills the memory.",
    )
    topic_levels: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="Levels of the topic of a message. 0: any number. One with more is refused (0x90); at"
        " QoS 0, and before MQTT 5, it is dropped. For Topic Filters there is `mqtt.topic_levels_maximum`."
        " Too small: deep trees can't be published to. Too large: topics are made of nothing but slashes.",
    )
    topic_bytes: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="Bytes of the topic of a message, and of a Topic Filter. 0: any number. A longer one"
        " is refused (0x90, a filter with 0x8F); at QoS 0, and before MQTT 5, the message is dropped. Too"
        " small: long names can't be used. Too large: topics cost as much memory as messages.",
    )
    filters_per_packet: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Topic Filters of one SUBSCRIBE; those beyond it are refused (0x97). Too small: gateways"
        " can't subscribe in one go. Too large: others wait while a large one is taken in.",
    )
    memory_high_water_bytes: MemoryMark = Field(
        default="auto",
        description="Memory of the process beyond which no more connections are taken, `/readyz` is 503, and"
        " nothing is read from the clients with the most unacknowledged; until it is 5 % below. `auto`: 85 %"
        " of the limit of the control group, if there is one, of which all its processes count, without the"
        " page cache. `off`: there is none. Too small: the node takes no connections though it could. Too"
        " large: the kernel kills it.",
    )


EachMessagesPerSecond = Annotated[
    float | None,
    Field(
        ge=0,
        le=10_000_000,
        description="In place of `limits.messages_per_second`, for each client that connects here. 0: any"
        " number. Too small, too large: as there.",
    ),
]
EachBytesPerSecond = Annotated[
    float | None,
    Field(
        ge=0,
        le=100_000_000_000,
        description="In place of `limits.bytes_per_second`, for each client that connects here. 0: any"
        " number. Too small, too large: as there.",
    ),
]
AllMessagesPerSecond = Annotated[
    float,
    Field(
        ge=0,
        le=100_000_000,
        description="Packets a second from all clients that connect here, together; acknowledgements are not"
        " counted. Beyond it they are read from in turns. 0: any number. Too small: all of them wait. Too"
        " large: this listener keeps the node busy.",
    ),
]
AllBytesPerSecond = Annotated[
    float,
    Field(
        ge=0,
        le=100_000_000_000,
        description="Bytes a second from all clients that connect here, together; beyond it they are read"
        " from in turns. 0: any number. Too small: all of them wait. Too large: this listener fills the"
        " network of the node.",
    ),
]
ListenerConnections = Annotated[
    int,
    Field(
        ge=0,
        le=10_000_000,
        description="Connections of this listener; further ones are closed at once. 0: as many as the node"
        " has places. Too small: its clients are refused. Too large: it takes the places of others.",
    ),
]
ListenerConnects = Annotated[
    float,
    Field(
        ge=0,
        le=1_000_000,
        description="Connections taken here a second; beyond it they wait in the kernel (`node.backlog`). 0:"
        " as many as the node takes. Too small: after an outage it takes long until all are back. Too large:"
        " clients that are connected feel a storm of others.",
    ),
]
