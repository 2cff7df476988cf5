"""A node as the function library sees it: calls over a plain client, and shortcuts for tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import cast

from redis import Redis

from cluster.store import deadlines, keys, queues, records, sessions, subscriptions
from cluster.store.call import Call, CallEncoder, Reply, Request, unpack_replies
from cluster.store.deadlines import Due
from cluster.store.entry import Entry, pack_body, pack_head
from cluster.store.errors import ItemError
from cluster.store.sessions import Claim, Detached

_numbers = count()

BODY = pack_body("t", b"payload", b"", 0)
HEAD = pack_head(1, False, ())
OPTIONS = records.pack_options(1, False, False, 0, 0)
LEASE_MS = 10_000


def claim_fields(claim: Claim) -> dict[str, object]:
    """To be compared: what is empty is a tuple or a list."""
    fields = {name: getattr(claim, name) for name in dir(claim) if not name.startswith("_")}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


@dataclass(frozen=True)
class Caller:
    """`incarnation` with the keys under `prefix`."""

    redis: Redis
    prefix: str
    incarnation: str = "node-1"

    @classmethod
    def with_new_prefix(cls, client: Redis) -> "Caller":
        """Keys that no other test has."""
        return cls(client, f"t{next(_numbers)}:")

    def other(self, incarnation: str = "node-2") -> "Caller":
        """Another node of the same cluster."""
        return Caller(self.redis, self.prefix, incarnation)

    def call(
        self,
        requests: Sequence[Request],
        bodies: Sequence[bytes] = (),
        function: str = "write",
        slot: int | str = "m",
    ) -> list[Reply]:
        """One FCALL; a failed request has an ItemError for its reply."""
        encoder = CallEncoder(self.prefix, self.incarnation, partial(keys.slot, self.prefix))
        call = Call(function, list(requests), list(bodies), slot)
        answer = self.redis.execute_command(*encoder.arguments(call))  # type: ignore[no-untyped-call]  # untyped there
        return unpack_replies(answer, len(requests))

    def ask(self, request: Request, bodies: Sequence[bytes] = (), function: str = "write") -> Reply:
        """One request. Raises what failed."""
        (reply,) = self.call([request], bodies, function)
        if isinstance(reply, ItemError):
            raise reply
        return reply

    def now_ms(self) -> int:
        seconds, microseconds = self.redis.time()
        return seconds * 1000 + microseconds // 1000

    # Sessions

    def claim(
        self,
        client_id: str = "c",
        *,
        nonce: bytes | None = None,
        clean_start: bool = False,
        expiry: int = 3600,
        window: int = 10,
        will: bytes | None = None,
        will_delay: int = 0,
    ) -> Claim:
        return sessions.parse_claim(
            self.ask(
                sessions.claim(
                    client_id,
                    nonce=nonce or next(_numbers).to_bytes(8, "big"),
                    clean_start=clean_start,
                    expiry_seconds=expiry,
                    protocol=5,
                    window=window,
                    will=will,
                    will_delay_seconds=will_delay,
                )
            )
        )

    def detach(
        self,
        claim: Claim,
        client_id: str = "c",
        *,
        sent: int = 0,
        expiry: int | None = None,
        fire_will: bool = True,
        is_plain: bool = False,
    ) -> Detached:
        request = sessions.detach(
            client_id,
            claim.epoch,
            sent=sent,
            expiry_seconds=expiry,
            fire_will=fire_will,
            is_plain=is_plain,
        )
        return sessions.parse_detach(self.ask(request, function="free"))

    def subscribe(
        self, claim: Claim, *filters: str, client_id: str = "c", replay: int = 0, options: bytes = OPTIONS
    ) -> int:
        """The stamp."""
        rows = [(each, options, replay) for each in filters]
        answer = subscriptions.parse_subscribe(
            self.ask(subscriptions.subscribe(client_id, claim.epoch, rows))
        )
        assert answer is not None
        return answer.stamp

    def subscribed(self, client_id: str = "c", *, window: int = 10, expiry: int = 3600) -> Claim:
        """A new session with the filter `f`."""
        claim = self.claim(client_id, window=window, expiry=expiry)
        self.subscribe(claim, "f", client_id=client_id)
        return claim

    # Queues

    def enqueue(
        self,
        amount: int,
        client_id: str = "c",
        *,
        limit: int = 1000,
        drop_oldest: bool = True,
        token: bytes | bool = False,
        head: bytes = HEAD,
        body: bytes = BODY,
        known: int | None = None,
        tells: bool = False,
        byte_limit: int = 0,
    ) -> list[object]:
        """By the filter `f`, or by what is `known`."""
        entries = ["f" if known is None else False, head, 0, token, 60_000] * amount
        bucket = keys.bucket_of(client_id)
        request = queues.enqueue(bucket, client_id, limit, drop_oldest, entries, known, byte_limit, tells)
        reply = self.ask(request, [body])
        assert isinstance(reply, list)
        return reply

    def page(self, claim: Claim, after_n: int, window: int, client_id: str = "c") -> list[object]:
        reply = self.ask(queues.page(keys.bucket_of(client_id), client_id, claim.epoch, after_n, window))
        assert isinstance(reply, list)
        return reply

    def ids(self, client_id: str = "c") -> list[int]:
        """Numbers of the entries in the queue."""
        queue = keys.queue(self.prefix, keys.bucket_of(client_id), client_id)
        return [int(entry_id.split(b"-")[1]) for entry_id, _ in self.stream(queue)]

    def field(self, name: str, client_id: str = "c") -> str | None:
        """A field of the session."""
        value = self.redis.hget(keys.session(self.prefix, keys.bucket_of(client_id), client_id), name)
        return cast(bytes, value).decode() if value is not None else None

    def session_keys(self, client_id: str = "c") -> set[str]:
        """Kinds of keys that there are of a client."""
        names = (name.partition("}:")[2].split(":") for name in self.key_names())
        return {name[0] for name in names if name[1:2] == [client_id]}

    # What Redis holds; the client's types allow for every setting it could have

    def key_names(self) -> set[str]:
        return {name.decode() for name in cast(list[bytes], self.redis.keys(f"{self.prefix}*"))}

    def stream(self, key: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return cast(list[tuple[bytes, dict[bytes, bytes]]], self.redis.xrange(key))

    def hash(self, key: str) -> dict[bytes, bytes]:
        return cast(dict[bytes, bytes], self.redis.hgetall(key))

    def members(self, key: str | bytes) -> set[bytes]:
        return cast(set[bytes], self.redis.smembers(key))

    def scores(self, key: str) -> dict[str, float]:
        found = cast(list[tuple[bytes, float]], self.redis.zrange(key, 0, -1, withscores=True))
        return {member.decode(): score for member, score in found}

    # Deadlines

    def due(self, client_id: str = "c", limit: int = 100) -> Due:
        """What is due in the client's bucket."""
        request = deadlines.due(keys.bucket_of(client_id), limit, LEASE_MS)
        return deadlines.parse_due(self.ask(request, function="free"))

    def pass_time(self, milliseconds: int, client_id: str = "c") -> None:
        """Moves everything that has a deadline in the client's bucket so much nearer."""
        bucket = keys.bucket_of(client_id)
        due = keys.due(self.prefix, bucket)
        for member, score in self.scores(due).items():
            self.redis.zadd(due, {member: score - milliseconds})
            if member.startswith("s:"):
                session = keys.session(self.prefix, bucket, member[2:])
                if self.redis.hexists(session, "deadline"):
                    self.redis.hincrby(session, "deadline", -milliseconds)

    def due_members(self, client_id: str = "c") -> list[str]:
        return list(self.scores(keys.due(self.prefix, keys.bucket_of(client_id))))


def fields_of(entry: Entry) -> tuple[object, ...]:
    """All that is in an entry, in the order in which it is made."""
    return (
        entry.qos,
        entry.retain,
        entry.subscription_identifiers,
        entry.topic,
        entry.payload,
        entry.properties,
        entry.deadline_ms,
        entry.was_retained,
    )
