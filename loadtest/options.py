"""The options that several commands of the load generator have."""

from typing import Annotated

import typer

BrokerOption = Annotated[
    str,
    typer.Option("--broker", metavar="ADDRESS", help="HOST:PORT, or mqtts://, ws://, wss://HOST:PORT/PATH."),
]
BrokersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--broker",
        metavar="ADDRESS",
        help="HOST:PORT, or mqtts://, ws://, wss://HOST:PORT/PATH. Repeatable: clients are spread over all.",
    ),
]
SubscribeAtOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ADDRESS", help="Another node of the broker, where the subscribers are. Repeatable."
    ),
]
CaOption = Annotated[
    str | None,
    typer.Option("--ca-file", metavar="FILE", help="Whom to believe, in place of the system."),
]
CertOption = Annotated[
    str | None,
    typer.Option("--cert-file", metavar="FILE", help="The clients' certificate."),
]
KeyOption = Annotated[
    str | None, typer.Option("--key-file", metavar="FILE", help="Its key, if it isn't in the same file.")
]
InsecureOption = Annotated[bool, typer.Option("--insecure", help="Believe any certificate of the broker.")]
OwnOption = Annotated[
    bool, typer.Option("--i-own-this-target", help="Allow a broker that isn't on this machine.")
]
VersionOption = Annotated[
    int, typer.Option("--mqtt-version", min=3, max=5, help="3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0.")
]
UserOption = Annotated[str | None, typer.Option("--username", help="User name in CONNECT.")]
PasswordOption = Annotated[
    str | None,
    typer.Option(
        "--password", envvar="MOORLINE_LOADTEST_PASSWORD", help="Password in CONNECT.", show_envvar=True
    ),
]
PidOption = Annotated[
    list[int] | None,
    typer.Option("--pid", help="A process of the broker, measured with its children. Repeatable."),
]
RedisPidOption = Annotated[
    list[int] | None,
    typer.Option("--redis-pid", help="The same, of its Redis; one that is a child is found. Repeatable."),
]
QosOption = Annotated[int, typer.Option("--qos", min=0, max=2, help="Of publishers and subscribers.")]
PersistentOption = Annotated[
    bool, typer.Option("--persistent/--clean", help="Subscribers' sessions outlive their connections.")
]
PersistentPublishersOption = Annotated[
    bool, typer.Option("--persistent-publishers", help="Publishers' sessions outlive their connections, too.")
]
PayloadOption = Annotated[int, typer.Option("--payload", help="Bytes per message, at least 16.")]
WindowOption = Annotated[
    int,
    typer.Option(
        "--window",
        help="Closed loop: messages outstanding per publisher, until delivered (QoS 0) or acknowledged.",
    ),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--rate", help="Open loop: messages per second of all publishers; latency from the intended time."
    ),
]
DurationOption = Annotated[float, typer.Option("--duration", help="Seconds to measure.")]
CountOption = Annotated[
    int | None, typer.Option("--count", help="Messages per publisher, instead of a duration and a warm-up.")
]
WarmUpOption = Annotated[float, typer.Option("--warm-up", help="Seconds before measuring begins.")]
DrainOption = Annotated[
    float, typer.Option("--drain-timeout", help="Seconds without news after which the rest counts as lost.")
]
ProcessesOption = Annotated[int, typer.Option("--processes", help="Worker processes of the generator.")]
PublishersOption = Annotated[int | None, typer.Option("--publishers", "-n", min=1, help="How many publish.")]
SubscribersOption = Annotated[
    int | None, typer.Option("--subscribers", "-m", min=1, help="How many subscribe.")
]
