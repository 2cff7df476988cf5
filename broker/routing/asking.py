"""Requests of connections, gathered into the calls of the next exchange; and their answers, handed out."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from cluster.store import inboxes
from cluster.store.errors import RedisFull
from cluster.store.lane import Call, CallReplies, Reply, Request

_REQUESTS_PER_CALL: Final = 64

logger = logging.getLogger(__name__)

ReplyHandler = Callable[[Reply], None]
"""Gets the reply, an ItemError, or RedisFull. Must not wait."""
ReviseRequest = Callable[[], Request]
"""The request to send in place of one whose outcome is unknown."""


class Asking:
    """Calls, and who waits for what each request is answered."""

    __slots__ = ("_handlers", "_revisions", "calls", "count")

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.count = 0
        self._handlers: list[list[ReplyHandler]] = []
        self._revisions: list[tuple[int, int, ReviseRequest]] = []  # call, place in it

    def add(
        self, request: Request, handler: ReplyHandler, function: str, revise: ReviseRequest | None
    ) -> None:
        """One more request."""
        call = self._next_call(function)
        if revise is not None:
            self._revisions.append((len(self.calls) - 1, len(call.requests), revise))
        call.requests.append(request)
        self._handlers[-1].append(handler)

    def send(self, node: str, record: bytes, handler: ReplyHandler) -> None:
        """One more record for the inbox of a node."""
        call = self._next_call("write")
        call.requests.append(inboxes.send(node, call.place(record)))
        self._handlers[-1].append(handler)

    def _next_call(self, function: str) -> Call:
        """The one that takes another request."""
        self.count += 1
        calls = self.calls
        if not calls or calls[-1].function != function or len(calls[-1].requests) >= _REQUESTS_PER_CALL:
            calls.append(Call(function))
            self._handlers.append([])
        return calls[-1]

    def revised(self) -> list[Call]:
        """The calls as they are to be sent if it is unknown what became of them."""
        for call, place, revise in self._revisions:
            self.calls[call].requests[place] = revise()
        return self.calls

    def hand_out(self, replies: Sequence[CallReplies]) -> None:
        """Gives everybody the reply. Raises what a person has to look at: a whole call that was refused."""
        for handlers, answer in zip(self._handlers, replies, strict=True):
            if isinstance(answer, Exception) and not isinstance(answer, RedisFull):
                raise answer
            given = [answer] * len(handlers) if isinstance(answer, RedisFull) else answer
            for handler, reply in zip(handlers, given, strict=True):
                try:
                    handler(reply)
                # The top of one connection's continuation: our bug must not harm the others.
                except Exception:
                    logger.exception("the answer of the store could not be handled")
