"""Shared subscriptions: the messages of a group, its members, and who has which message.

A group is named `group/filter`; all of it is in the bucket of that name. Members are clients that are
connected: `member_name` says how they are called there. What a member is *given* stays in the group until it
is done with it; if it can't be, others get it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.store.call import BodyLayout, Reply
from cluster.store.keys import bucket_of
from cluster.store.reply import as_bytes, as_int, as_list, as_text, in_pairs, in_triples

STRATEGIES = ("balanced", "least_loaded", "sticky", "hash_topic")
NOTHING_GIVEN = "0-0"
"""In place of an id, where there is none."""
SHARE_BODIES = BodyLayout(entries=7, items=4, body=1)

_GIVEN_FIELDS = 5


@dataclass(frozen=True, slots=True)
class Policy:
    """How a group deals with its messages; the same for all groups of a node. `ttl_ms`: how long a group is
    kept that nobody uses."""

    strategy: str
    ttl_ms: int


@dataclass(slots=True)
class Given:
    """A message that a member has been given. `member` is connected to `node`; `before` is what it had been
    given last, so that a gap shows; `entry` is as in a queue."""

    member: str
    node: str
    before: str
    id: str
    entry: bytes


@dataclass(slots=True)
class Look:
    """What may have been missed. `unknown` members must join (again); `missed` messages were given to members
    of the caller (member, id, entry); `owed` ones belong to sessions that are not connected and must go into
    their queues (member, id, entry). `waiting` messages are in the group, `pending` of them given."""

    unknown: list[str]
    missed: list[tuple[str, str, bytes]]
    owed: list[tuple[str, str, bytes]]
    given: list[Given]
    waiting: int
    pending: int


@dataclass(frozen=True, slots=True)
class ShareBrief:
    """How a group stands: messages that nobody has, those that members have, members that are connected."""

    waiting: int
    given: int
    members: int


def group_name(group: str, filter: str) -> str:
    """Of a shared subscription."""
    return f"{group}/{filter}"


def member_name(client_id: str, direct_epoch: int) -> str:
    """Of a client; `direct_epoch` is 0 if its session outlives the connection."""
    return f"d:{direct_epoch}:{client_id}" if direct_epoch else f"s:{client_id}"


def client_of(member: str) -> str:
    """The Client Identifier of a member."""
    return member.split(":", 2)[2] if member.startswith("d:") else member[2:]


def share(
    name: str,
    limit: int,
    drop_oldest: bool,
    policy: Policy,
    entries: Sequence[object],
    tells: bool = False,
) -> list[object]:
    """Puts messages into a group, four items each: head (`entry.pack_head`; False: it was struck), index of
    the body in the call's bodies, token or False, TTL of the token in ms. `tells`: as
    `queues.enqueue`. Answer: see `parse_share`."""
    request: list[object] = [
        "share",
        bucket_of(name),
        name,
        limit,
        drop_oldest,
        policy.strategy,
        policy.ttl_ms,
        entries,
    ]
    if tells:
        request.append(True)
    return request


def parse_share(reply: Reply) -> tuple[Sequence[int], int, list[Given], list[object]]:
    """Statuses as of `queues.enqueue` (empty: all were appended), how many older messages had to go, what
    members were given, and what is told of the older ones."""
    statuses, dropped, given, *told = as_list(reply)
    return (
        [as_int(status) for status in as_list(statuses)] if statuses else (),
        as_int(dropped),
        _given(given),
        as_list(told[0]) if told else [],
    )


def join(name: str, member: str, epoch: int, window: int, qos: int, policy: Policy) -> list[object]:
    """A client takes its part: at most `window` messages at a time, at the QoS it was granted."""
    return [
        "share_join",
        bucket_of(name),
        name,
        member,
        epoch,
        window,
        qos,
        policy.strategy,
        policy.ttl_ms,
    ]


def parse_join(reply: Reply) -> tuple[list[tuple[str, bytes]], str, list[Given]] | None:
    """What the member had been given before and not settled (id, entry), the newest it was ever given, and
    what members were given now. None: a newer connection of the client has joined."""
    if reply is False:
        return None
    had, last, given = as_list(reply)
    return [(as_text(id), as_bytes(entry)) for id, entry in in_pairs(had)], as_text(last), _given(given)


def leave(name: str, member: str, epoch: int, has_ended: bool, policy: Policy) -> list[object]:
    """A client takes part no more; `has_ended`: nor will its session. What it had at QoS 1 goes to others."""
    return [
        "share_leave",
        bucket_of(name),
        name,
        member,
        epoch,
        has_ended,
        policy.strategy,
        policy.ttl_ms,
    ]


def parse_leave(reply: Reply) -> tuple[list[tuple[str, bytes]], list[Given]]:
    """What belongs to its session and must go into its queue (id, entry); and what others were given."""
    owed, given = as_list(reply)
    return [(as_text(id), as_bytes(entry)) for id, entry in in_pairs(owed)], _given(given)


def done(
    name: str, member: str, ids: Sequence[str], keeps_places: bool, completed: int, policy: Policy
) -> list[object]:
    """A member is done with messages. With `keeps_places` they are in its session's queue now, and take
    places in its window until so many are `completed` by a later request. Answer: see `parse_given`."""
    return [
        "share_done",
        bucket_of(name),
        name,
        member,
        list(ids),
        keeps_places,
        completed,
        policy.strategy,
        policy.ttl_ms,
    ]


def give_back(name: str, member: str, ids: Sequence[str], policy: Policy) -> list[object]:
    """A member is not subscribed any more: it leaves, and what it was given and has not been sent goes to
    others. Answer: see `parse_given`."""
    return ["share_return", bucket_of(name), name, member, list(ids), policy.strategy, policy.ttl_ms]


def parse_given(reply: Reply) -> list[Given]:
    """What members were given."""
    return _given(reply)


def look(name: str, known: Iterable[tuple[str, str]], policy: Policy) -> list[object]:
    """Asks what was missed by the members of this node, and of other nodes that are gone. `known` are all
    members that are connected here, and the newest message each knows of; empty: it is about to join."""
    return [
        "share_look",
        bucket_of(name),
        name,
        [item or False for pair in known for item in pair],
        policy.strategy,
        policy.ttl_ms,
    ]


def parse_look(reply: Reply) -> Look:
    """The answer to `look`."""
    unknown, missed, owed, given, waiting, pending = as_list(reply)
    return Look(
        [as_text(member) for member in as_list(unknown)],
        [(as_text(member), as_text(id), as_bytes(entry)) for member, id, entry in in_triples(missed)],
        [(as_text(member), as_text(id), as_bytes(entry)) for member, id, entry in in_triples(owed)],
        _given(given),
        as_int(waiting),
        as_int(pending),
    )


def brief(name: str) -> list[object]:
    """Asks how a group stands."""
    return ["share_brief", bucket_of(name), name]


def parse_brief(reply: Reply) -> ShareBrief:
    """The answer to `brief`."""
    messages, given, members = map(as_int, as_list(reply)[:3])
    return ShareBrief(messages - given, given, members)


def _given(flat: object) -> list[Given]:
    items = as_list(flat)
    return [
        Given(
            as_text(items[i]),
            as_text(items[i + 1]),
            as_text(items[i + 2]),
            as_text(items[i + 3]),
            as_bytes(items[i + 4]),
        )
        for i in range(0, len(items), _GIVEN_FIELDS)
    ]
