"""The group commit: whatever this moment has to store or to ask goes to Redis as one exchange, the next one
gathers while that is under way.

One task runs `Committer.run`. A cycle is: collect (sessions that changed, requests of connections, the
router's batch), write what can leave without waiting, exchange, hand every reply to whoever waits for it,
acknowledge. While Redis is away the exchange simply takes longer: everything behind it is held, nothing is
acknowledged.

The calls of one cycle are sent in this order: what sessions have to write, what connections asked for, the
router's batch. So a session's last writes come before its detach, and an enqueue follows the claim of the
same moment.

A node that was stopped for a while (`Pulse`), or that has lost its connection to Redis, may have lost
sessions, or be dead to the others. So before it goes on it is *reassured*: its life sign is taken, it learns
which sessions others have claimed, and what was in its inbox. What those clients have published and nobody
has acknowledged is then struck from what is sent: they send it again to their new node, and an old copy would
come behind newer messages."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from broker.routing.asking import Asking, ReplyHandler, ReviseRequest
from broker.routing.following import ChangeLog
from broker.routing.index import SubscriptionIndex
from broker.routing.router import Router
from broker.routing.timing import Timing
from broker.routing.writes import SessionWrites
from broker.session import Drops, Intake, Outbox, Session, flush_all
from cluster.pulse import GAP_SECONDS, Pulse
from cluster.store import inboxes, letters, receive, subscriptions
from cluster.store.lane import Ask, Call, CallReplies, Exchange, Reply, Request
from cluster.store.reply import as_text
from cluster.store.shares import Given
from cluster.store.store import Store

_FULL_PAUSE_SECONDS: Final = 0.1
_LINGER_SECONDS: Final = 0.003
"""So long what nobody waits for may wait for an exchange that is made anyway."""
_LOOKS: Final = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the committer is tied to. Nothing of this may wait, but for `renew`, which finds out whether
    another primary has come, and says again what this node has; and `reassure`, which asks the store
    whether this node still is what it was. `observe` is told of each exchange how many seconds it took and
    how many requests it carried; `transmit` sends what the router has for other nodes' channels;
    `after_inbox` runs an action when the inbox has been read up to an entry; `go_on` follows a doubt that
    has been settled."""

    incarnation: str
    pulse: Pulse
    renew: Callable[[Ask], Awaitable[None]]
    reassure: Callable[[Ask], Awaitable[None]]
    after_inbox: Callable[[str, Callable[[], None]], None]
    go_on: Callable[[], None]
    transmit: Callable[[], None]
    on_given: Callable[[Sequence[tuple[str, Given]]], None]
    on_stale: Callable[[Session], None]
    on_overrun: Callable[[Session], None]
    on_failed: Callable[[Session, str], None]
    observe: Callable[[float, int], None]
    timing: Timing


