"""Queue entries on their way to Redis and back; one operation is one entry."""

from functools import partial
from typing import Final, cast

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker

from broker.routing.writes import entry_delivery
from cluster.store import keys
from cluster.store.call import CallEncoder, unpack_replies
from cluster.store.entry import pack_body, pack_head
from tests.bench.case import Case, Work
from tests.routing.room import NODE, Room, new_queue

SESSIONS: Final = 10
EACH: Final = 20
_ENTRY: Final = pack_head(1, False, ()) + pack_body("bench/topic/1", bytes(256), b"", 0)


def _room() -> Room:
    """A batch is under way: 200 messages for ten queues."""
    room = Room()
    for i in range(SESSIONS):
        room.subscribe(f"subscriber-{i}", f"bench/topic/{i}")
    publisher = room.connect("publisher", queue=new_queue())
    for n in range(SESSIONS * EACH):
        room.publish(publisher, f"bench/topic/{n % SESSIONS}", bytes(256), packet_id=n + 1)
    room.router.next_calls()
    return room


def _pack() -> Work:
    router = _room().router
    encoder = CallEncoder("mq:", NODE, partial(keys.slot, "mq:"))

    def run() -> None:
        parts: list[bytes] = []
        for call in router.pack_again():
            encoder.append_to(parts, call)

    return run


def _unpack() -> Work:
    replies = [[], *([1, 1000, NODE.encode(), False, 0] for _ in range(SESSIONS))]
    answer = cast(bytes, msgpack.packb(replies, use_bin_type=False))
    return lambda: unpack_replies(answer, len(replies))


def _unpack_page() -> Work:
    def run() -> None:
        for n in range(EACH):
            entry_delivery(1, n, _ENTRY)

    return run


CASES: Final = (
    Case("pack an enqueue batch, 20 for each of 10 sessions", SESSIONS * EACH, _pack),
    Case("unpack its answer", SESSIONS * EACH, _unpack),
    Case("unpack a page of a queue", EACH, _unpack_page),
)
