"""Members of shared subscriptions that are connected here: they join, get what the group gives them, and
leave.

A group (`cluster.store.shares`) gives each message to one member, and keeps it until that member is done with
it. Who has asked for it learns what was given; if the member is connected to another node, that one is told
by its inbox. That is only a hint: each message names the one that the member was given before, so a gap
shows, and once a second every group is looked at.

At QoS 2 a persistent session must end what has been begun, on any node and after any time [MQTT-4.8.2-4]. So
the message goes into its own queue, with a token that makes sure of once, before the group forgets it.
"""

from collections.abc import Callable, Sequence
from functools import partial

import anyio

from broker.client.client import Client
from broker.client.hub import Hub
from broker.client.members import Membership
from broker.client.wanting import join
from broker.mqtt import SHARE_PREFIX, is_shared
from broker.observability.logs import get_logger
from broker.routing.asking import ReplyHandler
from broker.routing.writes import entry_delivery
from broker.session import SharedDelivery
from cluster.store import inbox_records, inboxes, keys, queues, receive, records, shares
from cluster.store.errors import RedisFull
from cluster.store.lane import Reply
from cluster.store.records import Options
from cluster.store.reply import as_int, as_list
from cluster.store.shares import NOTHING_GIVEN, Given

_LOOK_SECONDS = 1.0
_LOOKS_AT_ONCE = 16  # groups in one call: about a millisecond of Redis
_WHOLE = -1
_APPENDED, _REFUSED = 0, 1

logger = get_logger(__name__)


# Coming and going


def join_group(client: Client, filter: str, options: Options) -> None:
    """The client has this shared subscription: gives it its part from now on."""
    session = client.session
    if session is None or client.is_closed:
        return
    name = filter.removeprefix(SHARE_PREFIX)
    membership = client.memberships.get(name)
    if membership is None:
        membership = client.memberships[name] = Membership(session, name, options)
        client.hub.members.add(membership)
    membership.options = options
    _ask_to_join(client.hub, membership)


def leave_unsubscribed(client: Client, filters: Sequence[str], then: Callable[[], None]) -> None:
    """The client has unsubscribed. `then`: it is given nothing more [MQTT-3.10.4-2]. What it was given and
    may not have any more would be lost."""
    names = [filter.removeprefix(SHARE_PREFIX) for filter in filters if is_shared(filter)]
    left = [client.memberships.pop(name, None) for name in names]
    done = join(1 + len(left), then)
    for membership in left:
        if membership is None:
            done(None)
        else:
            _leave(client.hub, membership, False, done)
    done(None)


def leave_groups(client: Client) -> None:
    """The connection has ended. If somebody else has the session now, it is a member by that connection."""
    memberships = list(client.memberships.values())
    client.memberships.clear()
    for membership in memberships:
        if client.is_taken_over and membership.session.queued is not None:
            client.hub.members.remove(membership)
        else:
            _leave(client.hub, membership, membership.session.queued is None, _ignore_reply)


def end_memberships(hub: Hub, client_id: str, rows: Sequence[tuple[str, int]]) -> None:
    """A persistent session has ended, with these subscriptions and their stamps: what it had at QoS 2 is
    given to nobody else [MQTT-4.8.2-5]. A stamp is from the same counter as epochs, so a newer session is
    left alone."""
    member = shares.member_name(client_id, 0)
    for filter, stamp in rows:
        if is_shared(filter):
            name = filter.removeprefix(SHARE_PREFIX)
            request = shares.leave(name, member, stamp, True, hub.settings.sharing)
            hub.committer.request(
                request, partial(_left, hub, name, member, _ignore_reply), frees_memory=True
            )


def _ask_to_join(hub: Hub, membership: Membership) -> None:
    name = membership.name

    def joined(reply: Reply) -> None:
        if isinstance(reply, Exception):
            _log_failure(name, reply)
            return
        answer = shares.parse_join(reply)
        if answer is None:
            hub.members.remove(membership)
            return
        had, last, given = answer
        membership.last = last
        for id, entry in had:
            if _place(id) > _place(known):
                _deliver(hub, membership, id, entry)
        early, membership.early = membership.early, []
        on_given(hub, [(name, each) for each in (*given, *early)])

    known, membership.last = membership.last, ""
    window = min(membership.session.outbound.window, hub.settings.shared_inflight_limit)
    request = shares.join(
        name,
        membership.member,
        membership.session.epoch,
        window,
        membership.options.qos,
        hub.settings.sharing,
    )
    hub.committer.request(request, joined, frees_memory=True)


