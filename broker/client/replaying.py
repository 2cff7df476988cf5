"""Retained messages for a new subscription, in pages as the client takes them.

For a direct session they are read and sent. For a persistent one each page is put into its queue by the same
call that moves the replay's cursor, a field of the session: so a replay that a fail-over cuts goes on where
it was, and nothing comes twice. A task exists only while a replay is going on. However many there are, few
pages are read at a time, in turn: what they take of Redis and of this node, messages have to wait for.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from broker.client.client import Client
from broker.mqtt import without_exclusive
from broker.observability.logs import get_logger
from broker.session import Delivery, Message, Outbound
from cluster.store import records, retained
from cluster.store.entry import pack_body, pack_head
from cluster.store.errors import StoreError

_PAGE: Final = 100
_BUDGET: Final = 250  # index entries looked at per call: about a millisecond of Redis
_LOOK_SECONDS: Final = 1.0

logger = get_logger(__name__)


@dataclass(slots=True, eq=False)
class Replay:
    """A subscription whose retained messages are to be sent, and how far that has come (`cursor`)."""

    filter: str
    qos: int
    subscription_identifier: int
    cursor: str = ""


def start_replays(client: Client, replays: Sequence[Replay], heard: set[str] | None = None) -> None:
    """Sends retained messages for new subscriptions; to be called after SUBACK has been queued. `heard`: the
    topics of those that have come live since the session has these subscriptions, if that is not now."""
    if replays and client.session is not None:
        if heard is None:
            heard = client.session.outbound.listen()
        if client.session.queued is not None:
            client.hub.replays.setdefault(client, []).extend(replays)
        client.hub.spawn(_run(client, client.session.outbound, replays, heard))


def resume_replays(client: Client, cursors: Sequence[tuple[str, str]]) -> None:
    """Goes on with the replays that an earlier connection of this session began."""
    subscriber = client.subscriber
    if subscriber is None:
        return
    replays = []
    for filter, cursor in cursors:
        held = client.hub.index.subscription(subscriber, filter)
        if held is not None:
            identifier = held.subscription_identifiers[0] if held.subscription_identifiers else 0
            replays.append(Replay(filter, held.qos, identifier, cursor))
    start_replays(client, replays)


async def _run(client: Client, outbound: Outbound, replays: Sequence[Replay], heard: set[str]) -> None:
    try:
        for replay in replays:
            await _replay(client, replay, heard)
    except StoreError as error:
        logger.error("retained messages not sent: %s", error, extra={"client_id": client.client_id})
    finally:
        outbound.stop_listening(heard)
        for replay in replays:
            _end(client, replay)


def _end(client: Client, replay: Replay) -> None:
    running = client.hub.replays.get(client, [])
    if replay in running:
        running.remove(replay)
        if not running:
            del client.hub.replays[client]


def running_replays(client: Client) -> list[tuple[str, str]]:
    """Filters of a persistent session whose retained messages are being queued, and from where it goes on."""
    return [(replay.filter, replay.cursor) for replay in client.hub.replays.get(client, ())]


async def _replay(client: Client, replay: Replay, heard: set[str]) -> None:
    matched = without_exclusive(replay.filter)
    buckets = retained.retained_buckets(matched)
    first, cursor = _parse_cursor(replay.cursor)
    for position, bucket in enumerate(buckets):
        if bucket < first:
            continue
        if bucket > first:
            cursor = None
        while True:
            room = await _until_room(client)
            if client.is_closed:
                return
            before = _last_queued(client)
            page = await _read_page(client, bucket, matched, cursor, room)
            is_last = page.cursor is None and position == len(buckets) - 1
            if is_last:
                following = None
            elif page.cursor is None:
                following = f"{buckets[position + 1]}:"
            else:
                following = f"{bucket}:{page.cursor}"
            goes_on = await _deliver(client, replay, heard, page.items, before, following, is_last)
            client.hub.after_input()
            if not goes_on:
                return
            if page.cursor is None:
                break
            cursor = page.cursor


async def _read_page(
    client: Client, bucket: int, filter: str, cursor: str | None, room: int
) -> retained.Page:
    request = retained.retained_page(bucket, filter, cursor, min(room, _PAGE), _BUDGET)
    async with client.hub.pages:
        return retained.parse_page(await client.hub.committer.ask(request))


async def _until_room(client: Client) -> int:
    """Waits until the client can take something; how many messages."""
    while not client.is_closed:
        assert client.session is not None
        outbound = client.session.outbound
        waiting = client.session.direct.waiting if client.session.direct is not None else 0
        is_owed = client.session.promises is not None
        if is_owed and client.session.queued is not None:
            waiting += client.session.queued.has_unsent()
        if outbound.quota > 0 and not waiting and not client.outbox.blocked:
            return outbound.quota
        room = client.room or asyncio.Event()
        client.room = room
        # Nobody is woken if the last of a page that had to be confirmed has expired.
        with anyio.move_on_after(_LOOK_SECONDS if is_owed else None):
            await room.wait()
        if client.room is room:
            client.room = None
    return 0


def _last_queued(client: Client) -> int:
    session = client.session
    return session.queued.next_n - 1 if session is not None and session.queued is not None else 0


async def _deliver(
    client: Client,
    replay: Replay,
    heard: set[str],
    items: Sequence[tuple[str, bytes]],
    before: int,
    following: str | None,
    is_last: bool,
) -> bool:
    """Hands a page to the session. False if the replay ends here."""
    session = client.session
    assert session is not None
    # Of the others, the client has a newer one already.
    deliveries = [_delivery(replay, topic, record) for topic, record in items if topic not in heard]
    if session.queued is not None:
        queued = [delivery for delivery in deliveries if delivery.qos > 0]
        if queued or following is None or not following.endswith(":"):
            appended = await _append(client, replay, queued, before, following)
            if appended is None:
                return False
            for delivery in appended:
                if delivery.qos == 2:
                    session.queued.hold(delivery.message.topic)
                session.queued.take(delivery)
    if client.is_closed:
        return False
    for delivery in deliveries:
        if delivery.message.topic in heard:  # while we asked
            continue
        if delivery.qos == 0:
            session.outbound.deliver_at_most_once(delivery.message, True, delivery.subscription_identifiers)
        elif session.direct is not None:
            session.direct.deliver(delivery.message, delivery.qos, True, delivery.subscription_identifiers)
    return not is_last


async def _append(
    client: Client, replay: Replay, deliveries: Sequence[Delivery], before: int, following: str | None
) -> list[Delivery] | None:
    """Puts a page into the session's queue and moves the cursor, in one call; None if there is nothing to go
    on with."""
    session = client.session
    assert session is not None
    entries: list[object] = []
    for delivery in deliveries:
        message = delivery.message
        entries.append(message.topic)
        entries.append(pack_head(delivery.qos, True, delivery.subscription_identifiers))
        entries.append(pack_body(message.topic, message.payload, message.properties, message.deadline_ms))
    reply = await client.hub.committer.ask(
        retained.replay(
            session.bucket, client.client_id, session.epoch, replay.filter, before, following, entries
        )
    )
    answer = retained.parse_replay(reply)
    if answer is None:  # unsubscribed meanwhile, or another owner
        return None
    if following is None:
        _end(client, replay)
    else:
        replay.cursor = following
    appended = []
    for n, index in enumerate(answer.appended, answer.n + 1):
        delivery = deliveries[index]
        delivery.gen = answer.gen
        delivery.n = n
        appended.append(delivery)
    return appended


def _delivery(replay: Replay, topic: str, record: bytes) -> Delivery:
    stored = records.unpack_retained(record)
    # RETAIN of a message says that it came live in place of the retained one.
    message = Message(topic, stored.payload, stored.qos, False, stored.properties, stored.deadline_ms)
    identifiers = (replay.subscription_identifier,) if replay.subscription_identifier else ()
    return Delivery(message, min(replay.qos, stored.qos), True, identifiers)  # 3.1.1: [MQTT-3.3.1-8]


def _parse_cursor(cursor: str) -> tuple[int, str | None]:
    bucket, _, topic = cursor.partition(":")
    return (int(bucket) if bucket else -1), (topic or None)
