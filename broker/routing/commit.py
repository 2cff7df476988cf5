"""The group commit: whatever this moment has to store or to ask goes to Redis as one exchange, the next one
gathers while that is under way.

One task runs `GroupCommit.run`. A cycle is: collect (sessions that changed, requests of connections, the
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
come behind newer messages.

What waits for the store is here; what doesn't is the compiled `Committer`."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Final

import anyio

from broker.routing.committer import Committer, Turn
from broker.routing.following import ChangeLog
from broker.routing.index import SubscriptionIndex
from cluster.pulse import GAP_SECONDS
from cluster.store.lane import Ask, Call, CallReplies, Exchange
from cluster.store.store import Store

_FULL_PAUSE_SECONDS: Final = 0.1
_LOOKS: Final = 16
_IDLE_LOOKS: Final = 2
"""So many that bring nothing end the gathering. With 1 a connect in a crowd cost 1 to 4 % more, as fewer
shared an exchange; with 4 the looks took that again."""


class GroupCommit:
    """Owns the lane to Redis."""

    def __init__(self, committer: Committer, store: Store, index: SubscriptionIndex) -> None:
        self._committer = committer
        self._lane = store.lane
        self._around = committer.around
        self._pulse = committer.around.pulse
        self._log = ChangeLog(index, store, committer.around.incarnation)

    async def run(self) -> None:
        """Works until cancelled. Raises NodeGone if this node has been declared dead."""
        committer, pulse = self._committer, self._pulse
        while True:
            if pulse.look():
                await self._settle_doubt()
            if not committer.has_work():
                resting = committer.rest()
                turn = await resting if resting is not None else None
                if turn is not None:
                    await self._go_through(turn)
                    continue
                if pulse.look():
                    continue
            if committer.connects_alone():
                await self._gather()
            turn = committer.begin()
            if turn is not None:
                await self._go_through(turn)

    async def until_idle(self) -> None:
        """Waits until everything that was asked for is stored and acknowledged."""
        committer = self._committer
        await _wait(committer.until_idle())
        while await _wait(committer.until_kept()):
            await _wait(committer.until_idle())

    async def _gather(self) -> None:
        """Connects and disconnects come in crowds: as long as looks at the network bring more of them, they
        share the exchange. Messages don't wait."""
        committer = self._committer
        idle = 0
        for _ in range(_LOOKS):
            count = committer.connects_alone()
            if not count:
                return
            await asyncio.sleep(0)
            idle = idle + 1 if committer.connects_alone() == count else 0
            if idle == _IDLE_LOOKS:
                return

    async def _go_through(self, turn: Turn) -> None:
        committer = self._committer
        started = time.monotonic()
        exchange = await self._exchange(turn.calls, turn.has_batch, partial(committer.pack_again, turn))
        self._around.observe(time.monotonic() - started, sum([len(call.requests) for call in turn.calls]))
        has_room = committer.take(turn, exchange.replies)
        if committer.must_follow(exchange.version):
            await self._follow_log()
        committer.end(turn, exchange.version)
        committer.note_room(has_room)
        if not has_room:
            await anyio.sleep(_FULL_PAUSE_SECONDS)  # acknowledgements that free memory gather meanwhile

    async def _exchange(
        self, calls: Sequence[Call], read_version: bool, pack_again: Callable[[], Sequence[Call]]
    ) -> Exchange:
        """Asks, if need be again on another connection; then this node may have lost sessions, and what those
        wanted is left out by `pack_again`. Nobody gets the answer before every doubt is settled."""

        async def revise(ask: Ask) -> Sequence[Call]:
            await self._around.renew(ask)
            await self._around.reassure(ask)
            self._committer.router.strike_lost()
            self._committer.on_another_primary()
            return pack_again()

        exchange = await self._lane.exchange(calls, read_version, revise)
        if self._pulse.look():
            await self._settle_doubt()
        return exchange

    async def _settle_doubt(self) -> None:
        await self._around.renew(self._ask)
        await self._around.reassure(self._ask)
        self._committer.router.strike_lost()
        self._pulse.confirm()
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
        self._committer.following()
        more = True
        while more:
            more, tail = await self._log.read(self._exchange)
        await self._until_read(tail)
        self._committer.followed()

    async def _until_read(self, tail: str) -> None:
        is_read = asyncio.Event()
        self._around.after_inbox(tail, is_read.set)
        while not is_read.is_set():
            with anyio.move_on_after(GAP_SECONDS):
                await is_read.wait()
            if self._pulse.look():  # the inbox waits for that, too
                await self._settle_doubt()


async def _wait(waiting: Coroutine[object, object, object] | None) -> bool:
    """Whether there was something to wait for."""
    if waiting is None:
        return False
    await waiting
    return True
