"""A batch of calls, taken apart for a Redis Cluster: no call may touch two slots. And its answers, put
together again as if it had been one server. No I/O.

Theory of operation. The second element of each request names its slot: a bucket, `m`, or a node. The
requests of a call that have one slot are a *piece*: an FCALL of their own. Pieces of one slot keep their
order; nothing is promised between slots, but for three things, each of which takes a round of its own:

- A *fence* (first in a call that routes messages) names publishers of any bucket. The fences go first; a
  call whose fence has found something is ended: nothing of it is sent. If all of a call is in one slot, its
  publishers too, it goes as it is.
- `inbox_tail` asks how far the inbox goes *after* what else is asked, so it goes last.
- The version of the subscriptions is read after retained messages have been written.

An answer that is missing (its server is away, its slot is being moved) leaves its piece open: the next
attempt asks for what is open, and nothing else; but the fence of a call that is not complete is asked
again, as time has passed. A piece that its server has no room for is refused as a whole: `PartlyRefused`.
"""

from collections.abc import Sequence
from typing import Final

from cluster.store.call import Call, Reply, Request, Slot
from cluster.store.errors import ItemError, RedisFull, StoreError
from cluster.store.inboxes import SEND_BODIES
from cluster.store.lane import CallReplies, PartlyRefused
from cluster.store.queues import ENQUEUE_BODIES, fence
from cluster.store.retained import RETAIN_BODIES
from cluster.store.shares import SHARE_BODIES

FIRST: Final = 0
ROUTED: Final = 1
LAST: Final = 2
ROUNDS: Final = (FIRST, ROUTED, LAST)

_PUBLISHER: Final = 3  # items: bucket, client, epoch
_BODIES: Final = {
    "enqueue": ENQUEUE_BODIES,
    "retain": RETAIN_BODIES,
    "send": SEND_BODIES,
    "share": SHARE_BODIES,
}
_REQUESTS_PER_PIECE: Final = 64


class _Open:
    """In place of an answer that is not there yet."""


_OPEN: Final = _Open()


class Piece:
    """What one slot gets of one call."""

    __slots__ = ("call", "number", "places")

    def __init__(self, number: int, places: list[int], call: Call) -> None:
        self.number = number
        self.places = places
        self.call = call


class FencePiece:
    """What one bucket is asked of the publishers of several calls: a request each. `asked`: which call, and
    the places of these publishers among all of its own."""

    __slots__ = ("asked", "call")

    def __init__(self, slot: Slot) -> None:
        self.call = Call("free", slot=slot)
        self.asked: list[tuple[int, list[int]]] = []


AnyPiece = Piece | FencePiece


class _Part:
    """How a call is doing. `fence`: places of its first request's publishers by bucket, if they are asked in
    a round of their own. `lost`: what came of it."""

    __slots__ = ("answers", "call", "error", "fence", "groups", "is_whole", "lost")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.answers: list[Reply] = [_OPEN] * len(call.requests)
        self.error: StoreError | None = None
        self.groups: dict[Slot, list[int]] = {}
        self.fence: dict[int, list[int]] = {}
        self.lost: list[int] = []
        self.is_whole = False
        self._look()

    def _look(self) -> None:
        """Groups the requests. An empty fence has nothing to ask: it is answered here."""
        call = self.call
        groups: dict[Slot, list[int]] = {}
        self.groups = groups
        self.fence = {}
        self.is_whole = False
        for place, request in enumerate(call.requests):
            if request[0] != "fence":
                groups.setdefault(_slot_of(request), []).append(place)
        if not self.is_fenced:
            return
        buckets = _publishers_of(call.requests[0])
        if not buckets:
            self.answers[0] = []
        elif groups.keys() <= buckets.keys() and len(buckets) == 1:
            self.is_whole = True
            self.groups = {bucket: list(range(len(call.requests))) for bucket in buckets}
        else:
            self.fence = buckets

    @property
    def is_fenced(self) -> bool:
        return bool(self.call.requests) and self.call.requests[0][0] == "fence"

    @property
    def is_open(self) -> bool:
        return self.error is None and any(answer is _OPEN for answer in self.answers)

    def revise(self, call: Call) -> None:
        """What is to be sent now, request by request, in place of what is open. A fence that has ended the
        call named places among the publishers of then."""
        if self.is_fenced and isinstance(self.answers[0], list) and self.answers[0]:
            self.answers = [_OPEN] * len(call.requests)
        self.call = call
        if self.is_open:
            self._look()

    def begin(self) -> None:
        """Another attempt: as long as the call is open its fence is asked again."""
        if self.is_open:
            self.lost = []
            if self.fence:
                self.answers[0] = _OPEN

    def end_by_fence(self) -> None:
        """All of its fence has been answered."""
        self.answers[0] = sorted(self.lost)
        if self.lost:
            self.answers[1:] = [False] * (len(self.answers) - 1)

    def open_places(self, places: list[int]) -> list[int]:
        """A call with a fence in it goes as a whole, or not at all."""
        answers = self.answers
        if self.is_whole:
            return places if any(answers[place] is _OPEN for place in places) else []
        return [place for place in places if answers[place] is _OPEN]

    def result(self) -> CallReplies:
        if self.error is not None:
            return self.error
        full = [isinstance(answer, RedisFull) for answer in self.answers]
        if not any(full):
            return self.answers
        if all(full[1:] if self.is_fenced else full):
            return next(answer for answer in self.answers if isinstance(answer, RedisFull))
        return PartlyRefused(self.answers)


