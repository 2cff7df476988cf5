"""Calls of the function library: packed on their way out, their answers unpacked on the way back. No I/O.

A call is `FCALL <function> 1 <key> <prefix> <incarnation> <blob> [<body> ...]`; its one key names the slot,
the blob is msgpack of [bodies, requests], the answer is msgpack of one reply per request. The msgpack inside
Redis knows no `bin` type: text and bytes both travel as `raw`, and all that comes back is bytes.

The Lua inside Redis hashes each byte of each string that it is given or makes, which takes 1.7 ns. What is in
the blob is hashed as a part of that, and once more when it is taken out. So large bodies are not in there but
follow as arguments, and what is large in a request had better be a body (`place`).
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker

from cluster.store.errors import CallFailed, ItemError
from cluster.store.keys import META_SLOT
from cluster.store.library import function_name

Slot: TypeAlias = int | str
"""A bucket's number, or the letter of a slot beside the buckets."""
Request: TypeAlias = Sequence[object]
"""[operation, bucket, ...] as the builders of this package make them."""
Text: TypeAlias = bytes | list[int]
"""A string of a request, or a list with the index of the body that it is."""
Reply: TypeAlias = object
"""What the parsers of this package take; an ItemError if this request failed."""

FUNCTIONS: Final = {kind: function_name(kind).encode() for kind in ("write", "free")}
LARGE_BYTES: Final = 256
"""A string of so many costs less as an argument than in the blob."""
_HEADS_MAXIMUM: Final = 1024
ERROR_MARK: Final = b"err"
"""The only key of the map that stands in for the reply of a failed request."""


class Call:
    """Requests that are carried out in one go. They share the `bodies`, and name them by position.

    `function` is "write", or "free" for what only frees memory and is taken even when Redis is full. `slot`
    matters to Redis Cluster only: on one primary a call may hold requests of any bucket.
    """

    __slots__ = ("bodies", "function", "requests", "slot")

    def __init__(
        self,
        function: str,
        requests: list[Request] | None = None,
        bodies: list[bytes] | None = None,
        slot: Slot = META_SLOT,
    ) -> None:
        self.function = function
        self.requests: list[Request] = [] if requests is None else requests
        self.bodies: list[bytes] = [] if bodies is None else bodies
        self.slot = slot

    def __repr__(self) -> str:
        size = f"{len(self.requests)} requests, {len(self.bodies)} bodies"
        return f"Call({self.function!r}, {size}, slot={self.slot!r})"

    def place(self, text: bytes) -> Text:
        """A string for a request of this call: if it is large, it becomes a body."""
        if len(text) < LARGE_BYTES:
            return text
        self.bodies.append(text)
        return [len(self.bodies) - 1]


class BodyLayout(NamedTuple):
    """Where a request names bodies of its call: in the flat list which is its element `entries`, of so many
    `items` each, of which `body` is the position of one, or negative. What is no list there names none."""

    entries: int
    items: int
    body: int


class CallEncoder:
    """Writes calls as Redis commands. Two concatenations per call: a general packer costs 3 us more."""

    __slots__ = ("_heads", "_incarnation", "_key_of_slot", "_pack", "_prefix")

    def __init__(self, prefix: str, incarnation: str, key_of_slot: Callable[[Slot], str]) -> None:
        self._prefix = prefix.encode()
        self._incarnation = incarnation.encode()
        self._key_of_slot = key_of_slot
        self._heads: dict[tuple[str, Slot], bytes] = {}
        self._pack = msgpack.Packer(use_bin_type=False).pack

    def arguments(self, call: Call) -> tuple[bytes, ...]:
        """The whole command, for a client that packs by itself."""
        blob, bodies = self._content(call)
        return *self._first_arguments(call), blob, *bodies

    def append_to(self, parts: list[bytes], call: Call) -> None:
        """Appends the command to `parts`, as it goes over the wire."""
        head = self._heads.get((call.function, call.slot))
        if head is None:
            head = self._head(call)
        blob, bodies = self._content(call)
        parts += (b"*%d\r\n" % (7 + len(bodies)), head, b"%d\r\n" % len(blob), blob, b"\r\n")
        for body in bodies:
            parts += (b"$%d\r\n" % len(body), body, b"\r\n")

    def _content(self, call: Call) -> tuple[bytes, Sequence[bytes]]:
        """The blob, and the bodies that follow it."""
        bodies = call.bodies
        if bodies and sum(map(len, bodies)) >= LARGE_BYTES * len(bodies):
            return self._pack(((), call.requests)), bodies
        return self._pack((bodies, call.requests)), ()

    def _first_arguments(self, call: Call) -> tuple[bytes, ...]:
        """Those before the blob."""
        key = self._key_of_slot(call.slot).encode()
        return b"FCALL", FUNCTIONS[call.function], b"1", key, self._prefix, self._incarnation

    def _head(self, call: Call) -> bytes:
        """All between the number of arguments and the length of the blob. There are as many as there are
        slots, times two; and on a cluster, some for each node that ever was."""
        if len(self._heads) >= _HEADS_MAXIMUM:
            self._heads.clear()
        head = b"".join(map(pack_bulk, self._first_arguments(call))) + b"$"
        self._heads[call.function, call.slot] = head
        return head


def pack_bulk(argument: bytes) -> bytes:
    """One argument of a command as Redis wants it."""
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def pack_command(*arguments: str | bytes | int) -> bytes:
    """A command as Redis wants it. Off the hot path."""
    encoded = [a if isinstance(a, bytes) else str(a).encode() for a in arguments]
    return b"*%d\r\n" % len(encoded) + b"".join(map(pack_bulk, encoded))


def unpack_replies(answer: bytes, count: int) -> list[Reply]:
    """The replies of a call with `count` requests; a failed one is an ItemError in its place.

    Raises CallFailed if this isn't such an answer.
    """
    try:
        replies = msgpack.unpackb(answer, raw=True, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise CallFailed(f"a call answered with what is no msgpack: {error}") from error
    if type(replies) is not list or len(replies) != count:
        raise CallFailed(f"a call of {count} requests did not get as many replies")
    for i, reply in enumerate(replies):
        if type(reply) is dict and ERROR_MARK in reply:
            replies[i] = ItemError(reply[ERROR_MARK].decode(errors="replace"))
    return replies
