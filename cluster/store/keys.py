"""The names of all keys in Redis. In Lua the helper `key` in lua/lib.lua builds them; nothing else does.

`prefix` comes first (a tenant or a test has its own), then the slot in braces, which is what Redis Cluster
hashes: a bucket, 0..63, or "m" for what belongs to the whole cluster. All keys of one bucket may change in
one call. Client ids and filters are escaped, so that braces in a name never look like a slot.
"""

from binascii import crc_hqx
from typing import Final

BUCKETS: Final = 64
SUBSCRIPTION_SHARDS: Final = 256
META_SLOT: Final = "m"

_ESCAPES: Final = str.maketrans({"{": "%7B", "}": "%7D", "%": "%25"})


def escape(name: str) -> str:
    """A client id, filter or node as a part of a key."""
    return name.translate(_ESCAPES)


def bucket_of(name: str) -> int:
    """The bucket of a client id, a first topic level or a `group/filter`: CRC-16 (XMODEM, as Redis Cluster's)
    modulo 64."""
    return crc_hqx(name.encode(), 0) & (BUCKETS - 1)


def bucket_of_topic(topic: str) -> int:
    """The bucket of the retained message of a topic: that of its first level."""
    return bucket_of(topic.partition("/")[0])


def shard_of(client_id: str, topic_filter: str) -> int:
    """Which of the hashes of rows has this subscription."""
    return crc_hqx(f"{topic_filter}\0{client_id}".encode(), 0) & (SUBSCRIPTION_SHARDS - 1)


def slot(prefix: str, bucket: int | str) -> str:
    """A key of this slot, for a call which must name one."""
    return f"{prefix}{{{bucket}}}:ctr"


def counter(prefix: str, bucket: int) -> str:
    """Integer: source of gen, epoch and stamp. It never repeats and never ends."""
    return slot(prefix, bucket)


def primary(prefix: str, bucket: int | str) -> str:
    """Hash: `id`, the replication id of the server that this slot was last written on, `term`, how often
    another one has come, `since`, the first number that the counter gave then (lua/adopt.lua)."""
    return f"{prefix}{{{bucket}}}:primary"


def sessions(prefix: str, bucket: int) -> str:
    """Integer: how many persistent sessions there are, of those that were claimed since this is counted."""
    return f"{prefix}{{{bucket}}}:sessions"


def session_index(prefix: str, bucket: int) -> str:
    """Sorted set, all scores 0: the firsts of the chunks below, in order."""
    return f"{prefix}{{{bucket}}}:ids"


def session_chunk(prefix: str, bucket: int, first: str) -> str:
    """Sorted set, all scores 0: Client Identifiers of persistent sessions, from `first` (that of the chunk at
    the beginning is empty) to before the first of the next chunk."""
    return f"{prefix}{{{bucket}}}:ids:{escape(first)}"


def session(prefix: str, bucket: int, client_id: str) -> str:
    """Hash: gen, epoch, owner, claim and protocol (while owned), n, hi, expiry, deadline (while detached),
    will_delay, direct, counted (by older releases), stamp, bytes; `f:<filter>` -> "stamp:options",
    `r:<filter>` -> cursor of a replay of retained messages."""
    return f"{prefix}{{{bucket}}}:s:{escape(client_id)}"


def queue(prefix: str, bucket: int, client_id: str) -> str:
    """Stream, ids `<gen>-<n>`, one field `p` (`entry.unpack_entry`). Deleted whenever it is empty."""
    return f"{prefix}{{{bucket}}}:q:{escape(client_id)}"


def aside(prefix: str, bucket: int, client_id: str) -> str:
    """Stream: entries of a session that is being imported, which become its queue. One hour."""
    return f"{prefix}{{{bucket}}}:aside:{escape(client_id)}"


def released(prefix: str, bucket: int, client_id: str) -> str:
    """Sorted set: numbers of outbound QoS 2 entries in their PUBREL phase."""
    return f"{prefix}{{{bucket}}}:rel:{escape(client_id)}"


def receiving(prefix: str, bucket: int, client_id: str) -> str:
    """Hash: packet id of an inbound QoS 2 exchange -> "<routed 0|1, in doubt 2|3><time ms>:<token>"."""
    return f"{prefix}{{{bucket}}}:rx:{escape(client_id)}"


def once(prefix: str, bucket: int, token: bytes) -> bytes:
    """Set: who of this bucket has the message of this token: `s:<client>`, `g:<group/filter>`, `r`
    (retained). It has a TTL."""
    return f"{prefix}{{{bucket}}}:once:".encode() + token


