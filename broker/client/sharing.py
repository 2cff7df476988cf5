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
from broker.session import Delivery, SharedDelivery
from cluster.store import inbox_records, inboxes, keys, queues, receive, shares
from cluster.store.entry import pack_entry, pack_head
from cluster.store.errors import RedisFull
from cluster.store.lane import Reply, Request
from cluster.store.records import Options
from cluster.store.reply import as_int, as_list
from cluster.store.shares import NOTHING_GIVEN, Given

_LOOK_SECONDS = 1.0
_LOOKS_AT_ONCE = 16  # groups in one call: about a millisecond of Redis
_APPENDED, _REFUSED, _DROPPED_NEW = 0, 1, 3

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


def rejoin_groups(client: Client) -> None:
    """The groups may have forgotten this member, or what it is done with."""
    for membership in client.memberships.values():
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
        before = membership.last or known  # it may have asked twice
        membership.last = last
        membership.before = before
        if before:
            _tell_settled(hub, membership, had)
        for id, entry in had:
            if _place(id) > _place(before):
                _deliver(hub, membership, id, entry)
        early, membership.early = membership.early, []
        on_given(hub, [(name, each) for each in (*given, *early)])

    work = membership.session.outbound.shared
    if work is not None:  # what it is done with before the group answers comes from there, as well
        membership.kept |= work.queued(name)
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


def _tell_settled(hub: Hub, membership: Membership, had: Sequence[tuple[str, bytes]]) -> None:
    """What the member had been given before it joined again, and is done with: that this was said is lost, as
    another primary has come. Else it would keep its places, and go to others when the member leaves."""
    name = membership.name
    held = _held_by(membership)
    settled = [
        id
        for id, entry in had
        if _place(id) <= _place(membership.before) and id not in held and _read(name, entry) is not None
    ]
    work = membership.session.outbound.shared
    queued = len(work.queued(name)) if work is not None else 0
    if settled or queued:  # the group counts what it has given; what is in the queue takes places, too
        _ask(hub, name, shares.done(name, membership.member, settled, False, -queued, hub.settings.sharing))


def _held_by(membership: Membership) -> set[str]:
    work = membership.session.outbound.shared
    held = work.held(membership.name) if work is not None else set()
    return held | membership.queueing


def _is_held(hub: Hub, membership: Membership, id: str) -> bool:
    """Whether the member has this message already: that it was given is lost, so it was given again. Of what
    came into the queue of its session the group is told so again, too."""
    if not membership.before:
        return False
    if _place(id) > _place(membership.before):
        membership.before = ""
        membership.kept = set()
        return False
    if id in membership.kept:  # if it takes a place, it is counted among those of the queue
        done = shares.done(membership.name, membership.member, [id], False, 0, hub.settings.sharing)
        _ask(hub, membership.name, done)
        return True
    return id in _held_by(membership)


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
        _queue_owed(hub, name, member, id, entry)
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


def _read(name: str, entry: bytes) -> Delivery | None:
    """None for a message that can't be read, as it is of a newer release: it stays."""
    try:
        return entry_delivery(0, 0, entry)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        logger.error("a message of a group can't be read: %s", error, extra={"group": name})
        return None


def _deliver(hub: Hub, membership: Membership, id: str, entry: bytes) -> None:
    delivery = _read(membership.name, entry)
    if delivery is None or _is_held(hub, membership, id):
        return
    options = membership.options
    delivery.qos = min(delivery.qos, options.qos)
    delivery.retain = delivery.retain and options.retain_as_published
    if options.subscription_identifier:
        delivery.subscription_identifiers = (options.subscription_identifier,)
    if delivery.qos == 2 and membership.session.queued is not None:
        _queue(hub, membership.name, membership.member, id, delivery, membership)
    else:
        membership.session.outbound.deliver_shared(SharedDelivery(membership.name, id, delivery))


