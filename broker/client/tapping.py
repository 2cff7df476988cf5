"""What of a node can be watched from elsewhere."""

from broker.client import event_taps, tracing
from broker.client.event_taps import EventTaps
from broker.client.hub import Hub
from broker.client.spans import Spans
from broker.client.tracing import Tracing
from cluster.store.store import Store
from cluster.taps import Source, Taps


def make_taps(store: Store, hub: Hub, node: str, spans: Spans | None) -> Taps:
    """Of the node with this name."""
    sources: dict[str, Source] = {
        event_taps.SOURCE: EventTaps(hub.events, node),
        tracing.SOURCE: Tracing(hub, node, spans),
    }
    return Taps(store, hub.incarnation, sources)
