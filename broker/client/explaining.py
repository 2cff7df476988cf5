"""Answers what only this node knows of a client: for `broker.admin.explain`, on whatever node that runs."""

import time
from collections.abc import Callable
from itertools import islice
from typing import Final

import anyio.lowlevel
import orjson

from broker.auth.ban import Ban
from broker.client.client import Client
from broker.client.facts import BanFacts, ConnectionFacts, FlowFacts, NodeFacts, SubscriptionFacts
from broker.client.hub import Hub
from broker.client.standing import Standing, Stands
from broker.session import Session
from cluster.questions import QuestionRefused

QUESTION: Final = "explain"
SUBSCRIPTIONS: Final = 100
_GROUPS: Final = 100
_CLIENTS_AT_A_TIME: Final = 1000
_AWAITED: Final = {1: "PUBACK", 2: "PUBREC", 3: "PUBREC"}
"""By the state of an exchange in flight: of the last one PUBREC has come, and is being stored."""
_KEEP_ALIVE_FACTOR: Final = 1.5


class Explaining:
    """Of one node. `away_since`: since when Redis does not answer, monotonic seconds."""

    def __init__(self, hub: Hub, standing: Standing, away_since: Callable[[], float | None]) -> None:
        self._hub = hub
        self._standing = standing
        self._away_since = away_since

    async def answer(self, argument: bytes) -> NodeFacts:
        """`{"client_id": ..., "username": ..., "address": ...}`: the last two if they are known from
        elsewhere. Raises QuestionRefused."""
        asked = orjson.loads(argument)
        client_id = asked.get("client_id") if isinstance(asked, dict) else None
        if not isinstance(client_id, str):
            raise QuestionRefused("client_id is missing")
        client = self._hub.clients.get(client_id) or await self._on_its_way(client_id)
        return self._facts(
            client_id, client, str(asked.get("username") or ""), str(asked.get("address") or "")
        )

    async def _on_its_way(self, client_id: str) -> Client | None:
        """One whose CONNECT has not been answered."""
        for number, client in enumerate(list(self._hub.connections), 1):
            if client.client_id == client_id and not client.is_closed:
                return client
            if number % _CLIENTS_AT_A_TIME == 0:
                await anyio.lowlevel.checkpoint()
        return None

    def _facts(self, client_id: str, client: Client | None, username: str, address: str) -> NodeFacts:
        hub = self._hub
        now = time.monotonic()
        if client is not None:
            username, address = client.username, client.address
        away_since = self._away_since()
        return NodeFacts(
            connection=self._connection(client, now) if client is not None else None,
            redis_away_seconds=now - away_since if away_since is not None else None,
            is_in_doubt=hub.pulse.in_doubt,
            takeovers=hub.fights.count(client_id, now),
            takeovers_limit=hub.fights.limit,
            ban=self._ban(client_id, username, address),
            queue_limit=hub.settings.queue_limit,
            queue_bytes=hub.settings.queue_bytes,
            drops_oldest=hub.settings.drop_oldest,
            now_ms=hub.clock.now_ms,
        )

    def _ban(self, client_id: str, username: str, address: str) -> BanFacts | None:
        bans, now_ms = self._hub.banning.bans, self._hub.clock.now_ms
        found: Ban | None = (
            bans.find_client(client_id, address, now_ms)
            or bans.find_user(username or None, now_ms)
            or bans.find_address(address, now_ms)
        )
        if found is None:
            return None
        return BanFacts(f"{found.target.kind} {found.target.value}", found.reason, found.by, found.until_ms)

    def _connection(self, client: Client, now: float) -> ConnectionFacts:
        session = client.session
        stands = self._standing.find(client)
        intake = client.intake
        throttle = client.throttle
        filters = self._direct_filters(client)
        return ConnectionFacts(
            peer=client.peer,
            address=client.address,
            username=client.username,
            listener=client.entrance.name,
            is_accepted=session is not None,
            connected_seconds=now - client.connected_at if session is not None else 0.0,
            silent_seconds=now - client.last_activity,
            protocol=client.connection.version,
            keep_alive_seconds=client.connection.keep_alive_timeout / _KEEP_ALIVE_FACTOR,
            is_persistent=session is not None and session.queued is not None,
            epoch=client.epoch,
            flow=_flow(session, stands, now) if session is not None else None,
            reading_paused=_reasons(client),
            paused_seconds=now - stands.paused_since if stands is not None and stands.paused_since else None,
            limit=_setting(throttle.limit) if throttle is not None and throttle.must_wait else "",
            unanswered=intake.unanswered if intake is not None else 0,
            unanswered_bytes=intake.bytes if intake is not None else 0,
            blocked_seconds=now - (client.blocked_since or now) if client.outbox.blocked else None,
            unsent_bytes=_unsent_bytes(client),
            subscription_count=self._subscription_count(client),
            subscriptions=filters,
            groups=list(islice(client.memberships, _GROUPS)),
        )

    def _subscription_count(self, client: Client) -> int:
        if client.subscriber is None:
            return 0
        return self._hub.index.subscriptions_of(client.subscriber)

    def _direct_filters(self, client: Client) -> list[SubscriptionFacts]:
        subscriber = client.subscriber
        if subscriber is None or not subscriber.is_direct:
            return []
        return [
            SubscriptionFacts(filter, subscription.qos)
            for filter, subscription in islice(subscriber.filters.items(), SUBSCRIPTIONS)
        ]


