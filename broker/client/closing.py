"""The end of a connection: DISCONNECT, and giving the session back to the store."""

import time
from collections.abc import Sequence
from functools import partial

from broker.client.client import Client
from broker.client.excluding import free_exclusive
from broker.client.hub import Hub
from broker.client.sharing import end_memberships, leave_groups
from broker.client.telling import tell_disconnected
from broker.client.wanting import want_nothing
from broker.client.wills import route_wills
from broker.mqtt import MQTT_5, Disconnect, Packet, ReasonCode
from broker.observability.lines import note
from broker.observability.logs import get_logger
from broker.session import Session
from cluster.store import sessions, subscriptions
from cluster.store.keys import bucket_of
from cluster.store.lane import Reply
from cluster.store.reply import as_ints

DISCONNECT_WITH_WILL = 0x04

logger = get_logger(__name__)


def on_disconnect(client: Client, packet: Packet) -> None:
    """The client ends the connection in order; its will is not sent unless it asks for that
    [MQTT-3.14.4-3]."""
    assert isinstance(packet, Disconnect)
    if client.connection.version == MQTT_5:
        client.fires_will = packet.reason_code == DISCONNECT_WITH_WILL
        expiry = packet.properties.session_expiry_interval if packet.properties is not None else None
        if expiry is not None:
            client.expiry_seconds = min(expiry, client.hub.settings.session_expiry_maximum_seconds)
    else:
        client.fires_will = False
    client.end("client disconnected")
    if client.session is None:
        client.close_socket()
    else:  # when the store has it, as whoever sees the end may count on it: on another node, at once
        client.limit_closing()


def on_lost(client: Client, reason: str) -> None:
    """Gives the session of a connection that has ended back to the store."""
    hub = client.hub
    if client.trace is not None:
        client.trace.ended(reason)
    if hub.clients.get(client.client_id) is client:
        del hub.clients[client.client_id]
    session = client.session
    if session is None:
        if client.awaiting is not None:
            client.awaiting()
        return
    if session.promises is not None:
        session.promises.abandon()
    hub.direct_sessions -= session.direct is not None
    _count_abandoned(hub, session)
    hub.counters.disconnects.add(reason.split(":", 1)[0])
    if not client.entrance.is_internal:  # it may come and go as often as its target does
        hub.banning.note_end(client.client_id, client.address, reason, time.monotonic())
    note(logger, "disconnected", {"client_id": client.client_id, "peer": client.peer, "reason": reason})
    tell_disconnected(client, reason)
    _leave_index(client, session)
    if client.interests:
        want_nothing(client)
    if client.memberships:
        leave_groups(client)
    if not client.is_taken_over:
        sent = session.queued.last_sent if session.queued is not None else 0
        give_back(hub, client, session.epoch, sent, session.direct is not None and not client.has_will)


def give_back(hub: Hub, client: Client, epoch: int, sent: int, is_plain: bool = False) -> None:
    """Detaches a session: the next claim, on any node, finds it free. Its will is due, or waits, or is
    dropped. `is_plain`: it is direct, and there is none."""
    request = sessions.detach(
        client.client_id,
        epoch,
        sent=sent,
        expiry_seconds=client.expiry_seconds,
        fire_will=client.fires_will,
        is_plain=is_plain,
    )
    hub.detaching[client.client_id] = client
    hub.committer.request(request, partial(_given_back, client), frees_memory=True)


def _given_back(client: Client, reply: Reply) -> None:
    hub = client.hub
    client.close_socket()
    if client.session is not None:
        client.session.dissolve()
    if hub.detaching.get(client.client_id) is client:
        del hub.detaching[client.client_id]
    if isinstance(reply, Exception):
        logger.error("detach failed: %s", reply, extra={"client_id": client.client_id})
        return
    answer = sessions.parse_detach(reply)
    drop_rows(hub, client.client_id, answer.ended_rows)
    if answer.will is not None:
        route_wills(hub, [answer.will], _nothing, client.rights)


