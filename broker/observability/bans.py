"""Counters of bans: how many there are, whom they have kept out, and which came by themselves."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

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


def ban_metrics(counters: BanCounters) -> Iterator[Metric]:
    """As Prometheus has them."""
    held = GaugeMetricFamily("moorline_bans", "Bans of the whole cluster, by kind.", labels=["kind"])
    for kind, count in counters.held.items():
        held.add_metric([kind], count)
    yield held
    refused = CounterMetricFamily(
        "moorline_ban_refusals", "Connections refused by a ban, by its kind.", labels=["kind"]
    )
    for kind, count in counters.refused.items():
        refused.add_metric([kind], count)
    yield refused
    automatic = CounterMetricFamily(
        "moorline_automatic_bans", "Bans that came by themselves, by reason.", labels=["reason"]
    )
    for reason, count in counters.automatic.items():
        automatic.add_metric([reason], count)
    yield automatic
    yield CounterMetricFamily(
        "moorline_ban_disconnects", "Clients disconnected by a new ban.", counters.disconnected
    )
    yield CounterMetricFamily(
        "moorline_guesses_delayed",
        "Authentications that waited, after too many failures of that user name.",
        counters.delayed,
    )