def _queue_owed(hub: Hub, name: str, member: str, id: str, entry: bytes) -> None:
    """A message that belongs to a session which is not connected as this member."""
    delivery = _read(name, entry)
    if delivery is None:
        return
    subscriber = hub.index.subscribers.get(shares.client_of(member))
    held = subscriber.filters.get(SHARE_PREFIX + name) if subscriber is not None else None
    if held is not None:  # else it will be refused
        delivery.qos = min(delivery.qos, max(held.qos, 1))
        delivery.retain = delivery.retain and held.retain_as_published
        delivery.subscription_identifiers = held.subscription_identifiers
    _queue(hub, name, member, id, delivery, None)


def _queue(hub: Hub, name: str, member: str, id: str, delivery: Delivery, here: Membership | None) -> None:
    """Puts a message into the queue of its member's session, then takes it from the group; `here`: the
    session is connected to this node."""
    client_id = shares.client_of(member)
    bucket = keys.bucket_of(client_id)
    message = delivery.message
    head = pack_head(delivery.qos, delivery.retain, delivery.subscription_identifiers)
    entry = pack_entry(head, message.topic, message.payload, message.properties, message.deadline_ms)
    token = f"share:{name}:{id}".encode()
    ttl_ms = hub.settings.qos2_retry_limit_seconds * 1000
    entries = [SHARE_PREFIX + name, entry, queues.WHOLE, token, ttl_ms]
    if here is not None:
        here.queueing.add(id)

    def queued(reply: Reply) -> None:
        if isinstance(reply, RedisFull) and here is not None:
            here.refused.append((id, delivery))  # tried again with the next look; that names what is owed
            return
        if here is not None:
            here.queueing.discard(id)
        if isinstance(reply, Exception):
            _log_failure(name, reply)
            return
        gen, n_before, _, statuses, dropped, *told = as_list(reply)
        if dropped:
            hub.router.statistics.drop_oldest(client_id, as_int(dropped), told[0] if told else [])
        status = as_int(as_list(statuses)[0]) if statuses else _APPENDED
        receiver = here.session.queued if here is not None else None
        if status == _REFUSED and gen:  # unsubscribed: it was never sent, so others may have it
            _ask(hub, name, shares.give_back(name, member, [id], hub.settings.sharing))
        else:
            if status == _REFUSED:  # [MQTT-4.8.2-5]
                reason = "shared_session_ended"
                hub.drops.add(bucket, client_id, message.topic, reason, 2, message.properties)
            elif status == _DROPPED_NEW:
                hub.router.statistics.drop_new(client_id, message, delivery.qos)
            elif receiver is not None and status == _APPENDED:
                delivery.gen, delivery.n = as_int(gen), as_int(n_before) + 1
                receiver.queued_shared(name, delivery.n, id)
                receiver.hold(message.topic)
                receiver.take(delivery)
            elif receiver is not None:  # by a call whose answer got lost, perhaps
                receiver.look(as_int(n_before))
            keeps_place = receiver is not None and status == _APPENDED
            _ask(hub, name, shares.done(name, member, [id], keeps_place, 0, hub.settings.sharing))
        hub.committer.request(receive.settle_tokens(bucket, [token]), _ignore_reply, frees_memory=True)
        hub.after_input()

    limits, tells = hub.settings, hub.router.statistics.tells
    request = queues.enqueue(
        bucket, client_id, limits.queue_limit, limits.drop_oldest, entries, None, limits.queue_bytes, tells
    )
    hub.committer.request(request, queued)


def _ask(hub: Hub, name: str, request: Request) -> None:
    """Sends a request whose answer is what members were given."""

    def told(reply: Reply) -> None:
        if isinstance(reply, Exception):
            _log_failure(name, reply)
        else:
            on_given(hub, [(name, each) for each in shares.parse_given(reply)])

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
        for id, delivery in refused:
            _queue(hub, name, membership.member, id, delivery, membership)

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
            _queue_owed(hub, name, member, id, entry)
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