def _leave(hub: Hub, membership: Membership, has_ended: bool, then: ReplyHandler) -> None:
    if not hub.members.remove(membership):
        then(None)
        return
    name, member = membership.name, membership.member
    request = shares.leave(name, member, membership.session.epoch, has_ended, hub.settings.sharing)
    hub.committer.request(request, partial(_left, hub, name, member, then), frees_memory=True)


def _left(hub: Hub, name: str, member: str, then: ReplyHandler, reply: Reply) -> None:
    if isinstance(reply, Exception):
        _log_failure(name, reply)
        then(reply)
        return
    owed, given = shares.parse_leave(reply)
    for id, entry in owed:
        _queue(hub, name, member, id, entry, None)
    on_given(hub, [(name, each) for each in given])
    then(reply)


# What members are given


def on_given(hub: Hub, given: Sequence[tuple[str, Given]]) -> None:
    """Groups have given these messages to members, who are here or on other nodes."""
    elsewhere: dict[tuple[str, str, str], list[tuple[str, str, bytes]]] = {}
    for name, each in given:
        if each.node == hub.incarnation:
            _arrive(hub, name, each)
        else:
            messages = elsewhere.setdefault((each.node, name, each.member), [])
            messages.append((each.before, each.id, each.entry))
    for (node, name, member), messages in elsewhere.items():
        record = inbox_records.pack_shared(name, member, messages)
        hub.committer.request(inboxes.send(node, record), _ignore_reply)  # a hint: nobody waits for it
    hub.after_input()


def on_shared(hub: Hub, record: inbox_records.SharedGiven) -> None:
    """Another node tells what a member here has been given."""
    for before, id, entry in record.messages:
        _arrive(hub, record.name, Given(record.member, hub.incarnation, before, id, entry))


def _arrive(hub: Hub, name: str, given: Given) -> None:
    membership = hub.members.find(name, given.member)
    if membership is None:
        return  # it has left: the group has taken it back, or will
    if not membership.last:
        membership.early.append(given)
    elif given.before == membership.last:
        membership.last = given.id
        _deliver(hub, membership, given.id, given.entry)
    elif _place(given.id) > _place(membership.last):  # something before it got lost
        _look(hub, name)


def _deliver(hub: Hub, membership: Membership, id: str, entry: bytes) -> None:
    """Raises nothing: a message that can't be read is of a newer release, and stays."""
    try:
        delivery = entry_delivery(0, 0, entry)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        logger.error("a message of a group can't be read: %s", error, extra={"group": membership.name})
        return
    options = membership.options
    delivery.qos = min(delivery.qos, options.qos)
    if delivery.qos == 2 and membership.session.queued is not None:
        _queue(hub, membership.name, membership.member, id, entry, membership)
        return
    delivery.retain = delivery.retain and options.retain_as_published
    delivery.subscription_identifiers = _identifiers(options.subscription_identifier)
    membership.session.outbound.deliver_shared(SharedDelivery(membership.name, id, delivery))