def share(prefix: str, bucket: int, name: str) -> str:
    """Stream: messages of the shared subscription `group/filter`; consumer group `members`. It has a TTL."""
    return f"{prefix}{{{bucket}}}:share:{escape(name)}"


def share_members(prefix: str, bucket: int, name: str) -> str:
    """Hash: members of it that are connected, packed; `seq`, `given`. It has a TTL."""
    return f"{prefix}{{{bucket}}}:member:{escape(name)}"


def exclusive(prefix: str, bucket: int) -> str:
    """Hash: filter of an exclusive subscription -> "<epoch>:<client>" of who has it."""
    return f"{prefix}{{{bucket}}}:exclusive"


def will(prefix: str, bucket: int, client_id: str, epoch: int) -> str:
    """String: the will of one connection (`records.unpack_will`)."""
    return f"{prefix}{{{bucket}}}:will:{escape(client_id)}:{epoch}"


def due_wills(prefix: str, bucket: int, client_id: str) -> str:
    """Set: epochs of the client's wills that are to be published and have not been removed."""
    return f"{prefix}{{{bucket}}}:wills:{escape(client_id)}"


def due(prefix: str, bucket: int) -> str:
    """Sorted set: deadlines in ms of Redis time. `s:<client>` session expiry, `w:<client>:<epoch>` will,
    `r:<topic>` expiry of a retained message, `d:<id>:<client>` delayed message. A score is moved ahead while
    somebody has it leased."""
    return f"{prefix}{{{bucket}}}:due"


def delayed(prefix: str, bucket: int, client_id: str) -> str:
    """Hash: id -> a message of the client that is to be published later (`records.unpack_will`)."""
    return f"{prefix}{{{bucket}}}:delayed:{escape(client_id)}"


def ended(prefix: str, bucket: int, client_id: str) -> str:
    """String: rows of a session that has just ended, for a call that is sent again. One minute."""
    return f"{prefix}{{{bucket}}}:ended:{escape(client_id)}"


def last_replay(prefix: str, bucket: int, client_id: str) -> str:
    """String: answer to the last page of a replay, for a call that is sent again. One minute."""
    return f"{prefix}{{{bucket}}}:replay:{escape(client_id)}"


def owned(prefix: str, bucket: int, incarnation: str) -> str:
    """Set: client ids of this bucket that the node owns."""
    return f"{prefix}{{{bucket}}}:n:{escape(incarnation)}"


def bell(prefix: str, bucket: int, incarnation: str) -> str:
    """Set: what the node should look at: `s:<client>` has new entries, `kick:<epoch>:<client>` was taken."""
    return f"{prefix}{{{bucket}}}:bell:{escape(incarnation)}"


def tombstone(prefix: str, bucket: int | str, incarnation: str) -> str:
    """String: this incarnation has been declared dead, its calls are refused."""
    return f"{prefix}{{{bucket}}}:gone:{escape(incarnation)}"


def retained(prefix: str, bucket: int) -> str:
    """Hash: topic -> "<deadline ms or 0>:<record>" (`records.unpack_retained`)."""
    return f"{prefix}{{{bucket}}}:retained"


def retained_index(prefix: str, bucket: int) -> str:
    """Sorted set, all scores 0: the topics of `retained`, levels joined by U+0000."""
    return f"{prefix}{{{bucket}}}:retained:index"


def letters(prefix: str, bucket: int) -> str:
    """Stream, capped: dead letters (client, topic, reason); the id is the time."""
    return f"{prefix}{{{bucket}}}:letters"


def events(prefix: str, bucket: int, client_id: str) -> str:
    """String: what has happened to a client of late, the newest first (`events.unpack_events`). It has a
    TTL."""
    return f"{prefix}{{{bucket}}}:events:{escape(client_id)}"


def subscriptions(prefix: str, shard: int) -> str:
    """Hash: `filter \\0 client` -> "stamp:options"; what a starting node loads."""
    return f"{prefix}{{m}}:subs:{shard}"


def inbox(prefix: str, incarnation: str) -> str:
    """Stream: messages and commands for a node, one field `p` (`cluster.inbox`). Beside it `inbox:bytes`, the
    size of what is in there."""
    return f"{prefix}{{{escape(incarnation)}}}:inbox"


def answers(prefix: str, question_id: str) -> str:
    """Stream: what nodes say to a question, fields `node` and `answer` (JSON). It has a TTL."""
    return f"{prefix}{{m}}:answers:{question_id}"


def tap(prefix: str, tap_id: str) -> str:
    """Stream, capped: what nodes tell of what happens, for somebody who watches (`taps`). It has a TTL."""
    return f"{prefix}{{m}}:tap:{tap_id}"


def trace(prefix: str, trace_id: str) -> str:
    """String: what a trace is of, JSON. It has a TTL, which is the time of the trace."""
    return f"{prefix}{{m}}:trace:{trace_id}"


