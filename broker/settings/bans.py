"""The group of settings for who is banned without a person's doing."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer
from pydantic_settings import NoDecode

from broker.settings.group import DAY_SECONDS, Group

Network = IPv4Network | IPv6Network


def _parse_networks(value: Any) -> tuple[Network, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError("not a list of addresses and networks")
    return tuple(_parse_network(part) for part in parts if str(part).strip())


def _parse_network(part: object) -> Network:
    try:
        return ip_network(str(part).strip())
    except ValueError as error:
        raise ValueError(f"{part!r}: {error}") from None


Networks = Annotated[
    tuple[InstanceOf[IPv4Network] | InstanceOf[IPv6Network], ...],
    BeforeValidator(_parse_networks),
    PlainSerializer(lambda networks: [str(network) for network in networks], when_used="json"),
    NoDecode,
]


class BanSettings(Group):
    """Who is banned by itself, and for how long; see [security](security.md#bans)."""

    guess_limit: int = Field(
        default=30,
        ge=0,
        le=1_000_000,
        description="Failed authentications of one address (IPv6: of its /64) within"
        " `bans.guess_window_seconds`; one more, and the address is banned. 0: never. As many for one user"
        " name, from anywhere, and further attempts wait 1 to 5 s. Too small: a few devices with an old"
        " password keep out all others behind the same router. Too large: passwords can be guessed.",
    )
    guess_window_seconds: int = Field(
        default=60,
        ge=1,
        le=DAY_SECONDS,
        description="Seconds within which failed authentications are counted together. Too small: who"
        " guesses slowly is never banned. Too large: mistakes of a whole day add up.",
    )
    guess_ban_seconds: int = Field(
        default=300,
        ge=1,
        le=30 * DAY_SECONDS,
        description="Seconds for which an address is banned then. Who is connected stays. Too small:"
        " guessing goes on soon. Too large: who has put the password right waits that long.",
    )
    flap_limit: int = Field(
        default=100,
        ge=0,
        le=1_000_000,
        description="Connections of one Client Identifier from one address that have ended within"
        " `bans.flap_window_seconds`, not counting those that the broker has ended; one more, and that"
        " client is banned at that address. 0: never. Too small: scripts that connect for each message are"
        " banned. Too large: a broken client keeps the cluster busy.",
    )
    flap_window_seconds: int = Field(
        default=60,
        ge=1,
        le=DAY_SECONDS,
        description="Seconds within which these are counted together. Too small: slow flapping is never"
        " noticed. Too large: ordinary reconnects of a day add up.",
    )
    flap_ban_seconds: int = Field(
        default=60,
        ge=1,
        le=30 * DAY_SECONDS,
        description="Seconds for which the client is banned then. Too small: it is back at once. Too large:"
        " a device that works again is kept out.",
    )
    exempt: Networks = Field(
        default=(),
        description="Addresses and networks that are never banned by themselves, as loopback addresses"
        " never are: those of proxies and gateways, behind which many clients have one address. In a"
        " variable they are separated by commas. Too few: who guesses behind a proxy has the proxy banned."
        " Too many: nobody there is ever kept from guessing.",
    )