class Plan:
    """One batch on its way. An attempt is: `begin`, then for each of ROUNDS the `pieces` of it, whose answers
    are given to `take`."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._parts = [_Part(call) for call in calls]
        self._look()

    def _look(self) -> None:
        self._has_fences = any(part.fence for part in self._parts)
        operations = {request[0] for part in self._parts for request in part.call.requests}
        self._has_late = "inbox_tail" in operations and len(operations) > 1
        self.version_round = LAST if "retain" in operations else ROUTED if self._has_fences else FIRST
        """In which the version of the subscriptions is to be read."""

    def revise(self, calls: Sequence[Call]) -> None:
        """In place of those that may have been carried out: as many, with as many requests each."""
        for part, call in zip(self._parts, calls, strict=True):
            part.revise(call)
        self._look()

    def begin(self) -> None:
        """Another attempt."""
        for part in self._parts:
            part.begin()

    def pieces(self, round_number: int) -> list[AnyPiece]:
        """What is to be asked in a round, in order within each slot."""
        pieces: list[AnyPiece] = []
        if round_number == FIRST and self._has_fences:
            pieces += self._fences()
        elif round_number == ROUTED:
            self._end_fences()
        for number, part in enumerate(self._parts):
            if part.error is None:
                for slot, places in part.groups.items():
                    if wanted := self._wanted(part, places, round_number):
                        pieces.append(Piece(number, wanted, _call_of(part.call, slot, wanted)))
        return pieces

    def _wanted(self, part: _Part, places: list[int], round_number: int) -> list[int]:
        home = ROUTED if self._has_fences and part.is_fenced else FIRST
        if not self._has_late:
            return part.open_places(places) if round_number == home else []
        requests = part.call.requests
        return [
            place
            for place in part.open_places(places)
            if (LAST if requests[place][0] == "inbox_tail" else home) == round_number
        ]

    def _fences(self) -> list[FencePiece]:
        newest: dict[int, FencePiece] = {}
        pieces: list[FencePiece] = []
        for number, part in enumerate(self._parts):
            if not (part.fence and part.is_open):
                continue
            publishers = part.call.requests[0][2]
            assert isinstance(publishers, list)
            for bucket, places in part.fence.items():
                piece = newest.get(bucket)
                if piece is None or len(piece.asked) >= _REQUESTS_PER_PIECE:
                    piece = newest[bucket] = FencePiece(bucket)
                    pieces.append(piece)
                flat = [item for at in places for item in publishers[_PUBLISHER * at : _PUBLISHER * (at + 1)]]
                piece.call.requests.append(fence(flat))
                piece.asked.append((number, places))
        return pieces

    def _end_fences(self) -> None:
        """Nobody comes here before all of the first round is answered."""
        for part in self._parts:
            if part.fence and part.error is None and part.answers[0] is _OPEN:
                part.end_by_fence()

    def take(self, piece: AnyPiece, replies: CallReplies) -> None:
        """The answer to a piece."""
        if isinstance(piece, FencePiece):
            self._take_fence(piece, replies)
            return
        part = self._parts[piece.number]
        if isinstance(replies, RedisFull):
            for place in piece.places:
                part.answers[place] = replies
        elif isinstance(replies, StoreError):
            part.error = replies
        else:
            for place, reply in zip(piece.places, replies, strict=True):
                part.answers[place] = reply

    def _take_fence(self, piece: FencePiece, replies: CallReplies) -> None:
        for position, (number, places) in enumerate(piece.asked):
            part = self._parts[number]
            if isinstance(replies, StoreError):
                part.error = replies
                continue
            found = replies[position]
            if not isinstance(found, ItemError):  # keys that somebody has damaged are no reason
                assert isinstance(found, list)
                part.lost += [places[at] for at in found]

    def replies(self) -> list[CallReplies]:
        """Call by call, when nothing is open."""
        return [part.result() for part in self._parts]


def _slot_of(request: Request) -> Slot:
    slot = request[1]
    assert isinstance(slot, int | str)
    return slot


def _publishers_of(request: Request) -> dict[int, list[int]]:
    """Places of the publishers in a fence, by bucket."""
    publishers = request[2]
    assert isinstance(publishers, list)
    buckets: dict[int, list[int]] = {}
    for place, bucket in enumerate(publishers[::_PUBLISHER]):
        buckets.setdefault(bucket, []).append(place)
    return buckets


def _call_of(call: Call, slot: Slot, places: list[int]) -> Call:
    """These requests, with the bodies that they name, by the positions that these have here."""
    requests = [call.requests[place] for place in places]
    bodies: list[bytes] = []
    if call.bodies:
        positions: dict[int, int] = {}
        requests = [_with_positions(request, positions) for request in requests]
        bodies = [call.bodies[body] for body in positions]
    return Call(call.function, requests, bodies, slot)


def _with_positions(request: Request, positions: dict[int, int]) -> Request:
    """The request with other positions of the bodies that it names; what has none yet gets the next one."""
    layout = _BODIES.get(str(request[0]))
    entries = request[layout.entries] if layout is not None else None
    if layout is None or not isinstance(entries, list):
        return request
    moved = entries.copy()
    for place in range(layout.body, len(moved), layout.items):
        if moved[place] >= 0:
            moved[place] = positions.setdefault(moved[place], len(positions))
    return [*request[: layout.entries], moved, *request[layout.entries + 1 :]]
