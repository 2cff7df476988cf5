"""Bytes that a message adds to the append-only file over its life, until the file is rewritten: as it is
put into a queue, and as its receiver acknowledges it. The same bytes go to each replica, and fill the
replication backlog.

A client is connected to the publisher's node; messages come alone, or ten of its in a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

import redis

from cluster.store import entry, keys, queues, receive, records, sessions, subscriptions
from cluster.store.call import Request
from tests.bench.storing import PAYLOADS, TOPIC, Line, ask, claim_of, payload_of, server_of
from tests.store.caller import Caller

_NAME: Final = "sensor-00000042"
_PUBLISHER: Final = "meters-00000042"
_WINDOW: Final = 100
_TTL_MS: Final = 60_000
_OPTIONS: Final = records.pack_options(2, False, False, 0, 0)


@dataclass(frozen=True, slots=True)
class _Receiver:
    """A session with its client; `stamp`: what is known of its subscriptions."""

    caller: Caller
    epoch: int
    gen: int
    stamp: int

    def enqueue(self, payload: bytes, numbers: range, qos: int) -> None:
        """Stores messages. At QoS 2 their publisher's part is stored, too."""
        bucket, tokens = keys.bucket_of(_PUBLISHER), [b"token-%016d" % n for n in numbers]
        ids = [n % 65_535 + 1 for n in numbers]
        head = entry.pack_head(qos, False, ())
        if qos == 2:
            noted = [item for pair in zip(ids, tokens, strict=True) for item in pair]
            self.ask(receive.receive(bucket, _PUBLISHER, self.epoch_of_publisher, noted, 1000))
        entries: list[object] = []
        for token in tokens:
            entries += [False, head, 0, token if qos == 2 else False, _TTL_MS]
        body = entry.pack_body(TOPIC, payload, b"", 0)
        request = queues.enqueue(keys.bucket_of(_NAME), _NAME, 10_000, True, entries, self.stamp)
        ask(self.caller, [request], [body])
        if qos == 2:
            self.ask(receive.routed(bucket, _PUBLISHER, self.epoch_of_publisher, ids))
            self.ask(receive.release_received(bucket, _PUBLISHER, self.epoch_of_publisher, ids))
            self.ask(*[receive.settle_tokens(each, tokens) for each in {bucket, keys.bucket_of(_NAME)}])

    def acknowledge(self, numbers: range, qos: int) -> None:
        """The client has them."""
        bucket = keys.bucket_of(_NAME)
        entries = [item for n in numbers for item in (self.gen, n + 1)]
        if qos == 1:
            self.ask(queues.ack(bucket, _NAME, entries))
        else:
            self.ask(queues.release(bucket, _NAME, self.epoch, entries))
            self.ask(queues.complete(bucket, _NAME, self.epoch, [n + 1 for n in numbers]))
        if numbers[-1] // (_WINDOW // 2) != (numbers[0] - 1) // (_WINDOW // 2):
            self.ask(queues.raise_hi(bucket, _NAME, self.epoch, _WINDOW))

    @property
    def epoch_of_publisher(self) -> int:
        """Of its session."""
        bucket = keys.bucket_of(_PUBLISHER)
        return int(cast(bytes, self.caller.redis.hget(keys.session("mq:", bucket, _PUBLISHER), "epoch")))

    def ask(self, *requests: Request) -> None:
        """Of which nothing may fail."""
        ask(self.caller, requests)


def _connected(caller: Caller) -> _Receiver:
    claim, _ = (
        sessions.parse_claim(reply)
        for reply in ask(caller, [claim_of(_NAME, 3600), claim_of(_PUBLISHER, 3600)])
    )
    (reply,) = ask(caller, [subscriptions.subscribe(_NAME, claim.epoch, [("plant/#", _OPTIONS, 0)])])
    subscribed = subscriptions.parse_subscribe(reply)
    assert subscribed is not None
    return _Receiver(caller, claim.epoch, claim.gen, subscribed.stamp)


def _aof_size(client: redis.Redis) -> int:
    return cast(dict[str, int], client.info("persistence"))["aof_current_size"]


def measure_written(kind: str, count: int) -> Iterator[Line]:
    """Of messages that are delivered as they come."""
    for qos in (1, 2):
        for payload_bytes in PAYLOADS:
            for at_once in (1, 10):
                with server_of(kind) as (_, caller):
                    caller.redis.config_set("auto-aof-rewrite-percentage", 0)
                    caller.redis.config_set("appendfsync", "no")  # else a write may wait for the disk
                    stored, acknowledged = _lives(_connected(caller), payload_bytes, qos, at_once, count)
                how = "alone" if at_once == 1 else f"{at_once} in a batch"
                what = f"{kind}: QoS {qos}, {payload_bytes} B, {how}"
                note = f"{stored / count:,.0f} stored, {acknowledged / count:,.0f} acknowledged"
                yield Line(what, (stored + acknowledged) / count, "B", note=note)


def _lives(receiver: _Receiver, payload_bytes: int, qos: int, at_once: int, count: int) -> Sequence[int]:
    """Bytes of all messages."""
    client = receiver.caller.redis
    payload = payload_of(payload_bytes, 0)
    stored = acknowledged = 0
    for first in range(0, count, at_once):
        numbers = range(first, first + at_once)
        before = _aof_size(client)
        receiver.enqueue(payload, numbers, qos)
        between = _aof_size(client)
        receiver.acknowledge(numbers, qos)
        stored += between - before
        acknowledged += _aof_size(client) - between
    return stored, acknowledged
