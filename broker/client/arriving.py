"""What comes from other nodes: messages, entries of queues that this node owns, kicks, and commands."""

from collections.abc import Sequence

from broker.client.hub import Hub
from broker.client.sharing import on_shared
from broker.mqtt import MqttError
from broker.observability.logs import get_logger
from broker.routing import arrival, take_handover
from broker.routing.subscription import DIRECT_INTEREST
from cluster.store import inbox_records
from cluster.store.inbox_records import Bursts, Command, Direct, Handover, Kick, Record, Runs, SharedGiven

logger = get_logger(__name__)

DAMAGE = (TypeError, ValueError, LookupError, AttributeError, MqttError)  # what a damaged record leads to


def on_records(hub: Hub, records: Sequence[Record]) -> None:
    """What was in the inbox, in order."""
    hub.tick()
    for record in records:
        try:
            _handle(hub, record)
        except DAMAGE as error:
            logger.error("a damaged record in the inbox: %s: %s", type(error).__name__, error)
    hub.after_input()


def on_messages(hub: Hub, packed: bytes) -> None:
    """A record from this node's channel: for subscribers that get the messages at QoS 0."""
    hub.tick()
    if hub.pulse.in_doubt:
        hub.hold(lambda: on_messages(hub, packed))
        return
    try:
        record = inbox_records.unpack(packed)
        if isinstance(record, Bursts):
            hub.router.nearby.deliver_bursts(record.bursts, False)
        elif isinstance(record, Runs):
            hub.router.nearby.deliver_channel(record.runs)
        else:  # nothing that a node of this release says there
            hub.counters.unknown_records.add("channel")
    except DAMAGE as error:
        logger.error("a damaged record on the channel: %s: %s", type(error).__name__, error)
    hub.after_input()


def on_interest(hub: Hub, node: str, added: Sequence[str], removed: Sequence[str]) -> None:
    """Another node's clients want other messages than before."""
    versioned = f"{DIRECT_INTEREST}:"
    for field in added:
        if not field.startswith(versioned) and not hub.index.add_interest(node, field):
            hub.counters.unknown_records.add("interest")
    for field in removed:
        if not field.startswith(versioned):
            hub.index.remove_interest(node, field)
    if any(field.startswith(versioned) for field in (*added, *removed)):
        hub.committer.follow_log()  # each batch would do so, but not a message at QoS 0


def on_rung(hub: Hub, client_id: str, n: int) -> None:
    """A session's queue goes up to `n`."""
    subscriber = hub.index.subscribers.get(client_id)
    session = subscriber.session if subscriber is not None else None
    if session is not None and session.queued is not None:
        session.queued.look(n)
        hub.after_input()


def on_kicked(hub: Hub, client_id: str, epoch: int) -> None:
    """Another node has claimed the session that this one had with `epoch`."""
    client = hub.clients.get(client_id)
    if client is not None and client.epoch <= epoch:
        client.taken_over()
        hub.after_input()


def _handle(hub: Hub, record: Record) -> None:
    if isinstance(record, Bursts):
        hub.router.nearby.deliver_bursts(record.bursts, True)
    elif isinstance(record, Direct):  # of a node of an older release
        for fields in record.messages:
            arrived = arrival(fields)
            hub.router.nearby.deliver_here(arrived.message, True, arrived.for_everyone)
    elif isinstance(record, Handover):
        take_handover(hub.index, record.bodies, record.sessions)
    elif isinstance(record, SharedGiven):
        on_shared(hub, record)
    elif isinstance(record, Kick):
        on_kicked(hub, record.client_id, record.epoch)
    elif isinstance(record, Command):
        hub.on_command(record)