def messages_channel(prefix: str, incarnation: str) -> str:
    """Channel: messages at QoS 0 for the clients of a node."""
    return f"{prefix}{{{escape(incarnation)}}}:messages"


def interest_channel(prefix: str) -> str:
    """Channel: changes of what nodes are interested in that are not in the change log."""
    return f"{prefix}{{m}}:interest"


def info(prefix: str) -> str:
    """Hash: node incarnation -> what it says of itself, JSON."""
    return f"{prefix}{{m}}:info"


def interest(prefix: str, incarnation: str) -> str:
    """Hash: `<kind>:<filter>` of what the node's clients want. Kind 1: direct subscribers at QoS 1 and 2, in
    the change log too; 0: subscribers at QoS 0; p: persistent ones at QoS 1 and 2 that are connected."""
    return f"{prefix}{{m}}:interest:{escape(incarnation)}"


def change_log(prefix: str) -> str:
    """Stream, ids `<term>-<n>`, capped: changes of subscriptions and interest, one field `c`."""
    return f"{prefix}{{m}}:log"


def version(prefix: str) -> str:
    """String `<term>.<n>`: the last entry of the change log."""
    return f"{prefix}{{m}}:ver"


def schema(prefix: str) -> str:
    """Integer: version of the key schema; a node refuses a newer one."""
    return f"{prefix}{{m}}:schema"


def migration(prefix: str) -> str:
    """String: how far the step from one version to the next has come, "<version> <cursor>"."""
    return f"{prefix}{{m}}:migration"


def rights(prefix: str, nonce: str, slot: int | str = META_SLOT) -> str:
    """String: what a node tries its rights at when it starts; also a channel. Lives for that moment. On a
    Redis Cluster there is one for each primary."""
    return f"{prefix}{{{slot}}}:rights:{nonce}"


def fence(prefix: str, bucket: int | str, node: str, level: str) -> str:
    """String: written by a node that wants to know whether replicas, or the disk, have what was written
    before (`confirm`). It has a TTL."""
    return f"{prefix}{{{bucket}}}:fence:{escape(node)}:{level}"


def nodes(prefix: str) -> str:
    """Sorted set: node incarnation -> the last tick at which it was seen."""
    return f"{prefix}{{m}}:nodes"


def turn(prefix: str, chore: str) -> str:
    """String: who does what one process of all has to do. It has a TTL."""
    return f"{prefix}{{m}}:turn:{chore}"


def tick(prefix: str) -> str:
    """Integer: the cluster's heartbeat."""
    return f"{prefix}{{m}}:tick"


def users(prefix: str) -> str:
    """Hash: user name -> versions, times and record (`cluster.store.users`)."""
    return f"{prefix}{{m}}:users"


def users_index(prefix: str) -> str:
    """Sorted set, all scores 0: the names in `users`."""
    return f"{prefix}{{m}}:users:index"


def users_log(prefix: str) -> str:
    """Stream, ids `0-<version>`, capped: names of users that were changed, one field `n`."""
    return f"{prefix}{{m}}:users:log"


def users_version(prefix: str) -> str:
    """Integer: how many changes of users there were."""
    return f"{prefix}{{m}}:users:ver"


def users_secret(prefix: str) -> str:
    """String: what is said of users that there aren't is made of it."""
    return f"{prefix}{{m}}:users:secret"


def rules(prefix: str) -> str:
    """Hash: `version`, and `text` if there are rules that all nodes follow."""
    return f"{prefix}{{m}}:rules"


def alarms(prefix: str) -> str:
    """Hash: `<node>/<name>` -> an alarm that is raised, JSON (`cluster.alarms`). It has a TTL."""
    return f"{prefix}{{m}}:alarms"


def bans(prefix: str) -> str:
    """Hash: who is banned, `client:<id>`, `user:<name>`, `address:<address or network>` or
    `pair:<address> <client id>` -> record (`bans.unpack`)."""
    return f"{prefix}{{m}}:bans"


def bans_until(prefix: str) -> str:
    """Sorted set: those of them that end by themselves, and when, in ms of Redis time."""
    return f"{prefix}{{m}}:bans:until"


def ban_patterns(prefix: str) -> str:
    """Set: those of them in which `*` stands for any characters."""
    return f"{prefix}{{m}}:bans:patterns"


def ban_version(prefix: str) -> str:
    """Integer: how often the bans have changed."""
    return f"{prefix}{{m}}:bans:ver"


def bans_channel(prefix: str) -> str:
    """Channel: each change of the bans, with its number."""
    return f"{prefix}{{m}}:bans:changes"
