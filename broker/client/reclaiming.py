"""Another primary of Redis has come, and may lack the newest writes: the sessions of all clients that are
connected here are made equal to what this node holds of them.

What it holds is right: it was stored before it was acknowledged, and only this node has written it since.
So nothing that is in flight changes its number, what the client has settled does not come again, and no QoS
2 exchange begins anew. Whom another node has claimed since, by a higher epoch, is lost.

Connections whose CONNECT is not answered yet are closed: nobody knows what there is of their claims. A
SUBSCRIBE or UNSUBSCRIBE that is under way begins anew (`subscribing`)."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from broker.client.client import Client
from broker.client.closing import drop_rows, on_failed, on_stale
from broker.client.excluding import retake_exclusive
from broker.client.hub import Hub
from broker.client.replaying import running_replays
from broker.client.sharing import rejoin_groups
from broker.client.wills import route_wills
from broker.mqtt import ReasonCode, is_exclusive, without_exclusive
from broker.observability.logs import get_logger
from broker.session import Session
from cluster.renewal import Renewed
from cluster.store import exclusive, keys, membership, reclaims, subscriptions
from cluster.store.call import Call, Request, Slot
from cluster.store.errors import ItemError, StoreError
from cluster.store.exclusive import Holder
from cluster.store.lane import Ask
from cluster.store.reclaims import KEPT, LOST, Held, Reclaimed

_SESSIONS_PER_CALL: Final = 16  # about a millisecond of Redis
_CALLS_AT_ONCE: Final = 16
_FIELDS_PER_CALL: Final = 500
_ROWS_PER_CALL: Final = 200
_UNKNOWN_VERSION: Final = "0.0"
"""Of rows that are to be loaded again, whatever Redis says."""

_T = TypeVar("_T")

logger = get_logger(__name__)


async def reclaim_all(hub: Hub, ask: Ask, slots: Sequence[Slot]) -> Renewed:
    """Says for the slots that another primary serves what the clients connected here have."""
    return await _Reclaiming(hub, ask, slots).run()


class _Reclaiming:
    """One time."""

    def __init__(self, hub: Hub, ask: Ask, slots: Sequence[Slot]) -> None:
        self._hub = hub
        self._ask_lane = ask
        self._buckets = {slot for slot in slots if isinstance(slot, int)}
        self._has_rows = keys.META_SLOT in slots
        self._renewed = Renewed()
        self._contested: list[tuple[Client, str]] = []

    async def run(self) -> Renewed:
        hub = self._hub
        hub.primary_changes += 1
        for client in list(hub.clients.values()):
            if client.session is None:
                client.close(ReasonCode.SERVER_BUSY, "another primary of the session store")
        if self._has_rows:
            await self._tell_interest()
        clients = [*hub.detaching.values(), *hub.clients.values()]
        for batch in _batches(clients, _SESSIONS_PER_CALL * _CALLS_AT_ONCE):
            await self._reclaim_batch(batch)
        for bucket in sorted(self._buckets):
            await self._give_back_orphans(bucket)
        for client in list(hub.clients.values()):
            rejoin_groups(client)
        for client, filter in self._contested:
            retake_exclusive(client, filter)
        if self._has_rows:
            hub.index.version = _UNKNOWN_VERSION
        hub.committer.follow_log()
        return self._renewed

    async def _tell_interest(self) -> None:
        hub = self._hub
        for fields in _batches(hub.interest.stored(), _FIELDS_PER_CALL):
            await self._ask([[subscriptions.interest(hub.incarnation, fields, [])]])

    async def _reclaim_batch(self, clients: Sequence[Client]) -> None:
        tokens = self._hub.router.tokens_under_way()
        waiting: list[tuple[Client, Session, Held, str | None]] = []
        rows: list[tuple[str, str, bytes, int]] = []
        exclusives: list[tuple[Client, Session, str]] = []
        for client in clients:
            session = client.session
            if session is None or client.is_taken_over:
                continue
            held = held_of(client, session, tokens.get(client.client_id, {}))
            rows += [(client.client_id, *row) for row in held.subscriptions]
            exclusives += [
                (client, session, filter) for filter in _filters_of(client, held) if is_exclusive(filter)
            ]
            if session.bucket in self._buckets:
                waiting.append((client, session, held, None))
        while waiting:
            waiting = await self._reclaim_some(waiting)
        if self._has_rows:
            await self._ask([[subscriptions.rows(some, [])] for some in _batches(rows, _ROWS_PER_CALL)])
        await self._retake_exclusive(exclusives)

    async def _retake_exclusive(self, held: Sequence[tuple[Client, Session, str]]) -> None:
        """Before anybody asks for it: what is exclusive is theirs. Where the store says that a client has it
        which is connected here, and has given it up, that is lost. Where it says so of another one, it is
        asked again when that one has been reclaimed, too."""
        wanted = [each for each in held if not each[0].is_taken_over]
        for some in _batches(wanted, _SESSIONS_PER_CALL):
            again: list[tuple[Client, Session, str]] = []
            names: list[bytes | None] = []
            for (client, session, filter), holder in await self._take_exclusive(some, [None] * len(some)):
                if isinstance(holder, Holder) and self._has_given_up(holder, filter):
                    again.append((client, session, filter))
                    names.append(holder.name)
                elif holder is not None:
                    self._contested.append((client, filter))
            for (client, _, filter), holder in await self._take_exclusive(again, names):
                if holder is not None:
                    self._contested.append((client, filter))

    async def _take_exclusive(
        self, wanted: Sequence[tuple[Client, Session, str]], beaten: Sequence[bytes | None]
    ) -> list[tuple[tuple[Client, Session, str], Holder | ItemError | None]]:
        """Who has it instead, of each."""
        takes = [
            exclusive.take(without_exclusive(filter), session.client_id, session.epoch, name)
            for (_, session, filter), name in zip(wanted, beaten, strict=True)
        ]
        replies = await self._ask([takes]) if takes else []
        return [
            (each, reply if isinstance(reply, ItemError) else exclusive.parse_take(reply))
            for each, reply in zip(wanted, replies, strict=True)
        ]

    def _has_given_up(self, holder: Holder, filter: str) -> bool:
        client = self._hub.clients.get(holder.client_id)
        if client is None or client.session is None or client.epoch < holder.epoch:
            return False
        return filter not in _filters_of(client, held_of(client, client.session, {}))

    async def _reclaim_some(
        self, waiting: Sequence[tuple[Client, Session, Held, str | None]]
    ) -> list[tuple[Client, Session, Held, str | None]]:
        """Those of which there is more to look at."""
        calls: list[list[Request]] = [[]]
        size = 0
        for _, _, held, cursor in waiting:
            if calls[-1] and size + held.size > _SESSIONS_PER_CALL:
                calls.append([])
                size = 0
            size += held.size
            calls[-1].append(reclaims.reclaim(held, cursor))
        more: list[tuple[Client, Session, Held, str | None]] = []
        for (client, session, held, cursor), reply in zip(waiting, await self._ask(calls), strict=True):
            if isinstance(reply, ItemError):
                on_failed(self._hub, session, str(reply))
                continue
            answer = reclaims.parse_reclaim(reply)
            self._take(session, held, answer, cursor is None)
            if answer.cursor is not None:
                more.append((client, session, held, answer.cursor))
        return more

    def _take(self, session: Session, held: Held, answer: Reclaimed, is_first: bool) -> None:
        renewed = self._renewed
        if answer.status == LOST:
            renewed.lost += 1
            on_stale(self._hub, session)
            return
        if is_first:
            renewed.kept += answer.status == KEPT
            renewed.made_again += answer.status != KEPT
            renewed.missing += len(held.in_flight) // 2
            renewed.differing += answer.differing
        renewed.settled += answer.settled
        renewed.missing -= answer.kept
        if session.queued is not None and answer.cursor is None:
            session.queued.reclaimed(answer.gen, answer.n)

    async def _give_back_orphans(self, bucket: int) -> None:
        """Sessions that this node owns there and has no connection of: that they were given back is lost."""
        hub = self._hub
        cursor = "0"
        while True:
            (reply,) = await self._ask([[reclaims.owned(bucket, cursor)]])
            cursor, found = reclaims.parse_owned(reply)
            orphans = [each for each in found if each not in hub.clients and each not in hub.detaching]
            for some in _batches(orphans, _SESSIONS_PER_CALL):
                replies = await self._ask([[reclaims.give_back(client_id) for client_id in some]])
                for client_id, given in zip(some, replies, strict=True):
                    self._take_given_back(client_id, given)
            if cursor == "0":
                return

    def _take_given_back(self, client_id: str, reply: object) -> None:
        if isinstance(reply, ItemError):
            logger.error("session damaged in the store", extra={"client_id": client_id, "reason": str(reply)})
            return
        rows, will = reclaims.parse_give_back(reply)
        self._renewed.given_back += 1
        drop_rows(self._hub, client_id, rows)
        if will is not None:
            route_wills(self._hub, [will], _nothing)

    async def _ask(self, calls: Sequence[Sequence[Request]]) -> list[object]:
        """The replies to the requests of all calls, and a life sign: this may take longer than the others
        wait for one."""
        if not calls:
            return []
        beat = Call("free", [membership.beat(self._hub.incarnation)])
        found: list[object] = []
        answers = await self._ask_lane([*(Call("free", list(requests)) for requests in calls), beat])
        for replies in answers[:-1]:
            if isinstance(replies, StoreError):
                raise replies
            found += replies
        return found


def held_of(client: Client, session: Session, under_way: dict[int, bytes]) -> Held:
    """What this node holds of a session. `under_way`: tokens of messages that are being routed."""
    will, will_delay_seconds = client.will or (None, 0)
    queued = session.queued
    if queued is None:
        return Held(
            session.client_id, session.epoch, True, session.version, 0, will, will_delay_seconds,
            gen=session.epoch, first_gen=session.epoch,
        )  # fmt: skip
    stamp, told = client.hub.index.told_of(session.client_id)
    return Held(
        session.client_id,
        session.epoch,
        False,
        session.version,
        client.expiry_asked_seconds,
        will,
        will_delay_seconds,
        queued.gen,
        queued.first_gen,
        queued.last_known,
        queued.next_n,
        queued.hi,
        stamp,
        told,
        queued.in_flight(),
        queued.numbers_released(),
        queued.numbers_releasing(),
        session.inbound.held(under_way),
        running_replays(client),
    )


def _filters_of(client: Client, held: Held) -> list[str]:
    if not held.is_direct:
        return [filter for filter, _, _ in held.subscriptions]
    return list(client.subscriber.filters) if client.subscriber is not None else []


def _batches(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _nothing() -> None:
    """Nobody waits for the will of a session that was given back."""