class Committer:
    """Owns the lane to Redis. The handlers of replies must not wait."""

    def __init__(
        self,
        store: Store,
        router: Router,
        writes: SessionWrites,
        index: SubscriptionIndex,
        drops: Drops,
        ready: list[Outbox],
        resumable: list[Intake],
        around: Surroundings,
    ) -> None:
        self._lane = store.lane
        self._router = router
        self._writes = writes
        self._index = index
        self._drops = drops
        self._ready = ready
        self._resumable = resumable
        self._log = ChangeLog(index, store, around.incarnation)
        self._around = around
        self._timing = around.timing
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._asking = Asking()
        self._wants_tail = False
        self._after_tail: list[Callable[[], None]] = []
        self._after_log: list[Callable[[], None]] = []
        self._must_follow = False
        self._lingering: asyncio.TimerHandle | None = None
        self._kept = asyncio.Event()
        self.is_full = False
        self.refusals = 0

    def wake(self) -> None:
        """There may be something to do."""
        if not self._wake.is_set():  # else it isn't idle, either
            self._timing.woken()
            self._idle.clear()
            self._wake.set()

    def linger(self) -> None:
        """There is something to store that nobody waits for, as acknowledgements of what was delivered: it
        goes with the next exchange, or with one of its own, soon. With few messages that halves their
        exchanges."""
        self._idle.clear()
        if self._lingering is None:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(_LINGER_SECONDS, self._end_lingering)

    def _end_lingering(self) -> None:
        self._lingering = None
        if self._has_leftovers():
            self._writes.changed.is_urgent = True  # for tokens alone, too
            self.wake()

    def request(
        self,
        request: Request,
        handler: ReplyHandler,
        *,
        frees_memory: bool = False,
        revise: ReviseRequest | None = None,
    ) -> None:
        """Sends a request with the next exchange; `handler` gets the reply, an ItemError, or RedisFull.

        `frees_memory` is for what must go through even if Redis is full. `revise` gives what to send in place
        of a request whose outcome is unknown; without it, the same again."""
        self._asking.add(request, handler, "free" if frees_memory else "write", revise)
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

    def follow_log(self) -> None:
        """Brings the index up to date soon, though no batch asks for it."""
        self._must_follow = True
        self.wake()

    async def follow_now(self) -> None:
        """Waits until the index has followed the change log up to now."""
        has_followed = asyncio.Event()
        self.after_log(has_followed.set)
        self.wake()
        await has_followed.wait()

    def read_tail(self) -> None:
        """Asks, after all requests of this moment, how far the inbox goes; for `after_tail`."""
        self._wants_tail = True

    def after_tail(self, action: Callable[[], None]) -> None:
        """Runs `action` once everything is handled that was in the inbox when `read_tail` asked; for use in
        the handler of a reply that was asked for in the same moment."""
        self._after_tail.append(action)

    async def until_idle(self) -> None:
        """Waits until everything that was asked for is stored and acknowledged."""
        await self._idle.wait()
        settling = self._router.settling
        while settling is not None and settling.is_waiting:
            self._kept.clear()
            await self._kept.wait()
            await self._idle.wait()

    def note_kept(self) -> None:
        """Nothing that has to be confirmed is owed any more."""
        self._kept.set()

    def look_for_primary(self) -> None:
        """The one that answers may not be the primary any more: looks for it anew, soon."""
        self._lane.drop("another primary may have taken over")
        self.follow_log()

    def on_another_primary(self) -> None:
        """The lane may lead to a primary that lacks what another one has answered: then what is not confirmed
        is routed again, before anything newer. The node's sessions have to be right there by now."""
        settling = self._router.settling
        identity = self._lane.identity if settling is not None else None
        if settling is None or identity is None or settling.knows(identity):
            return
        unconfirmed = settling.turn_over(identity)
        extra = {"count": len(unconfirmed)}
        logger.warning("another primary: what is not confirmed is routed again", extra=extra)
        self._router.rewind(unconfirmed)

    async def run(self) -> None:
        """Works until cancelled. Raises NodeGone if this node has been declared dead."""
        pulse = self._around.pulse
        while True:
            if pulse.look():
                await self._settle_doubt()
            if not self._has_work():
                if self._has_leftovers():
                    self.linger()
                elif not self._wake.is_set():  # otherwise a drop, say, may still wait for its dead letter
                    self._idle.set()
                await self._wake.wait()
                if pulse.look():
                    continue
            await self._gather()
            self._wake.clear()
            await self._cycle()

    async def _gather(self) -> None:
        """Connects and disconnects come in crowds: as long as another look at the network brings more of
        them, they share the exchange. Messages don't wait."""
        for _ in range(_LOOKS):
            count = self._asking.count
            if not count or self._writes.changed.is_urgent or self._router.has_work():
                return
            await asyncio.sleep(0)
            if self._asking.count == count:
                return

    def _has_work(self) -> bool:
        return bool(
            self._asking.calls
            or self._writes.changed.is_urgent
            or self._router.has_work()
            or self._after_log
            or self._must_follow
        )

    def _has_leftovers(self) -> bool:
        return bool(self._writes.changed.sessions or self._router.spent)

    async def _cycle(self) -> None:
        self.on_another_primary()
        self._write_letters()
        self._settle_tokens()
        if self._wants_tail:
            self._wants_tail = False
            self.request(inboxes.inbox_tail(self._around.incarnation), self._take_tail, frees_memory=True)
        session_calls = self._writes.next_calls()
        asking, self._asking = self._asking, Asking()
        has_batch = self._router.has_work()
        if has_batch:
            self._timing.begin()
        router_calls = self._router.next_calls()
        self._timing.delivered(self._ready, is_stored=False)
        self._flush()
        calls = session_calls + asking.calls + router_calls
        if not (calls or has_batch or self._after_log or self._must_follow):
            return

        def pack_again() -> list[Call]:
            packed_again = self._router.pack_again() if router_calls else []
            return session_calls + asking.revised() + packed_again

        started = time.monotonic()
        exchange = await self._exchange(calls, has_batch, pack_again)
        self._around.observe(time.monotonic() - started, sum(len(call.requests) for call in calls))
        self._timing.exchanged()
        replies = exchange.replies
        first_asked = len(session_calls)
        first_routed = first_asked + len(asking.calls)
        has_room = self._writes.take_replies(replies[:first_asked])
        asking.hand_out(replies[first_asked:first_routed])
        has_room = self._router.take_replies(router_calls, replies[first_routed:]) and has_room
        self._hand_over()
        self._give()
        version = exchange.version
        if self._after_log or self._must_follow or version not in (None, self._index.version):
            await self._follow_log()
        is_settled = has_batch and self._end_batch(version)
        self._tell_connections()
        self._timing.delivered(self._ready, is_stored=True)
        self._flush()
        self._timing.end(is_settled, self._router.has_work())
        await self._note_room(has_room)

    async def _exchange(
        self, calls: Sequence[Call], read_version: bool, pack_again: Callable[[], Sequence[Call]]
    ) -> Exchange:
        """Asks, if need be again on another connection; then this node may have lost sessions, and what those
        wanted is left out by `pack_again`. Nobody gets the answer before every doubt is settled."""

        async def revise(ask: Ask) -> Sequence[Call]:
            await self._around.renew(ask)
            await self._around.reassure(ask)
            self._router.strike_lost()
            self.on_another_primary()
            return pack_again()

        exchange = await self._lane.exchange(calls, read_version, revise)
        if self._around.pulse.look():
            await self._settle_doubt()
        return exchange

    def _end_batch(self, version: str | None) -> bool:
        """Serves those who came meanwhile; acknowledges the batch, if nothing of it is left to do."""
        if version is not None and self._router.is_outdated(version):
            self._router.match_again()
        self._delete_stale_rows()
        is_settled = self._router.is_settled()
        if is_settled:
            self._router.settle()
        return is_settled

    def _flush(self) -> None:
        if not self._around.pulse.look():  # what was decided before a gap waits until it is settled
            flush_all(self._ready)
            self._around.transmit()

    def _hand_over(self) -> None:
        """Tells the owners of sessions what is in their queues now. Only hints, so nobody waits for them."""
        for node, record in self._router.transit.take_handovers():
            self.request(inboxes.send(node, record), _ignore_reply)

    def _give(self) -> None:
        """What shared subscriptions have given to their members goes to these."""
        given = self._writes.given + self._router.answers.given
        if given:
            self._writes.given = []
            self._router.answers.given = []
            self._around.on_given(given)

    def _take_tail(self, reply: Reply) -> None:
        actions, self._after_tail = self._after_tail, []
        if isinstance(reply, Exception):
            logger.error("the end of the inbox can't be read: %s", reply)
            tail = "0-0"
        else:
            tail = as_text(reply)

        self._around.after_inbox(tail, lambda: _run_each(actions))

    async def _settle_doubt(self) -> None:
        await self._around.renew(self._ask)
        await self._around.reassure(self._ask)
        self._router.strike_lost()
        self._around.pulse.confirm()
        self._around.go_on()

    async def _ask(self, calls: Sequence[Call]) -> list[CallReplies]:
        async def revise(ask: Ask) -> Sequence[Call]:
            await self._around.renew(ask)
            return calls

        return (await self._lane.exchange(calls, revise=revise)).replies

    async def _follow_log(self) -> None:
        """Brings the index up to date; and the inbox, which names clients that others have claimed: what
        those have published must not be sent now to somebody who has subscribed since, behind newer
        messages."""
        self._must_follow = False
        more = True
        while more:
            more, tail = await self._log.read(self._exchange)
        await self._until_read(tail)
        actions, self._after_log = self._after_log, []
        _run_each(actions)

    async def _until_read(self, tail: str) -> None:
        is_read = asyncio.Event()
        self._around.after_inbox(tail, is_read.set)
        while not is_read.is_set():
            with anyio.move_on_after(GAP_SECONDS):
                await is_read.wait()
            if self._around.pulse.look():  # the inbox waits for that, too
                await self._settle_doubt()

    def _write_letters(self) -> None:
        for drop in self._drops.take_letters():
            request = letters.letter(drop.client_id, drop.topic, drop.reason)
            self.request(request, _ignore_reply, frees_memory=True)

    def _delete_stale_rows(self) -> None:
        rows = self._router.answers.stale_rows
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
        if self._writes.stale or self._router.lost:
            stale = self._writes.stale + self._router.lost
            self._writes.stale = []
            self._router.lost = []
            for session in stale:
                self._around.on_stale(session)
        if self._writes.failed:
            failed, self._writes.failed = self._writes.failed, []
            for session, reason in failed:
                self._around.on_failed(session, reason)
        if self._router.answers.damaged:
            damaged, self._router.answers.damaged = self._router.answers.damaged, []
            for name, reason in damaged:
                logger.error("keys in Redis are damaged", extra={"owner_of_keys": name, "reason": reason})
        if self._writes.overrun:
            overrun, self._writes.overrun = self._writes.overrun, []
            for session in overrun:
                self._around.on_overrun(session)
        self.resume_reading()

    def resume_reading(self) -> None:
        """From clients that have room again."""
        if self._resumable:
            resumable = self._resumable[:]
            self._resumable.clear()
            for intake in resumable:
                intake.source.resume_reading()

    async def _note_room(self, has_room: bool) -> None:
        if has_room:
            if self.is_full:
                logger.warning("there is room again: messages go on")
                self.is_full = False
            return
        node = self._router.answers.full_inbox
        self.refusals += not node
        if not self.is_full:
            if node:
                logger.error("a node does not read its inbox: messages for it are held", extra={"node": node})
            else:
                logger.error("Redis is full (maxmemory): messages are held until it has room")
            self.is_full = True
        await anyio.sleep(_FULL_PAUSE_SECONDS)  # back-off; acknowledgements that free memory gather meanwhile


def _run_each(actions: Sequence[Callable[[], None]]) -> None:
    """Each is the continuation of one connection: our bug must not harm the others."""
    for action in actions:
        try:
            action()
        except Exception:
            logger.exception("what was to follow an answer of the store failed")


def _ignore_reply(reply: Reply) -> None:
    if isinstance(reply, Exception):
        logger.error("request failed: %s", reply)
