"""The group commit: whatever this moment has to store or to ask goes to Redis as one exchange, the next one
gathers while that is under way.

One task runs `Committer.run`. A cycle is: collect (sessions that changed, requests of connections, the
router's batch), write what can leave without waiting, exchange, hand every reply to whoever waits for it,
acknowledge. While Redis is away the exchange simply takes longer: everything behind it is held, nothing is
acknowledged.

The calls of one cycle are sent in this order: what sessions have to write, what connections asked for, the
router's batch. So a session's last writes come before its detach, and an enqueue follows the claim of the
same moment.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import anyio

from broker.routing.index import SubscriptionIndex
from broker.routing.router import Router
from broker.routing.rows import apply_changes, load_index
from broker.routing.writes import SessionWrites
from broker.session import Drops, Intake, Outbox, Session, flush_all
from cluster.store import letters, receive, subscriptions
from cluster.store.errors import ItemError, RedisFull
from cluster.store.lane import Call, Reply, Request
from cluster.store.store import Store

_REQUESTS_PER_CALL: Final = 64
_FULL_PAUSE_SECONDS: Final = 0.1

logger = logging.getLogger(__name__)

ReplyHandler = Callable[[Reply], None]


class Committer:
    """Owns the lane to Redis. The handlers of replies must not wait. `observe` is told of each exchange how
    many seconds it took and how many requests it carried."""

    def __init__(
        self,
        store: Store,
        router: Router,
        writes: SessionWrites,
        index: SubscriptionIndex,
        drops: Drops,
        ready: list[Outbox],
        resumable: list[Intake],
        on_stale: Callable[[Session], None],
        on_overrun: Callable[[Session], None],
        on_failed: Callable[[Session, str], None],
        observe: Callable[[float, int], None],
    ) -> None:
        self._lane = store.lane
        self._store = store
        self._router = router
        self._writes = writes
        self._index = index
        self._drops = drops
        self._ready = ready
        self._resumable = resumable
        self._on_stale = on_stale
        self._on_overrun = on_overrun
        self._on_failed = on_failed
        self._observe = observe
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._calls: list[Call] = []
        self._handlers: list[list[ReplyHandler]] = []
        self._after_log: list[Callable[[], None]] = []
        self.is_full = False
        self.refusals = 0

    def wake(self) -> None:
        """There may be something to do."""
        self._idle.clear()
        self._wake.set()

    def request(self, request: Request, handler: ReplyHandler, *, frees_memory: bool = False) -> None:
        """Sends a request with the next exchange; `handler` gets the reply, an ItemError, or RedisFull.

        `frees_memory` is for what must go through even if Redis is full.
        """
        function = "free" if frees_memory else "write"
        calls = self._calls
        if not calls or calls[-1].function != function or len(calls[-1].requests) >= _REQUESTS_PER_CALL:
            calls.append(Call(function))
            self._handlers.append([])
        calls[-1].requests.append(request)
        self._handlers[-1].append(handler)
        self.wake()

    async def ask(self, request: Request, *, frees_memory: bool = False) -> Reply:
        """Like `request`, for a task that waits for the reply. Raises ItemError and RedisFull."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answer(reply: Reply) -> None:
            if future.done():
                return
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

        self.request(request, answer, frees_memory=frees_memory)
        return await future

    def after_log(self, action: Callable[[], None]) -> None:
        """Runs `action` once the index has followed the change log up to now; for use in a reply's
        handler."""
        self._after_log.append(action)

    async def until_idle(self) -> None:
        """Waits until everything that was asked for is stored and acknowledged."""
        await self._idle.wait()

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            if not self._has_work():
                if not self._wake.is_set():  # otherwise a drop, say, may still wait for its dead letter
                    self._idle.set()
                await self._wake.wait()
            if self._calls and not (self._writes.changed or self._router.has_work()):
                # Connects and disconnects come in crowds: another look at the network gathers more of them.
                await asyncio.sleep(0)
            self._wake.clear()
            await self._cycle()

    def _has_work(self) -> bool:
        return bool(self._calls or self._writes.changed or self._router.has_work() or self._after_log)

    async def _cycle(self) -> None:
        self._write_letters()
        session_calls = self._writes.next_calls()
        asked_calls, handlers = self._calls, self._handlers
        self._calls, self._handlers = [], []
        has_batch = self._router.has_work()
        router_calls = self._router.next_calls()
        flush_all(self._ready)
        calls = session_calls + asked_calls + router_calls
        if not (calls or has_batch or self._after_log):
            return
        started = time.monotonic()
        exchange = await self._lane.exchange(calls, read_version=has_batch)
        self._observe(time.monotonic() - started, sum(len(call.requests) for call in calls))
        replies = exchange.replies
        first_asked = len(session_calls)
        first_routed = first_asked + len(asked_calls)
        has_room = self._writes.take_replies(replies[:first_asked])
        self._hand_out(handlers, replies[first_asked:first_routed])
        has_room = self._router.take_replies(router_calls, replies[first_routed:]) and has_room
        if self._after_log or (exchange.version is not None and exchange.version != self._index.version):
            await self._follow_log()
        if has_batch:
            if exchange.version is not None and self._router.is_outdated(exchange.version):
                self._router.match_again()
            self._delete_stale_rows()
            if self._router.is_settled():
                self._router.settle()
                self._settle_tokens()
        self._tell_connections()
        flush_all(self._ready)
        await self._note_room(has_room)

    def _hand_out(
        self, handlers: Sequence[Sequence[ReplyHandler]], replies: Sequence[Sequence[Reply] | Exception]
    ) -> None:
        for handlers_of_call, answer in zip(handlers, replies, strict=True):
            if isinstance(answer, Exception) and not isinstance(answer, RedisFull):
                raise answer
            given = [answer] * len(handlers_of_call) if isinstance(answer, RedisFull) else answer
            for handler, reply in zip(handlers_of_call, given, strict=True):
                try:
                    handler(reply)
                except (
                    Exception
                ):  # the top of one connection's continuation: our bug must not harm the others
                    logger.exception("the answer of the store could not be handled")

    async def _follow_log(self) -> None:
        more = True
        while more:
            more = await self._read_log()
        actions, self._after_log = self._after_log, []
        for action in actions:
            try:
                action()
            except Exception:  # as above: what follows a reply is a connection's continuation too
                logger.exception("what was to follow the log of subscriptions failed")

    async def _read_log(self) -> bool:
        """Applies changes that others, and we ourselves, have logged; whether there are more."""
        request = subscriptions.log_since(self._index.version)
        exchange = await self._lane.exchange([Call("free", [request])])
        answer = exchange.replies[0]
        if isinstance(answer, Exception):
            raise answer
        reply = answer[0]
        if isinstance(reply, ItemError):
            raise reply
        log = subscriptions.parse_log(reply)
        if log is None:  # fell behind the capped log, or another term
            logger.warning("the log of subscriptions does not reach back to ours: loading all of them")
            await load_index(self._index, self._store)
            return True
        apply_changes(self._index, log.changes, log.version)
        return log.more

    def _write_letters(self) -> None:
        for drop in self._drops.take_letters():
            request = letters.letter(drop.client_id, drop.topic, drop.reason)
            self.request(request, _ignore_reply, frees_memory=True)

    def _delete_stale_rows(self) -> None:
        rows = self._router.stale_rows
        if rows:
            deletes = [(row.subscriber.client_id, row.filter, row.stamp) for row in rows]
            rows.clear()
            self.request(subscriptions.rows([], deletes), _ignore_reply, frees_memory=True)

    def _settle_tokens(self) -> None:
        if not self._router.spent:
            return
        tokens: dict[int, list[bytes]] = {}
        for bucket, token in self._router.spent:
            tokens.setdefault(bucket, []).append(token)
        self._router.spent.clear()
        for bucket, spent in tokens.items():
            self.request(receive.settle_tokens(bucket, spent), _ignore_reply, frees_memory=True)

    def _tell_connections(self) -> None:
        if self._writes.stale:
            stale, self._writes.stale = self._writes.stale, []
            for session in stale:
                self._on_stale(session)
        if self._writes.failed:
            failed, self._writes.failed = self._writes.failed, []
            for session, reason in failed:
                self._on_failed(session, reason)
        if self._router.damaged:
            damaged, self._router.damaged = self._router.damaged, []
            for name, reason in damaged:
                logger.error("keys in Redis are damaged", extra={"owner_of_keys": name, "reason": reason})
        if self._writes.overrun:
            overrun, self._writes.overrun = self._writes.overrun, []
            for session in overrun:
                self._on_overrun(session)
        if self._resumable:
            resumable = self._resumable[:]
            self._resumable.clear()
            for intake in resumable:
                intake.source.resume_reading()

    async def _note_room(self, has_room: bool) -> None:
        if has_room:
            if self.is_full:
                logger.warning("Redis takes writes again")
                self.is_full = False
            return
        self.refusals += 1
        if not self.is_full:
            logger.error("Redis is full (maxmemory): messages are held until it has room")
            self.is_full = True
        await anyio.sleep(_FULL_PAUSE_SECONDS)  # back-off; acknowledgements that free memory gather meanwhile


def _ignore_reply(reply: Reply) -> None:
    if isinstance(reply, Exception):
        logger.error("request failed: %s", reply)
