"""Exclusive subscriptions, `$exclusive/<filter>`: one client of the whole cluster may have the filter.

It is taken in Redis before the subscription is made, and freed when that has ended. What a killed node did
not free is found out by the next client that wants it: the session of whoever has it is asked for.
"""

from collections.abc import Callable, Iterable, Sequence

from broker.client.client import Client
from broker.client.hub import Hub
from broker.mqtt import is_exclusive, without_exclusive
from broker.observability.logs import get_logger
from broker.session import Session
from cluster.store import exclusive
from cluster.store.exclusive import Holder
from cluster.store.lane import Reply

logger = get_logger(__name__)


def take_exclusive(client: Client, filters: Sequence[str], then: Callable[[set[str]], None]) -> None:
    """Takes those of the filters that are exclusive; `then` gets the ones that are not to be had."""
    session = client.session
    assert session is not None
    wanted = [filter for filter in filters if is_exclusive(filter)]
    refused: set[str] = set()
    left = len(wanted)

    def taken(filter: str, is_ours: bool) -> None:
        nonlocal left
        left -= 1
        if not is_ours:
            refused.add(filter)
        if not left:
            then(refused)

    if not wanted:
        then(refused)
    for filter in wanted:
        _take(client.hub, session, filter, None, taken)


def free_exclusive(
    hub: Hub, client_id: str, epoch: int, filters: Iterable[str], then: Callable[[], None]
) -> None:
    """Frees those of the filters that are exclusive, unless they were taken with a later epoch; then calls
    `then`."""
    held = [without_exclusive(filter) for filter in filters if is_exclusive(filter)]
    requests = exclusive.free(held, client_id, epoch)
    left = len(requests)

    def freed(reply: Reply) -> None:
        nonlocal left
        left -= 1
        if isinstance(reply, Exception):  # the next one who wants it sees that nobody has it
            _log_failure(client_id, reply)
        if not left:
            then()

    if not requests:
        then()
    for request in requests:
        hub.committer.request(request, freed, frees_memory=True)


def retake_exclusive(client: Client, filter: str) -> None:
    """Takes a filter that the client has already, and the store says that another one has it: one that it had
    been taken from, or one that has taken it since that was lost."""

    def taken(refused: set[str]) -> None:
        if refused:
            extra = {"client_id": client.client_id, "filter": filter}
            logger.warning("two clients have an exclusive subscription, as writes were lost", extra=extra)

    if client.session is not None and not client.is_closed:
        take_exclusive(client, [filter], taken)


def _take(
    hub: Hub, session: Session, filter: str, beaten: Holder | None, then: Callable[[str, bool], None]
) -> None:
    def answered(reply: Reply) -> None:
        if isinstance(reply, Exception):
            _log_failure(session.client_id, reply)
            then(filter, False)
            return
        holder = exclusive.parse_take(reply)
        if holder is None:
            then(filter, True)
        elif beaten is not None:  # somebody else was faster
            then(filter, False)
        else:
            hub.committer.request(exclusive.holds(holder, filter), lambda reply: looked(holder, reply))

    def looked(holder: Holder, reply: Reply) -> None:
        if reply is False:
            _take(hub, session, filter, holder, then)
            return
        if isinstance(reply, Exception):
            _log_failure(session.client_id, reply)
        then(filter, False)

    name = beaten.name if beaten is not None else None
    request = exclusive.take(without_exclusive(filter), session.client_id, session.epoch, name)
    hub.committer.request(request, answered)


def _log_failure(client_id: str, error: Exception) -> None:
    logger.error("exclusive subscription: %s", error, extra={"client_id": client_id})
