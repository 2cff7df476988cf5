"""Counters of bans: how many there are, whom they have kept out, and which came by themselves."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import Metric

from broker.observability.definition import Definition

KINDS: Final = ("client", "user", "address", "pair")
REASONS: Final = ("guessing", "flapping")


class BanCounters:
    """Of one node. `held` is what it knows of the list of the whole cluster."""

    __slots__ = ("automatic", "delayed", "disconnected", "held", "refused")

    def __init__(self) -> None:
        self.held: Mapping[str, int] = dict.fromkeys(KINDS, 0)
        self.refused = dict.fromkeys(KINDS, 0)  # connections and CONNECT packets
        self.disconnected = 0  # clients that were there when their ban came
        self.automatic = dict.fromkeys(REASONS, 0)  # that this node has asked for
        self.delayed = 0  # authentications that had to wait


DEFINITIONS: Final[tuple[Definition[BanCounters], ...]] = (
    Definition(
        "gauge",
        "moorline_bans",
        "Bans of the whole cluster as this node knows them, by kind: client, user, address, pair.",
        lambda c: c.held.items(),
        ("kind",),
        "See [bans](security.md#bans).",
    ),
    Definition(
        "counter",
        "moorline_ban_refusals",
        "Connections and CONNECT packets refused by a ban, by its kind.",
        lambda c: c.refused.items(),
        ("kind",),
    ),
    Definition(
        "counter",
        "moorline_automatic_bans",
        "Bans that came by themselves and that this node has asked for, by reason: guessing, flapping.",
        lambda c: c.automatic.items(),
        ("reason",),
    ),
    Definition(
        "counter",
        "moorline_ban_disconnects",
        "Clients that a new ban has disconnected.",
        lambda c: c.disconnected,
    ),
    Definition(
        "counter",
        "moorline_guesses_delayed",
        "Authentications that had to wait, after too many failures of that user name.",
        lambda c: c.delayed,
    ),
)


def ban_metrics(counters: BanCounters) -> Iterator[Metric]:
    """As Prometheus has them."""
    return (definition.family(counters) for definition in DEFINITIONS)
