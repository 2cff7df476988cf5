"""Wills and delayed messages that are due: routed under their token, and only then forgotten by the store."""

from collections.abc import Callable, Sequence

from broker.auth import Rights
from broker.client.hub import Hub
from broker.client.permitting import may_still_publish
from broker.observability.logs import get_logger
from broker.routing import Publication
from broker.session import WillMessage
from cluster.store import deadlines, keys, records
from cluster.store.deadlines import DueWill
from cluster.store.lane import Reply

logger = get_logger(__name__)


class _Routing:
    """Wills on their way; `then` is called when all of them have been routed."""

    __slots__ = ("_hub", "_left", "_then", "_wills")

    def __init__(
        self, hub: Hub, wills: Sequence[tuple[DueWill, WillMessage]], then: Callable[[], None]
    ) -> None:
        self._hub = hub
        self._wills = wills
        self._left = len(wills)
        self._then = then

    def settled(self, publication: Publication) -> None:
        """One of them is stored wherever it had to be. A kill before this makes the next node send it again,
        under the same token; a kill after it can't."""
        self._left -= 1
        if self._left:
            return
        for due, will in self._wills:
            bucket = keys.bucket_of(will.client_id)
            self._hub.committer.request(deadlines.done(bucket, [due.member]), _log_failure, frees_memory=True)
        self._then()


def route_wills(
    hub: Hub, due: Sequence[DueWill], then: Callable[[], None], rights: Rights | None = None
) -> None:
    """Publishes wills that this node has leased, then tells the store, then calls `then`. `rights` are those
    of the client, where they are known."""
    if not due:
        then()
        return
    wills = [(will, _unpack(will.record)) for will in due]
    if rights is not None:
        denied = [pair for pair in wills if not may_still_publish(hub, rights, pair[1])]
        _give_up(hub, denied)
        wills = [pair for pair in wills if pair not in denied]
        if not wills:
            then()
            return
    routing = _Routing(hub, wills, then)
    ttl_ms = hub.settings.qos2_retry_limit_seconds * 1000
    for will, message in wills:
        if deadlines.is_delayed(will):
            hub.counters.delayed_published += 1
        else:
            hub.counters.wills_fired += 1
        publication = Publication(message.message(hub.clock.now_ms, will.token, ttl_ms), None, origin=routing)
        hub.router.publish(publication)
    hub.after_input()


def _give_up(hub: Hub, wills: Sequence[tuple[DueWill, WillMessage]]) -> None:
    """The client may not publish them any more."""
    for due, will in wills:
        bucket = keys.bucket_of(will.client_id)
        hub.drops.add(bucket, will.client_id, will.topic, "not_authorized", will.qos, will.properties)
        hub.committer.request(deadlines.done(bucket, [due.member]), _log_failure, frees_memory=True)


def _unpack(record: bytes) -> WillMessage:
    will = records.unpack_will(record)
    return WillMessage(
        will.client_id,
        will.topic,
        will.payload,
        will.qos,
        will.retain,
        will.properties,
        0,
        will.message_expiry_seconds,
    )


def _log_failure(reply: Reply) -> None:
    if isinstance(reply, Exception):
        logger.error("a will that was sent could not be removed: %s", reply)
