"""Carries over what the parts of a node count by themselves into its `Counters`, twice a second."""

from itertools import islice
from typing import Final

from broker.assembly import Node
from broker.client import Hub
from broker.mqtt import PUBACK, ReasonCode
from broker.observability.metrics import Counters

_GROUPS_SHOWN: Final = 100  # shared subscriptions with metrics of their own: more would be too many series


def carry_over(counters: Counters, node: Node) -> None:
    """All of it, as of now."""
    hub = node.hub
    counters.inbox_records = node.inbox.records
    counters.handed_over = hub.router.transit.handed_over
    counters.channel_lost = node.broadcast.lost
    counters.unknown_records.raise_to("inbox", node.inbox.unknown)
    counters.unknown_records.raise_to("change_log", hub.index.unknown_changes)
    counters.doubts = hub.pulse.doubts
    counters.fights = len(hub.fights)
    counters.fights_delayed = hub.fights.delayed
    counters.nodes_reaped = node.reaper.reaped
    history = node.operations.history
    counters.events_lost = history.lost if history is not None else 0
    counters.redis_full = hub.committer.refusals
    counters.subscriptions = hub.index.count
    counters.retained = hub.router.retained_room.total
    counters.shared = dict(islice(hub.members.waiting.items(), _GROUPS_SHOWN))
    if node.durability is not None:
        node.durability.count()
    node.operations.sounder.age()
    _count_connections(counters, node)
    _count_messages(counters, hub)


def _count_connections(counters: Counters, node: Node) -> None:
    gate = node.surroundings.guarding.gate
    counters.passwords_waiting = gate.waiting if gate is not None else 0
    counters.sessions = len(node.hub.clients)
    counters.connections_maximum = node.hub.settings.connections_maximum
    counters.half_open = len(node.admission.half_open)
    counters.authenticating = node.admission.authenticating
    open_by_name: dict[str, int] = {}
    for each in node.admission.gates:
        open_by_name[each.name] = open_by_name.get(each.name, 0) + each.open
    counters.listener_open = open_by_name
    counters.listener_limits = {each.name: each.maximum for each in node.admission.gates if each.maximum}


def _count_messages(counters: Counters, hub: Hub) -> None:
    drops = hub.drops
    counters.sent_qos0, counters.sent_qos1, counters.sent_qos2 = drops.sent
    for reason, count in hub.dropped().items():
        counters.messages_dropped.raise_to(reason, count)
    for reason, count in drops.at_qos0.items():
        counters.dropped_at_qos0.raise_to(reason, count)
    counters.received_qos0, counters.received_qos1, counters.received_qos2 = hub.ingress.received
    counters.refused.raise_to("retained_messages", hub.router.statistics.not_retained)
    counters.refused.raise_to("payload_format_check", hub.ingress.refused_payload_format)
    counters.refused.raise_to("retained_payload_bytes", hub.ingress.refused_retained)
    counters.recovered.raise_to("taken_anew", hub.ingress.taken_anew)
    for (packet_type, code), count in drops.refused.items():
        packet = "puback" if packet_type == PUBACK else "pubrec"
        counters.error_packets.raise_to(f"{packet} {ReasonCode(code).name.lower()}", count)
    counters.exchanges_completed.raise_to("in", drops.completed_in)
    counters.exchanges_completed.raise_to("out", drops.completed_out)
    for milliseconds in drops.take_probed():
        counters.client_acknowledgement_latency.observe(milliseconds / 1000)
