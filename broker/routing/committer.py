"""What the group commit does without waiting: gathers what this moment has to store or to ask, and does what
follows the answers. `broker.routing.commit` runs it, and tells of its order."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Final

from broker.routing.asking import Asking, ReplyHandler, ReviseRequest
from broker.routing.gathering import Gathering
from broker.routing.index import SubscriptionIndex
from broker.routing.router import Router
from broker.routing.timing import Timing
from broker.routing.writes import SessionWrites
from broker.session import Drops, Intake, Outbox, Session, flush_all
from cluster.pulse import Pulse
from cluster.store import inboxes, letters, receive, subscriptions
from cluster.store.call import Call, Reply, Request
from cluster.store.lane import Ask, CallReplies, Lane
from cluster.store.reply import as_text
from cluster.store.sharded_lane import ShardedLane
from cluster.store.shares import Given

_LINGER_SECONDS: Final = 0.003
"""So long what nobody waits for may wait for an exchange that is made anyway."""

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


class Turn:
    """What one cycle asks: for sessions, for connections, and the router's batch."""

    __slots__ = ("asking", "calls", "has_batch", "router_calls", "session_calls")

    def __init__(
        self, session_calls: list[Call], asking: Asking, router_calls: list[Call], has_batch: bool
    ) -> None:
        self.session_calls = session_calls
        self.asking = asking
        self.router_calls = router_calls
        self.has_batch = has_batch
        self.calls = session_calls + asking.calls + router_calls


