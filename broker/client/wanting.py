"""What the other nodes must know of a client's subscriptions, so that its messages come here.

A client counts with `<kind>:<filter>` for each subscription (`broker.routing.index` has the kinds). The store
is told when the first client of the node wants a field, and again, lazily, when nobody does any more."""

from collections.abc import Callable, Iterable, Sequence

from broker.client.client import Client
from broker.client.hub import Hub
from broker.observability.logs import get_logger
from broker.routing.subscription import (
    AT_MOST_ONCE_INTEREST,
    DIRECT_INTEREST,
    PERSISTENT_INTEREST,
    READS_BURSTS,
)
from cluster.store import subscriptions
from cluster.store.lane import Reply

_KINDS = (DIRECT_INTEREST, AT_MOST_ONCE_INTEREST, PERSISTENT_INTEREST)

logger = get_logger(__name__)


def field_of(filter: str, qos: int, is_direct: bool) -> str:
    """What a subscription counts as."""
    if qos == 0:
        return f"{AT_MOST_ONCE_INTEREST}:{filter}"
    return f"{DIRECT_INTEREST if is_direct else PERSISTENT_INTEREST}:{filter}"


def tell_what_is_read(hub: Hub) -> None:
    """Tells the other nodes what this one reads, as older releases do not; once."""

    def told(reply: Reply) -> None:
        if isinstance(reply, Exception):
            logger.error("the other nodes don't know what this one reads: %s", reply)
        else:
            hub.interest.confirm(READS_BURSTS)

    hub.interest.add(READS_BURSTS)
    hub.committer.request(
        subscriptions.interest(hub.incarnation, [READS_BURSTS], []), told, frees_memory=True
    )


def want(client: Client, fields: Iterable[str], then: Callable[[Exception | None], None]) -> None:
    """Counts the client for these fields; `then` is called when the store knows of all of them, or with what
    went wrong, and then they don't count."""
    hub = client.hub
    wanted = list(dict.fromkeys(fields))
    added = [field for field in wanted if field not in client.interests]
    client.interests.update(added)
    for field in added:
        hub.interest.add(field)
    # Also what an earlier SUBSCRIBE of this client is only about to tell.
    unknown = [field for field in wanted if not hub.interest.is_stored(field)]
    if not unknown:
        then(None)
        return

    def told(reply: Reply) -> None:
        if isinstance(reply, Exception):
            logger.error("interest not stored: %s", reply, extra={"client_id": client.client_id})
            _drop(client, added)
            then(reply)
            return
        for field in unknown:
            hub.interest.confirm(field)
        then(None)

    hub.committer.request(subscriptions.interest(hub.incarnation, unknown, []), told)


def join(count: int, then: Callable[[], None]) -> Callable[[object], None]:
    """To be called `count` times; the last time calls `then`."""
    left = count

    def done(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            then()

    return done


def want_only(client: Client, filter: str, field: str | None) -> None:
    """The client has no other interest in this filter than `field`; None: none at all."""
    others = [f"{kind}:{filter}" for kind in _KINDS]
    _drop(client, [other for other in others if other != field])


def want_nothing(client: Client) -> None:
    """The connection has ended."""
    _drop(client, list(client.interests))


def withdraw_unused(hub: Hub) -> None:
    """Tells the store which fields nobody here has wanted for a while; to be called now and then."""
    unused = hub.interest.take_unused()
    if unused:
        request = subscriptions.interest(hub.incarnation, [], unused)
        hub.committer.request(request, _log_failure, frees_memory=True)


def _drop(client: Client, fields: Sequence[str]) -> None:
    for field in fields:
        if field in client.interests:
            client.interests.discard(field)
            client.hub.interest.remove(field)


def _log_failure(reply: Reply) -> None:
    if isinstance(reply, Exception):
        logger.error("interest not withdrawn: %s", reply)