def _flow(session: Session, stands: Stands | None, now: float) -> FlowFacts:
    outbound = session.outbound
    queued, direct = session.queued, session.direct
    awaited, since = _oldest(session, stands)
    return FlowFacts(
        window=outbound.window,
        free=outbound.quota,
        in_flight=len(outbound.inflight),
        releasing=len(outbound.released),
        oldest_seconds=now - since if since else None,
        awaited=awaited,
        is_behind=queued is not None and queued.behind,
        waits_for_packet_id=queued.waits_for_packet_id if queued is not None else 0,
        waiting=direct.waiting if direct is not None else 0,
        waiting_bytes=direct.backlog_bytes if direct is not None else 0,
        waiting_limit=direct.backlog_limit if direct is not None else 0,
        shared_waiting=len(outbound.shared.waiting) if outbound.shared is not None else 0,
        last_sent=queued.last_sent if queued is not None else 0,
    )


def _oldest(session: Session, stands: Stands | None) -> tuple[str, float]:
    """What has stood for the longest: what is awaited of the client, and since when."""
    outbound = session.outbound
    found: list[tuple[float, str]] = []
    if outbound.inflight:
        first = next(iter(outbound.inflight.values()))
        if stands is not None and stands.oldest == first >> 2:
            found.append((stands.oldest_since, _AWAITED.get(first & 3, "")))
    if outbound.released:
        number = next(iter(outbound.released.values()))
        if stands is not None and stands.releasing == number and number:
            found.append((stands.releasing_since, "PUBCOMP"))
    if not found:
        return "", 0.0
    since, awaited = min(found)
    return awaited, since


def _reasons(client: Client) -> list[str]:
    """Why nothing is read from it; the names are those of `verdict`."""
    if client.is_reading:
        return []
    intake, throttle = client.intake, client.throttle
    reasons = {
        "node_in_doubt": client.hub.pulse.in_doubt,
        "memory": client.is_held_back,
        "rate": throttle is not None and throttle.must_wait,
        "not_stored": intake is not None and intake.must_hold(),
        "does_not_read": client.outbox.is_full(),
        "authorization": client.is_asking,
    }
    return [name for name, is_so in reasons.items() if is_so]


def _setting(name: str) -> str:
    """A listener's says so; else it is one of `limits`."""
    return name if "." in name else f"limits.{name}"


def _unsent_bytes(client: Client) -> int:
    buffered = client.transport.get_write_buffer_size() if client.transport is not None else 0
    return buffered + client.outbox.size_bytes
