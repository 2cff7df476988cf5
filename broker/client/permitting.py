"""May the client do that? Asked for PUBLISH and SUBSCRIBE, and for what a session brings along.

What the rules decide is known at once. Where a plug-in has to be asked, or rules about many filters, the
client is paused: what it has sent after that waits, so its order stays as it is.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
import anyio.lowlevel

from broker.auth import Access, Action, Identity, Rights
from broker.client.client import Client
from broker.client.hub import Hub
from broker.client.noting import note_sent_away
from broker.client.publishing import DELAYED_PREFIX
from broker.mqtt import (
    InvalidTopicFilter,
    Publish,
    ReasonCode,
    SubscriptionRequest,
    parse_filter,
    without_exclusive,
)
from broker.observability.logs import get_logger
from broker.session import WillMessage

_FILTERS_AT_ONCE: Final = 4
_TURN_SECONDS: Final = 0.002

logger = get_logger(__name__)


class _Turn:
    """Of a task that judges much: a filter may take a millisecond, and others want their turn."""

    def __init__(self) -> None:
        self._until = time.monotonic() + _TURN_SECONDS

    async def give_way(self) -> None:
        """If it has gone on for long enough."""
        if time.monotonic() >= self._until:
            await anyio.lowlevel.checkpoint()
            self._until = time.monotonic() + _TURN_SECONDS


def may_still_publish(hub: Hub, rights: Rights, will: WillMessage) -> bool:
    """Whether a will may be published now that it is due. Plug-ins were asked at CONNECT, and are not asked
    again."""
    rights.forget()
    access = rights.access(Action.PUBLISH, will.topic, will.qos, will.retain)
    if rights.decide_now(access) is not False:
        return True
    if hub.guard is not None:
        hub.guard.note_denied("will", [access])
    return False


def ask_to_publish(client: Client, packet: Publish, then: Callable[[bool], None]) -> None:
    """Calls `then`, at once or later, with whether the client may publish this."""
    rights = client.rights
    if rights is None or not rights.governs_publishing:
        then(True)
        return
    topic = packet.topic
    if topic.startswith(DELAYED_PREFIX):
        topic = topic.split("/", 2)[-1]  # where it goes in the end
    access = rights.access(Action.PUBLISH, topic, packet.qos, packet.retain)

    def decided(decisions: Sequence[bool]) -> None:
        if not decisions[0]:
            _note_denied(client, "publish", [access])
        then(decisions[0])

    _ask(client, [access], decided)


def ask_to_subscribe(
    client: Client, requests: Sequence[SubscriptionRequest], then: Callable[[set[str]], None]
) -> None:
    """Calls `then`, at once or later, with the filters that the client may not have. One that is no filter is
    not looked at."""
    rights = client.rights
    if rights is None:
        then(set())
        return
    accesses: dict[str, Access] = {}
    for request in requests:
        filter = _matched(request.filter)
        if filter is not None:
            accesses[request.filter] = rights.access(Action.SUBSCRIBE, filter, request.qos, False)

    def decided(decisions: Sequence[bool]) -> None:
        denied = _denied(accesses, decisions)
        if denied:
            _note_denied(client, "subscribe", [accesses[filter] for filter in denied])
        then(set(denied))

    _ask(client, list(accesses.values()), decided)


@dataclass(slots=True)
class Review:
    """What has come of looking at subscriptions again. `unsure`: those that a client keeps, as whoever was
    asked about them did not answer."""

    clients: int = 0
    revoked: int = 0
    unsure: int = 0


async def review_all(
    hub: Hub, revoke: Callable[[Client, Sequence[str]], None], seen: Review | None = None
) -> None:
    """What clients may do has changed: looks at all subscriptions of all clients, with pauses for what else
    there is to do. `revoke` takes away those which a client may not have any more; `seen` is added to."""
    for client in hub.connections:
        if client.rights is not None:
            client.rights.forget()
    turn = _Turn()
    for client in list(hub.clients.values()):
        if not client.is_closed:
            await review(client, revoke, turn, seen)
        await turn.give_way()
    hub.after_input()


async def review(
    client: Client,
    revoke: Callable[[Client, Sequence[str]], None],
    turn: _Turn | None = None,
    seen: Review | None = None,
) -> None:
    """Looks at the subscriptions of one client. It keeps what nobody knows an answer to: a server that is
    away must not cost a session its subscriptions. `seen` is added to."""
    rights, subscriber = client.rights, client.subscriber
    if rights is None or subscriber is None:
        return
    accesses: dict[str, Access] = {}
    index = client.hub.index
    for filter in list(subscriber.filters if subscriber.is_direct else index.stamps_of(client.client_id)):
        matched, held = _matched(filter), index.subscription(subscriber, filter)
        if matched is not None and held is not None:
            accesses[filter] = rights.access(Action.SUBSCRIBE, matched, held.qos, False)
    seen = seen or Review()
    seen.clients += 1
    judged = await _judge(rights, list(accesses.values()), turn or _Turn())
    unsure = sum(not is_sure for _, is_sure in judged)
    if unsure:
        seen.unsure += unsure
        logger.warning(
            "subscriptions kept, as nobody could say whether they may be",
            extra={"client_id": client.client_id, "subscriptions": unsure},
        )
    denied = _denied(accesses, [is_allowed or not is_sure for is_allowed, is_sure in judged])
    seen.revoked += len(denied)
    if denied:
        client.hub.when_sure(partial(_revoke, client, accesses, denied, revoke))


def _revoke(
    client: Client,
    accesses: dict[str, Access],
    denied: Sequence[str],
    revoke: Callable[[Client, Sequence[str]], None],
) -> None:
    _note_denied(client, "revoked", [accesses[filter] for filter in denied])
    revoke(client, denied)
    guard = client.hub.guard
    if guard is not None and guard.disconnects_revoked:
        client.close(ReasonCode.NOT_AUTHORIZED, "a subscription is not allowed any more")


def disconnect_users(hub: Hub, usernames: Collection[str], sources: Collection[str]) -> None:
    """Those that got in by something that does not hold any more."""
    disconnect_those(hub, lambda who: who.source in sources and who.username in usernames)


def disconnect_those(hub: Hub, are_out: Callable[[Identity], bool]) -> None:
    """The same, by who they are. While the node is in doubt behind those that were found out before, and are
    held."""

    def disconnect() -> None:
        for client in list(hub.connections):
            if client.rights is not None and are_out(client.rights.identity):
                note_sent_away(client, "credentials")
                client.close(ReasonCode.NOT_AUTHORIZED, "what the client came in by is not valid any more")

    hub.when_sure(disconnect)


def _matched(filter: str) -> str | None:
    """What topics are matched with; None if it is no filter."""
    try:
        _, matched = parse_filter(filter)
    except InvalidTopicFilter:
        return None
    return without_exclusive(matched)


def _denied(accesses: dict[str, Access], decisions: Sequence[bool]) -> list[str]:
    return [filter for filter, is_allowed in zip(accesses, decisions, strict=True) if not is_allowed]


def _note_denied(client: Client, action: str, accesses: Sequence[Access]) -> None:
    guard = client.hub.guard
    assert guard is not None
    guard.note_denied(action, accesses)


def _ask(client: Client, accesses: Sequence[Access], then: Callable[[Sequence[bool]], None]) -> None:
    rights = client.rights
    assert rights is not None
    if len(accesses) <= _FILTERS_AT_ONCE:
        decisions = [rights.decide_now(access) for access in accesses]
        known = [decision for decision in decisions if decision is not None]
        if len(known) == len(decisions):
            then(known)
            return

    async def ask() -> None:
        judged = await _judge(rights, accesses, _Turn())
        decided = [is_allowed for is_allowed, _ in judged]
        client.hub.when_sure(lambda: client.go_on(lambda: then(decided)))

    client.pause()
    client.hub.spawn(ask())


async def _judge(rights: Rights, accesses: Sequence[Access], turn: _Turn) -> list[tuple[bool, bool]]:
    """Whether each is allowed, and whether that is sure. All by the same rules: if these change meanwhile,
    all over again."""
    judged: list[tuple[bool, bool]] = []
    revision = -1
    while revision != rights.revision:
        revision = rights.revision
        judged = []
        for access in accesses:
            decision = rights.decide_now(access)
            judged.append(await rights.judge(access) if decision is None else (decision, True))
            await turn.give_way()
    return judged