def _queue(hub: Hub, name: str, member: str, id: str, entry: bytes, here: Membership | None) -> None:
    """Puts a message into the queue of its member's session, then takes it from the group; `here`: the
    session is connected to this node."""
    client_id = shares.client_of(member)
    bucket = keys.bucket_of(client_id)
    packed = _for_queue(hub, client_id, SHARE_PREFIX + name, entry)
    token = f"share:{name}:{id}".encode()
    ttl_ms = hub.settings.qos2_retry_limit_seconds * 1000
    entries = [SHARE_PREFIX + name, packed, _WHOLE, token, ttl_ms]

    def queued(reply: Reply) -> None:
        if isinstance(reply, RedisFull) and here is not None:
            here.refused.append(
                (id, entry)
            )  # tried again with the next look; what is owed is named again by that
            return
        if isinstance(reply, Exception):
            _log_failure(name, reply)
            return
        gen, n_before, _, statuses, _ = as_list(reply)
        status = as_int(as_list(statuses)[0]) if statuses else _APPENDED
        if status == _REFUSED:  # it has unsubscribed, or ended
            hub.drops.add(bucket, client_id, records.unpack_entry(entry).topic, "shared_session_ended")
        receiver = here.session.queued if here is not None else None
        if receiver is not None and status == _APPENDED:
            n = as_int(n_before) + 1
            receiver.queued_shared(name, n)
            receiver.take(entry_delivery(as_int(gen), n, packed))
        elif receiver is not None:  # by a call whose answer got lost, perhaps
            receiver.look(as_int(n_before))
        _done(hub, name, member, id, receiver is not None and status == _APPENDED)
        hub.committer.request(receive.settle_tokens(bucket, [token]), _ignore_reply, frees_memory=True)
        hub.after_input()

    request = queues.enqueue(bucket, client_id, hub.settings.queue_limit, hub.settings.drop_oldest, entries)
    hub.committer.request(request, queued)


def _for_queue(hub: Hub, client_id: str, filter: str, entry: bytes) -> bytes:
    """A message of a group as its member's own subscription wants it."""
    message = records.unpack_entry(entry)
    subscriber = hub.index.subscribers.get(client_id)
    held = subscriber.filters.get(filter) if subscriber is not None else None
    retain = message.retain and held is not None and held.retain_as_published
    head = records.pack_head(2, retain, held.subscription_identifiers if held is not None else ())
    return head + records.pack_body(message.topic, message.payload, message.properties, message.deadline_ms)


def _identifiers(identifier: int) -> tuple[int, ...]:
    return (identifier,) if identifier else ()


def _done(hub: Hub, name: str, member: str, id: str, keeps_place: bool) -> None:
    def told(reply: Reply) -> None:
        if isinstance(reply, Exception):
            _log_failure(name, reply)
        else:
            on_given(hub, [(name, each) for each in shares.parse_given(reply)])

    request = shares.done(name, member, [id], keeps_place, 0, hub.settings.sharing)
    hub.committer.request(request, told, frees_memory=True)


# What was missed


async def look_now_and_then(hub: Hub) -> None:
    """Looks at the groups of members here, each once a second, until cancelled."""
    while True:
        names = list(hub.members.groups)
        pause = _LOOK_SECONDS / (len(names) // _LOOKS_AT_ONCE + 1)
        for first in range(0, max(len(names), 1), _LOOKS_AT_ONCE):
            await anyio.sleep(pause)
            for name in names[first : first + _LOOKS_AT_ONCE]:
                _look(hub, name)


def _look(hub: Hub, name: str) -> None:
    members = hub.members.groups.get(name, {})
    known = [(membership.member, membership.last) for membership in members.values()]
    for membership in members.values():
        refused, membership.refused = membership.refused, []
        for id, entry in refused:
            _queue(hub, name, membership.member, id, entry, membership)

    def looked(reply: Reply) -> None:
        if isinstance(reply, Exception):
            _log_failure(name, reply)
            return
        look = shares.parse_look(reply)
        if name in hub.members.groups:
            hub.members.waiting[name] = (look.waiting - look.pending, look.pending)
        for member in look.unknown:
            membership = hub.members.find(name, member)
            if membership is not None and membership.last:
                _ask_to_join(hub, membership)
        for member, id, entry in look.missed:
            membership = hub.members.find(name, member)
            if membership is not None and membership.last and _place(id) > _place(membership.last):
                membership.last = id
                _deliver(hub, membership, id, entry)
        for member, id, entry in look.owed:
            _queue(hub, name, member, id, entry, None)
        on_given(hub, [(name, each) for each in look.given])

    if members:
        hub.committer.request(shares.look(name, known, hub.settings.sharing), looked, frees_memory=True)


def _place(id: str) -> tuple[int, int]:
    milliseconds, _, number = (id or NOTHING_GIVEN).partition("-")
    return int(milliseconds), int(number)


def _ignore_reply(_: Reply) -> None:
    """A lost hint costs a second; a token that is not cut ends by itself."""


def _log_failure(name: str, error: Exception) -> None:
    logger.error("shared subscription: %s", error, extra={"group": name, "kind": type(error).__name__})
