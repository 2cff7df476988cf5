"""A few may go on at a time, others wait: in a bounded queue in which addresses have their turns.

Somebody who sends more than can be done fills the queue, and loses what is too much: not those who send
little. When the queue is full the address that has the most in it gives up its newest.
"""

import asyncio
from collections import OrderedDict, deque


class Busy(Exception):
    """There is no place in the queue."""


class Gate:
    """`places` at a time; `queue_limit` wait."""

    def __init__(self, places: int, queue_limit: int) -> None:
        self._free = places
        self._queue_limit = queue_limit
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.waiting = 0

    async def enter(self, address: str) -> None:
        """Waits for a place, which has to be given back with `leave`. Raises Busy."""
        if self._free:
            self._free -= 1
            return
        if self.waiting >= self._queue_limit:
            self._make_room(address)
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(address, deque()).append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()  # it had just been given its place
            else:
                self._take_out(address, turn)
            raise

    def leave(self) -> None:
        """Gives the place to the next address in turn."""
        while self._queues:
            address, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            self.waiting -= 1
            if queue:
                self._queues[address] = queue
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _make_room(self, address: str) -> None:
        own = len(self._queues.get(address, ()))
        longest = max(self._queues.values(), key=len, default=None)
        if longest is None or len(longest) <= own + 1:
            raise Busy
        turn = longest.pop()
        self.waiting -= 1
        if not turn.done():
            turn.set_exception(Busy())

    def _take_out(self, address: str, turn: "asyncio.Future[None]") -> None:
        queue = self._queues.get(address)
        if queue is not None and turn in queue:
            queue.remove(turn)
            self.waiting -= 1
            if not queue:
                del self._queues[address]