def drop_rows(hub: Hub, client_id: str, rows: Sequence[tuple[str, int]]) -> None:
    """Deletes the subscription rows of a session that has ended."""
    if not rows:
        return
    end_memberships(hub, client_id, rows)
    # Stamps are from the same counter as epochs: what a later session of the client has taken stays.
    for filter, stamp in rows:
        free_exclusive(hub, client_id, stamp, [filter], _nothing)
    for filter, stamp in rows:
        hub.index.remove_row(client_id, filter, stamp)
    deletes = [(client_id, filter, stamp) for filter, stamp in rows]
    hub.committer.request(subscriptions.rows([], deletes), _log_failure, frees_memory=True)


def review_rows(hub: Hub, client_id: str, rows: Sequence[tuple[str, str, bytes, int]]) -> None:
    """For whoever has written rows, once the index has them: deletes those that came late, when the session
    had another owner who has deleted them already."""
    if not hub.index.knowledge.is_doubted(client_id.encode()):
        return

    def found(reply: Reply) -> None:
        if isinstance(reply, Exception):
            logger.error("rows not reviewed: %s", reply, extra={"client_id": client_id})
            return
        stale = [rows[place] for place in as_ints(reply)]
        if stale:
            deletes = [(client_id, filter, stamp) for _, filter, _, stamp in stale]
            hub.committer.request(subscriptions.rows([], deletes), _log_failure, frees_memory=True)

    named = [text for row in rows for text in row[:2]]
    hub.committer.request(subscriptions.missing(bucket_of(client_id), named), found, frees_memory=True)


def on_stale(hub: Hub, session: Session) -> None:
    """The store has refused a write: another owner has the session."""
    client = hub.clients.get(session.client_id)
    if client is not None and client.session is session:
        hub.counters.fenced += 1
        client.taken_over()


def on_overrun(hub: Hub, session: Session) -> None:
    """More QoS 2 exchanges are open than twice the Receive Maximum."""
    client = hub.clients.get(session.client_id)
    if client is not None and client.session is session:
        client.close(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, "too many QoS 2 messages without PUBREL")


def on_failed(hub: Hub, session: Session, reason: str) -> None:
    """The session's keys in the store are damaged; a person has to look at them."""
    logger.error("session damaged in the store", extra={"client_id": session.client_id, "reason": reason})
    client = hub.clients.get(session.client_id)
    if client is not None and client.session is session:
        client.close(ReasonCode.UNSPECIFIED_ERROR, "the session is damaged in the store")


def disconnect_all(hub: Hub, reason_code: ReasonCode, reason: str) -> None:
    """Ends every connection of the node; sessions are given back to the store."""
    for client in list(hub.connections):
        client.close(reason_code, reason)
    hub.after_input()


def _leave_index(client: Client, session: Session) -> None:
    subscriber = client.subscriber
    if subscriber is None:
        return
    hub = client.hub
    if subscriber.is_direct:
        subscriber.session = None
        free_exclusive(hub, client.client_id, session.epoch, list(subscriber.filters), _nothing)
        for filter in list(subscriber.filters):
            hub.index.remove(subscriber, filter, 0)
    elif subscriber.session is session:
        subscriber.session = None
        hub.index.forget_if_unused(subscriber)


def _count_abandoned(hub: Hub, session: Session) -> None:
    abandoned = hub.counters.exchanges_abandoned
    if session.outbound.inflight or session.outbound.released:
        abandoned.add("out", len(session.outbound.exchanges()))
    if session.inbound.has_exchanges():
        abandoned.add("in", len(session.inbound.exchanges()))


def _nothing() -> None:
    """What is done at the end of a connection is waited for by nobody."""


def _log_failure(reply: Reply) -> None:
    if isinstance(reply, Exception):
        logger.error("request failed: %s", reply)