class Committer:
    """What connections and the router use, and the parts of a cycle. Handlers of replies must not wait."""

    __slots__ = (
        "_after_log",
        "_after_tail",
        "_asking",
        "_became_idle",
        "_drops",
        "_index",
        "_is_awake",
        "_is_idle",
        "_kept",
        "_lane",
        "_lingering",
        "_must_follow",
        "_ready",
        "_resumable",
        "_sleeper",
        "_timing",
        "_wants_tail",
        "_writes",
        "around",
        "gathering",
        "is_full",
        "refusals",
        "router",
    )

    def __init__(
        self,
        lane: Lane | ShardedLane,
        router: Router,
        writes: SessionWrites,
        index: SubscriptionIndex,
        drops: Drops,
        ready: list[Outbox],
        resumable: list[Intake],
        around: Surroundings,
    ) -> None:
        self.router = router
        self.around = around
        self._lane = lane
        self._writes = writes
        self._index = index
        self._drops = drops
        self._ready = ready
        self._resumable = resumable
        self._timing = around.timing
        self.gathering = Gathering(router.transit, around.pulse, around.transmit)
        self._is_awake = False
        self._sleeper: asyncio.Future[Turn | None] | None = None
        self._is_idle = False
        self._became_idle: asyncio.Event | None = None
        self._asking = Asking()
        self._wants_tail = False
        self._after_tail: list[Callable[[], None]] = []
        self._after_log: list[Callable[[], None]] = []
        self._must_follow = False
        self._lingering: asyncio.TimerHandle | None = None
        self._kept = asyncio.Event()
        self.is_full = False
        self.refusals = 0

    # What others ask for

    def wake(self, at_once: bool = False) -> None:
        """There may be something to do. `at_once`: nothing else comes with it, so what can leave without
        waiting leaves now."""
        if not self._is_awake:
            self._is_awake = True
            self._is_idle = False
            self._timing.woken()
            if self._sleeper is not None:
                if at_once:
                    self._go_on()
                else:
                    asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Ends the rest. What can leave without waiting leaves now: some microseconds before the task that is
        woken would see to it."""
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is None or sleeper.done():
            return
        if self.around.pulse.look() or self.connects_alone():
            sleeper.set_result(None)
            return
        try:
            turn = self.begin()
        except Exception as error:  # noqa: BLE001  # for the task, which ends by it, and the node with it
            sleeper.set_exception(error)
        else:
            sleeper.set_result(turn)

    def linger(self) -> None:
        """There is something to store that nobody waits for, as acknowledgements of what was delivered: it
        goes with the next exchange, or with one of its own, soon. With few messages that halves their
        exchanges."""
        self._is_idle = False
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

    def ask(self, request: Request, *, frees_memory: bool = False) -> "asyncio.Future[Reply]":
        """Like `request`, for a task that awaits the reply. That raises ItemError and RedisFull."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answer(reply: Reply) -> None:
            if future.done():
                return
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

        self.request(request, answer, frees_memory=frees_memory)
        return future

    def after_log(self, action: Callable[[], None]) -> None:
        """Runs `action` once the index has followed the change log up to now; for use in a reply's
        handler."""
        self._after_log.append(action)

    def follow_log(self) -> None:
        """Brings the index up to date soon, though no batch asks for it."""
        self._must_follow = True
        self.wake()

    def follow_now(self) -> Coroutine[object, object, object]:
        """To be awaited: until the index has followed the change log up to now."""
        has_followed = asyncio.Event()
        self.after_log(has_followed.set)
        self.wake()
        return has_followed.wait()

    def read_tail(self) -> None:
        """Asks, after all requests of this moment, how far the inbox goes; for `after_tail`."""
        self._wants_tail = True

    def after_tail(self, action: Callable[[], None]) -> None:
        """Runs `action` once everything is handled that was in the inbox when `read_tail` asked; for use in
        the handler of a reply that was asked for in the same moment."""
        self._after_tail.append(action)

    def note_kept(self) -> None:
        """Nothing that has to be confirmed is owed any more."""
        self._kept.set()

    def look_for_primary(self) -> None:
        """The one that answers may not be the primary any more: looks for it anew, soon."""
        self._lane.drop("another primary may have taken over")
        self.follow_log()

    def resume_reading(self) -> None:
        """From clients that have room again."""
        if self._resumable:
            resumable = self._resumable[:]
            self._resumable.clear()
            for intake in resumable:
                intake.source.resume_reading()

    # Whether there is anything to do

    def has_work(self) -> bool:
        """For a cycle."""
        return bool(
            self._asking.count
            or self._writes.changed.is_urgent
            or self.router.has_work()
            or self._after_log
            or self._must_follow
        )

    def _has_leftovers(self) -> bool:
        return bool(self._writes.changed.sessions or self.router.spent)

    def connects_alone(self) -> int:
        """How many requests of connections wait, if nothing else does."""
        if self._writes.changed.is_urgent or self.router.has_work():
            return 0
        return self._asking.count

    def rest(self) -> "asyncio.Future[Turn | None] | None":
        """There is no work: what to await until there may be some. None: that is now. The answer is a turn
        that has begun, if any."""
        if self._has_leftovers():
            self.linger()
        elif not self._is_awake:  # otherwise a drop, say, may still wait for its dead letter
            self._is_idle = True
            if self._became_idle is not None:
                self._became_idle.set()
                self._became_idle = None
        if self._is_awake:
            return None
        self._sleeper = asyncio.get_running_loop().create_future()
        return self._sleeper

    def until_idle(self) -> Coroutine[object, object, object] | None:
        """What to await until everything that was asked for is stored; None: it is."""
        if self._is_idle:
            return None
        if self._became_idle is None:
            self._became_idle = asyncio.Event()
        return self._became_idle.wait()

    def until_kept(self) -> Coroutine[object, object, object] | None:
        """What to await until nothing that has to be confirmed is owed; None: that is so."""
        settling = self.router.settling
        if settling is None or not settling.is_waiting:
            return None
        self._kept.clear()
        return self._kept.wait()

    # The parts of a cycle

    def begin(self) -> Turn | None:
        """Collects, and writes what can leave without waiting. None: there is nothing to ask for."""
        self._is_awake = False
        self.on_another_primary()
        self._write_letters()
        self._settle_tokens()
        if self._wants_tail:
            self._wants_tail = False
            self.request(inboxes.inbox_tail(self.around.incarnation), self._take_tail, frees_memory=True)
        session_calls = self._writes.next_calls()
        asking, self._asking = self._asking, Asking()
        has_batch = self.router.has_work()
        if has_batch:
            self._timing.begin()
        router_calls = self.router.next_calls()
        self._timing.delivered(self._ready, is_stored=False)
        self.flush()
        turn = Turn(session_calls, asking, router_calls, has_batch)
        if turn.calls or has_batch or self._after_log or self._must_follow:
            return turn
        return None

    def pack_again(self, turn: Turn) -> list[Call]:
        """The calls of a turn, if it is unknown what became of them."""
        packed_again = self.router.pack_again() if turn.router_calls else []
        return turn.session_calls + turn.asking.revised() + packed_again

    def take(self, turn: Turn, replies: list[CallReplies]) -> bool:
        """Hands every reply to whoever waits for it. False: some were refused for want of room."""
        self._timing.exchanged()
        first_asked = len(turn.session_calls)
        first_routed = first_asked + len(turn.asking.calls)
        has_room = self._writes.take_replies(replies[:first_asked])
        turn.asking.hand_out(replies[first_asked:first_routed])
        has_room = self.router.take_replies(turn.router_calls, replies[first_routed:]) and has_room
        self._hand_over()
        self._give()
        return has_room

    def must_follow(self, version: str | None) -> bool:
        """Whether the log is to be read before the turn ends. `version`: that of the store, if asked for."""
        return bool(
            self._after_log or self._must_follow or (version is not None and version != self._index.version)
        )

    def following(self) -> None:
        """The log is about to be read."""
        self._must_follow = False

    def followed(self) -> None:
        """The log has been read up to now, and the inbox."""
        actions, self._after_log = self._after_log, []
        _run_each(actions)

    def end(self, turn: Turn, version: str | None) -> None:
        """Acknowledges, and writes what that brings."""
        is_settled = turn.has_batch and self._end_batch(version)
        self._tell_connections()
        self._timing.delivered(self._ready, is_stored=True)
        self.flush()
        self._timing.end(is_settled, self.router.has_work())

    def on_another_primary(self) -> None:
        """The lane may lead to a primary that lacks what another one has answered: then what is not confirmed
        is routed again, before anything newer. The node's sessions have to be right there by now."""
        settling = self.router.settling
        if settling is None:
            return
        identity = self._lane.identity
        if identity is None or settling.knows(identity):
            return
        unconfirmed = settling.turn_over(identity)
        extra = {"count": len(unconfirmed)}
        logger.warning("another primary: what is not confirmed is routed again", extra=extra)
        self.router.rewind(unconfirmed)

    def _end_batch(self, version: str | None) -> bool:
        """Serves those who came meanwhile; acknowledges the batch, if nothing of it is left to do."""
        if version is not None and self.router.is_outdated(version):
            self.router.match_again()
        self._delete_stale_rows()
        is_settled = self.router.is_settled()
        if is_settled:
            self.router.settle()
        return is_settled

    def flush(self) -> None:
        """Writes what is ready, for clients and for other nodes."""
        if not self.around.pulse.look():  # what was decided before a gap waits until it is settled
            flush_all(self._ready)
            self.gathering.send()

    def _hand_over(self) -> None:
        """Tells the owners of sessions what is in their queues now. Only hints, so nobody waits for them."""
        records = self.router.transit.take_handovers()
        for node, record in records:
            self._asking.send(node, record, _ignore_reply)
        if records:
            self.wake()

    def _give(self) -> None:
        """What shared subscriptions have given to their members goes to these."""
        given = self._writes.given + self.router.answers.given
        if given:
            self._writes.given = []
            self.router.answers.given = []
            self.around.on_given(given)

    def _take_tail(self, reply: Reply) -> None:
        actions, self._after_tail = self._after_tail, []
        if isinstance(reply, Exception):
            logger.error("the end of the inbox can't be read: %s", reply)
            tail = "0-0"
        else:
            tail = as_text(reply)

        self.around.after_inbox(tail, lambda: _run_each(actions))

    def _write_letters(self) -> None:
        for drop in self._drops.take_letters():
            request = letters.letter(drop.client_id, drop.topic, drop.reason)
            self.request(request, _ignore_reply, frees_memory=True)

    def _delete_stale_rows(self) -> None:
        rows = self.router.answers.stale_rows
        if rows:
            deletes = [(row.subscriber.client_id, row.filter, row.stamp) for row in rows]
            rows.clear()
            self.request(subscriptions.rows([], deletes), _ignore_reply, frees_memory=True)

    def _settle_tokens(self) -> None:
        if not self.router.spent:
            return
        tokens: dict[int, list[bytes]] = {}
        for bucket, token in self.router.spent:
            tokens.setdefault(bucket, []).append(token)
        self.router.spent.clear()
        for bucket, spent in tokens.items():
            self.request(receive.settle_tokens(bucket, spent), _ignore_reply, frees_memory=True)

    def _tell_connections(self) -> None:
        if self._writes.stale or self.router.lost:
            stale = self._writes.stale + self.router.lost
            self._writes.stale = []
            self.router.lost = []
            for session in stale:
                self.around.on_stale(session)
        if self._writes.failed:
            failed, self._writes.failed = self._writes.failed, []
            for session, reason in failed:
                self.around.on_failed(session, reason)
        if self.router.answers.damaged:
            damaged, self.router.answers.damaged = self.router.answers.damaged, []
            for name, reason in damaged:
                logger.error("keys in Redis are damaged", extra={"owner_of_keys": name, "reason": reason})
        if self._writes.overrun:
            overrun, self._writes.overrun = self._writes.overrun, []
            for session in overrun:
                self.around.on_overrun(session)
        self.resume_reading()

    def note_room(self, has_room: bool) -> None:
        """Whether the store has taken all. Says so when that changes."""
        if has_room:
            if self.is_full:
                logger.warning("there is room again: messages go on")
                self.is_full = False
            return
        node = self.router.answers.full_inbox
        self.refusals += not node
        if not self.is_full:
            if node:
                logger.error("a node does not read its inbox: messages for it are held", extra={"node": node})
            else:
                logger.error("Redis is full (maxmemory): messages are held until it has room")
            self.is_full = True


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
