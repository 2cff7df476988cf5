"""SUBSCRIBE and UNSUBSCRIBE.

A persistent session's subscription is written to the session first (fenced, which gives its stamp), then to
the rows that every node loads; SUBACK leaves after both. A direct one lives in this node's index; the store
only learns that this node is interested. Retained messages are read after the rows are written, so that a
subscriber gets the retained or the live message, never neither.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from broker.client.client import Client
from broker.client.closing import review_rows
from broker.client.excluding import free_exclusive, take_exclusive
from broker.client.permitting import ask_to_subscribe, review
from broker.client.refusing import has_room, note_limit, refusal_of_filter
from broker.client.replaying import Replay, start_replays
from broker.client.rewriting import is_harmless
from broker.client.sharing import join_group, leave_unsubscribed
from broker.client.telling import tell_subscribed, tell_unsubscribed
from broker.client.wanting import field_of, join, want, want_only
from broker.mqtt import (
    MQTT_5,
    Packet,
    Properties,
    ReasonCode,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    is_shared,
)
from broker.observability.logs import get_logger
from broker.routing import Subscriber
from broker.session import Session, wants_retained
from cluster.store import records, subscriptions
from cluster.store.errors import RedisFull
from cluster.store.lane import Reply

NO_REPLAY, REPLAY_IF_NEW, REPLAY = 0, 1, 2
_REPLAY_OF_RETAIN_HANDLING = (REPLAY, REPLAY_IF_NEW, NO_REPLAY)
_NO_SUBSCRIPTION_EXISTED = 0x11
_WAITING_BYTES = 1024  # what a filter takes, roughly, while it waits for the store

logger = get_logger(__name__)


@dataclass(slots=True)
class _Asked:
    """A filter of a SUBSCRIBE that is acceptable, and its options in packed form."""

    request: SubscriptionRequest
    identifier: int
    options: bytes
    revision: int
    """Of the rules that allow it."""


def on_subscribe(client: Client, packet: Packet) -> None:
    """Takes a SUBSCRIBE apart: what is acceptable is stored, then answered [MQTT-3.8.4-1], [MQTT-3.8.4-6]."""
    assert isinstance(packet, Subscribe)
    session = client.session
    assert session is not None
    capabilities = client.hub.settings.capabilities
    if session.version == MQTT_5:
        capabilities.check_subscribe(packet)
    identifiers = packet.properties.subscription_identifier if packet.properties is not None else ()
    _subscribe(client, session, packet.subscriptions, identifiers[0] if identifiers else 0, packet.packet_id)


def subscribe_on_connect(client: Client) -> None:
    """Makes the subscriptions that every client has (`topics.auto_subscribe`), unless the session has them
    already. Nobody has asked for them, so nobody is answered."""
    session = client.session
    assert session is not None
    subscriber = client.subscriber
    requests = []
    for each in client.hub.settings.topics.auto_subscribe:
        filter = _for_client(client, each.filter)
        if filter is None:
            extra = {"client_id": client.client_id, "filter": each.filter}
            logger.warning("no subscription is made, as the name of the client does not fit", extra=extra)
            continue
        request = SubscriptionRequest(
            client.entrance.mount_point.filter(filter) if client.entrance.mount_point is not None else filter,
            each.qos,
            each.no_local,
            each.retain_as_published,
            each.retain_handling,
        )
        known = client.hub.index.subscription(subscriber, request.filter) if subscriber is not None else None
        if known is None or known.options != _pack(request, 0):
            requests.append(request)
    if requests:
        _subscribe(client, session, requests, 0, 0)


def _for_client(client: Client, filter: str) -> str | None:
    """A filter with the names of this client; None if it has none, or one with wildcards in it."""
    names = {"%c": client.client_id, "%u": client.username}
    if not all(is_harmless(name) for place, name in names.items() if place in filter):
        return None
    return re.sub("%[cu]", lambda place: names[place[0]], filter)


def _pack(request: SubscriptionRequest, identifier: int) -> bytes:
    return records.pack_options(
        request.qos, request.no_local, request.retain_as_published, request.retain_handling, identifier
    )


def _subscribe(
    client: Client,
    session: Session,
    requests: Sequence[SubscriptionRequest],
    identifier: int,
    packet_id: int,
) -> None:
    """Subscribes to what is acceptable, then answers; `packet_id` 0: nobody is answered."""

    def decided(denied: set[str]) -> None:
        if not client.is_closed:
            _subscribe_where_allowed(client, session, requests, denied, identifier, packet_id)

    maximum = client.hub.settings.filters_maximum
    # Of what has no room anyhow nobody is asked: it would be answered, and forgotten.
    asked = [request for request in requests[:maximum] if has_room(client, request.filter, 0)]
    ask_to_subscribe(client, asked, decided)


def _subscribe_where_allowed(
    client: Client,
    session: Session,
    requests: Sequence[SubscriptionRequest],
    denied: set[str],
    identifier: int,
    packet_id: int,
) -> None:
    reason_codes: list[int] = []
    asked: list[_Asked] = []
    reason: str | None = None  # of the first that is refused
    maximum = client.hub.settings.filters_maximum
    if len(requests) > maximum:
        note_limit(client, "filters_per_packet")
    for number, request in enumerate(requests):
        refusal: tuple[ReasonCode, str] | None = ReasonCode.QUOTA_EXCEEDED, f"more than {maximum} filters"
        if number < maximum:
            refusal = refusal_of_filter(client, request.filter, len(asked))
        if refusal is None and request.filter in denied:
            refusal = ReasonCode.NOT_AUTHORIZED, "not authorized"
        if refusal is not None:
            reason_codes.append(refusal[0])
            reason = reason or refusal[1]
        else:
            reason_codes.append(request.qos)
            asked.append(_Asked(request, identifier, _pack(request, identifier), _revision(client)))

    def taken(refused: set[str]) -> None:
        """What is exclusive is ours, but for these."""
        session.intake.release(_WAITING_BYTES * len(asked))
        codes = [
            ReasonCode.QUOTA_EXCEEDED if request.filter in refused else code
            for request, code in zip(requests, reason_codes, strict=True)
        ]
        rest = [each for each in asked if each.request.filter not in refused]
        text = reason or ("another client has this subscription" if refused else None)
        suback = Suback(packet_id, codes, Properties(reason_string=text) if text is not None else None)
        if client.is_closed:
            if session.queued is None:  # it has ended before it could have any of them
                filters = [each.request.filter for each in rest]
                free_exclusive(client.hub, client.client_id, session.epoch, filters, _nothing)
        elif not rest:
            _answer(client, rest, suback)
            client.hub.after_input()
        elif session.queued is None:
            _subscribe_direct(client, rest, suback)
        else:
            _subscribe_stored(client, session, rest, suback)

    session.intake.hold(_WAITING_BYTES * len(asked))
    take_exclusive(client, [each.request.filter for each in asked], taken)


def on_unsubscribe(client: Client, packet: Packet) -> None:
    """Ends subscriptions; UNSUBACK when no node will add to them any more [MQTT-3.10.4-4]."""
    assert isinstance(packet, Unsubscribe)
    session = client.session
    assert session is not None
    if session.queued is None:
        _unsubscribe_direct(client, packet)
    else:
        _unsubscribe_stored(client, session, packet)


def revoke(client: Client, filters: Sequence[str]) -> None:
    """Ends subscriptions that the client may not have any more; it is told nothing."""
    if client.session is not None and not client.is_closed:
        on_unsubscribe(client, Unsubscribe(0, list(filters), None))


def _revision(client: Client) -> int:
    return client.rights.revision if client.rights is not None else 0


def _review_if_revised(client: Client, asked: Sequence[_Asked]) -> None:
    """The rules have changed while the subscriptions were made: others have been looked at meanwhile."""
    if any(each.revision != _revision(client) for each in asked):
        review_on_connect(client)


def review_on_connect(client: Client) -> None:
    """A session may have subscriptions that its client may not have any more."""
    if client.rights is not None and client.subscriber is not None:
        client.hub.spawn(review(client, revoke))


# Direct sessions


def _subscribe_direct(client: Client, asked: Sequence[_Asked], suback: Suback) -> None:
    hub = client.hub
    subscriber = client.subscriber
    assert client.session is not None
    if subscriber is None:
        subscriber = Subscriber(client.client_id, client.session.bucket, True)
        subscriber.session = client.session
        client.subscriber = subscriber
    intake = client.session.intake
    intake.hold(_WAITING_BYTES * len(asked))

    def complete(failure: Exception | None) -> None:
        intake.release(_WAITING_BYTES * len(asked))
        if failure is not None:
            _refuse_all(client, suback, failure)
        elif not client.is_closed:
            replays = [_add_direct(client, subscriber, each) for each in asked]
            if not _answer(client, asked, suback):
                return
            start_replays(client, [replay for replay in replays if replay is not None])
            _join_groups(client, asked)
            _review_if_revised(client, asked)
            hub.after_input()

    want(client, [field_of(each.request.filter, each.request.qos, True) for each in asked], complete)


def _add_direct(client: Client, subscriber: Subscriber, asked: _Asked) -> Replay | None:
    request = asked.request
    hub = client.hub
    replaced = subscriber.filters.get(request.filter)
    hub.index.add(subscriber, request.filter, asked.options, 0)
    want_only(client, request.filter, field_of(request.filter, request.qos, True))
    if not hub.settings.capabilities.retain_available or is_shared(request.filter):
        return None
    if wants_retained(request.retain_handling, replaced is not None):
        return Replay(request.filter, request.qos, asked.identifier)
    return None


def _unsubscribe_direct(client: Client, packet: Unsubscribe) -> None:
    reason_codes = []
    subscriber = client.subscriber
    for filter in packet.filters:
        held = subscriber.filters.get(filter) if subscriber is not None else None
        if held is None or subscriber is None:
            reason_codes.append(_NO_SUBSCRIPTION_EXISTED)
            continue
        reason_codes.append(0)
        client.hub.index.remove(subscriber, filter, held.stamp)
        want_only(client, filter, None)
    unsuback = Unsuback(packet.packet_id, reason_codes)
    _leave_unsubscribed(client, packet.filters, unsuback)


# Persistent sessions


def _subscribe_stored(client: Client, session: Session, asked: Sequence[_Asked], suback: Suback) -> None:
    hub = client.hub
    changes = hub.primary_changes
    filters = [(each.request.filter, each.options, _replay_of(client, each.request)) for each in asked]

    def stored(reply: Reply) -> None:
        session.intake.release(_WAITING_BYTES * len(asked))
        if isinstance(reply, Exception):
            logger.error("SUBSCRIBE not stored: %s", reply, extra={"client_id": client.client_id})
            _refuse_all(client, suback, reply)
            return
        answer = subscriptions.parse_subscribe(reply)
        if answer is None:
            client.taken_over()
            return
        replays = [
            Replay(each.request.filter, each.request.qos, each.identifier)
            for each, outcome in zip(asked, answer.filters, strict=True)
            if outcome.replay_started
        ]
        rows = [(client.client_id, each.request.filter, each.options, answer.stamp) for each in asked]
        heard = session.outbound.listen() if replays else set()
        done = join(2, lambda: complete(replays, heard))
        want(
            client,
            fields,
            lambda failure: done(None) if failure is None else _close_unstored(client, failure),
        )
        _write_rows(client, rows, [], lambda: done(None))

    def complete(replays: list[Replay], heard: set[str]) -> None:
        if client.is_closed:
            return
        if changes != hub.primary_changes:  # which may have one half of it, or nothing
            session.outbound.stop_listening(heard)
            _subscribe_stored(client, session, asked, suback)
            return
        _bind(client, session)
        for each, field in zip(asked, fields, strict=True):
            want_only(client, each.request.filter, field)
        if not _answer(client, asked, suback):
            return
        start_replays(client, replays, heard)
        _join_groups(client, asked)
        _review_if_revised(client, asked)

    fields = [field_of(each.request.filter, each.request.qos, False) for each in asked]
    session.intake.hold(_WAITING_BYTES * len(asked))
    hub.committer.request(subscriptions.subscribe(client.client_id, session.epoch, filters), stored)


def _unsubscribe_stored(
    client: Client, session: Session, packet: Unsubscribe, existed_before: Sequence[bool] = ()
) -> None:
    hub = client.hub
    changes = hub.primary_changes

    def removed(reply: Reply) -> None:
        session.intake.release(_WAITING_BYTES * len(packet.filters))
        if isinstance(reply, Exception):
            logger.error("UNSUBSCRIBE not stored: %s", reply, extra={"client_id": client.client_id})
            client.close(ReasonCode.UNSPECIFIED_ERROR, "the session store refused the change")
            return
        answer = subscriptions.parse_unsubscribe(reply)
        if answer is None:
            client.taken_over()
            return
        existed = [a or b for a, b in zip_longest(answer.existed, existed_before, fillvalue=False)]
        reason_codes = [0 if each else _NO_SUBSCRIPTION_EXISTED for each in existed]
        rows = [(client.client_id, filter, answer.stamp) for filter in packet.filters]
        unsuback = Unsuback(packet.packet_id, reason_codes)
        _write_rows(client, [], rows, lambda: complete(unsuback, existed))

    def complete(unsuback: Unsuback, existed: Sequence[bool]) -> None:
        if changes != hub.primary_changes and not client.is_closed:  # as above
            _unsubscribe_stored(client, session, packet, existed)
            return
        for filter in packet.filters:
            want_only(client, filter, None)
        _leave_unsubscribed(client, packet.filters, unsuback)

    request = subscriptions.unsubscribe(client.client_id, session.epoch, list(packet.filters))
    session.intake.hold(_WAITING_BYTES * len(packet.filters))
    hub.committer.request(request, removed, frees_memory=True)


def _leave_unsubscribed(client: Client, filters: Sequence[str], unsuback: Unsuback) -> None:
    """Answers when groups give the client nothing more, and others may have what was exclusive."""
    done = join(2, lambda: _finish(client, filters, unsuback))
    leave_unsubscribed(client, filters, lambda: done(None))
    free_exclusive(client.hub, client.client_id, client.epoch, filters, lambda: done(None))


def _finish(client: Client, filters: Sequence[str], unsuback: Unsuback) -> None:
    if not client.is_closed:
        tell_unsubscribed(client, filters)
        if unsuback.packet_id:
            client.answer(unsuback)
        client.hub.after_input()


def _write_rows(
    client: Client,
    adds: list[tuple[str, str, bytes, int]],
    deletes: list[tuple[str, str, int]],
    then: Callable[[], None],
) -> None:
    """Writes rows for all nodes, follows the log up to there, then goes on."""
    committer = client.hub.committer

    def written(reply: Reply) -> None:
        if isinstance(reply, Exception):
            _close_unstored(client, reply)
        else:
            committer.after_log(followed)

    def followed() -> None:
        review_rows(client.hub, client.client_id, adds)
        then()

    committer.request(subscriptions.rows(adds, deletes), written, frees_memory=not adds)


def _bind(client: Client, session: Session) -> None:
    """Ties the subscriber, which the log has just made known to the index, to the session connected here."""
    known = client.hub.index.known(client.client_id)
    if known is not None:
        known.session = session
        client.subscriber = known


def _join_groups(client: Client, asked: Sequence[_Asked]) -> None:
    for each in asked:
        if is_shared(each.request.filter):
            join_group(client, each.request.filter, records.unpack_options(each.options))


def _replay_of(client: Client, request: SubscriptionRequest) -> int:
    """A shared subscription gets no retained messages [MQTT 5: 4.8.2]."""
    if not client.hub.settings.capabilities.retain_available or is_shared(request.filter):
        return NO_REPLAY
    return _REPLAY_OF_RETAIN_HANDLING[request.retain_handling]


def _answer(client: Client, asked: Sequence[_Asked], suback: Suback) -> bool:
    """False if the client accepts no packet of that size."""
    tell_subscribed(client, [each.request for each in asked], len(suback.reason_codes) - len(asked))
    if suback.packet_id:
        return client.answer(suback)
    if max(suback.reason_codes) >= ReasonCode.UNSPECIFIED_ERROR:
        extra = {"client_id": client.client_id, "reason_codes": suback.reason_codes}
        logger.warning("not all subscriptions could be made that each client has", extra=extra)
    return True


def _refuse_all(client: Client, suback: Suback, error: Exception) -> None:
    if client.is_closed:
        return
    code = ReasonCode.QUOTA_EXCEEDED if isinstance(error, RedisFull) else ReasonCode.UNSPECIFIED_ERROR
    codes: list[int] = [code if granted < 0x80 else granted for granted in suback.reason_codes]
    properties = Properties(reason_string="the session store did not take the subscription")
    _answer(client, [], Suback(suback.packet_id, codes, properties))
    client.hub.after_input()


def _close_unstored(client: Client, error: Exception) -> None:
    """The session has the change, the rows don't: the next claim repairs that. No SUBACK was sent."""
    logger.error("rows not written: %s", error, extra={"client_id": client.client_id})
    client.close(ReasonCode.UNSPECIFIED_ERROR, "the session store refused the change")


def _nothing() -> None:
    """Nobody waits for what the client has not got."""
