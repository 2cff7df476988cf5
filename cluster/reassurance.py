"""What a node asks before it goes on after a gap: does it live, which of its sessions has it lost, what was
it sent.

In this order: a life sign first, as everything else is worth nothing if the others have declared the node
dead; then the bells, which name the sessions that others have claimed; then its inbox, up to where it was
when the bells were read, so that nothing older comes behind what is sent from now on."""

import asyncio

from cluster.bells import Bells
from cluster.inbox import Inbox
from cluster.pulse import Pulse
from cluster.store import inboxes, membership
from cluster.store.call import Call
from cluster.store.errors import StoreError
from cluster.store.lane import Ask
from cluster.store.reply import as_text


class Reassurance:
    """Asks for one incarnation."""

    def __init__(self, incarnation: str, pulse: Pulse, bells: Bells, inbox: Inbox) -> None:
        self._incarnation = incarnation
        self._pulse = pulse
        self._bells = bells
        self._inbox = inbox

    async def __call__(self, ask: Ask) -> None:
        """Raises NodeGone if this node is dead to the others, StoreUnavailable if Redis is away."""
        await self._ask(ask, Call("free", [membership.beat(self._incarnation)]))
        self._pulse.is_alive()
        requests = [*self._bells.requests(), inboxes.inbox_tail(self._incarnation)]
        *rung, tail = await self._ask(ask, Call("free", requests))
        if isinstance(tail, StoreError):
            raise tail
        self._bells.take(rung)
        is_read = asyncio.Event()
        self._inbox.after(as_text(tail), is_read.set)
        await is_read.wait()

    async def _ask(self, ask: Ask, call: Call) -> list[object]:
        (replies,) = await ask([call])
        if isinstance(replies, StoreError):
            raise replies
        return replies
