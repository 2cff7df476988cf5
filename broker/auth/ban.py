"""One ban: who is kept out, why, and for how long. No I/O.

What people write is brought into one form, so that the same address is the same ban however it is written.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network
from typing import Final, Self

from broker.auth.address import parsed_address

NAME_BYTES: Final = 1024
"""Of a client id or user name that is banned. Longer ones need a pattern."""
REASON_CHARACTERS: Final = 200
WHO_CHARACTERS: Final = 100
ANY: Final = "*"


class BanKind(StrEnum):
    """By what clients are known that are banned."""

    CLIENT = "client"
    USER = "user"
    ADDRESS = "address"
    PAIR = "pair"
    """A Client Identifier at one address: whoever uses it elsewhere is let in."""


@dataclass(frozen=True, slots=True)
class Target:
    """Who is banned. `value` of a pair is the address, a space, and the Client Identifier."""

    kind: BanKind
    value: str

    @property
    def name(self) -> str:
        """As it is in Redis."""
        return f"{self.kind.value}:{self.value}"

    @property
    def is_pattern(self) -> bool:
        """Whether `*` stands for any characters."""
        return self.kind is BanKind.CLIENT and ANY in self.value

    @classmethod
    def of_name(cls, name: str) -> Self:
        """Back from `name`. ValueError for a kind that a newer release knows."""
        kind, _, value = name.partition(":")
        return cls(BanKind(kind), value)


@dataclass(frozen=True, slots=True)
class Ban:
    """`since_ms` and `until_ms` by the clock of Redis; `until_ms` 0: for ever. `by`: who has set it."""

    target: Target
    reason: str
    by: str
    since_ms: int
    until_ms: int
    is_automatic: bool = False

    def holds(self, now_ms: int) -> bool:
        """Whether it has not ended yet."""
        return not self.until_ms or now_ms < self.until_ms


def target_of(kind: str, value: str) -> Target:
    """Of what a person has written. Raises ValueError."""
    try:
        found = BanKind(kind)
    except ValueError:
        raise ValueError(f"not one of {', '.join(BanKind)}: {kind!r}") from None
    if found is BanKind.ADDRESS:
        return Target(found, _network(value))
    if found is BanKind.PAIR:
        address, _, client_id = value.partition(" ")
        return pair_of(_network(address), _name(client_id))
    return Target(found, _name(value))


def pair_of(address: str, client_id: str) -> Target:
    """One Client Identifier at one address."""
    return Target(BanKind.PAIR, f"{address} {client_id}")


def check_text(text: str, most: int) -> str:
    """One line of people's words. Raises ValueError."""
    if len(text) > most or not text.isprintable():
        raise ValueError(f"not one line of at most {most} characters")
    return text


def _network(text: str) -> str:
    address = parsed_address(text)
    if address is not None:
        return str(address)
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(f"neither an address nor a network such as 192.0.2.0/24: {error}") from None
    if not network.prefixlen:
        raise ValueError("this would ban everybody")
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _name(text: str) -> str:
    if not text or "\0" in text or len(text.encode(errors="surrogateescape")) > NAME_BYTES:
        raise ValueError(f"empty, or longer than {NAME_BYTES} bytes")
    if text.strip(ANY) == "":
        raise ValueError("this would ban everybody")
    return text
