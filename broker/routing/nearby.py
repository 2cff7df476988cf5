"""Who can be given a message without asking the store: sessions connected here, and at QoS 0 other nodes."""

from collections.abc import Sequence
from typing import Final

from broker.routing.bursts import BURST_FIELDS, Burst
from broker.routing.channel import messages_of
from broker.routing.index import SubscriptionIndex
from broker.routing.subscription import Share, Subscriber, Subscription, without_no_local
from broker.routing.transit import Transit
from broker.session import Message, Session

_TOKENS_REMEMBERED: Final = 1 << 18


class Nearby:
    """Hands messages over, past any queue. `delivered` counts them."""

    __slots__ = ("_delivered", "_index", "_transit", "delivered")

    def __init__(self, index: SubscriptionIndex, transit: Transit) -> None:
        self._index = index
        self._transit = transit
        self.delivered = 0
        self._delivered: dict[bytes, set[str]] = {}  # token -> subscribers that had it, oldest token first

    def publish_at_most_once(self, message: Message, publisher: Session | None) -> None:
        """Delivers a message at QoS 0 to whoever is connected here, and to the nodes that want it. Never
        waits for the store. Without a publisher it is the node's own."""
        client_id = publisher.client_id if publisher is not None else ""
        for target in self._index.match(message.topic):
            subscriber = target.subscriber
            if subscriber.session is not None:
                self.hand_to(subscriber, target, message, 0, client_id)
            elif subscriber.node:
                self._transit.publish(subscriber.node, message)
            elif subscriber.share is not None:
                self.share_at_most_once(subscriber.share, message)

    def deliver_here(self, message: Message, to_direct: bool, at_most_once: bool) -> None:
        """A message from another node: to direct subscribers at QoS 1 and 2, or to those that get it at QoS
        0, or to both. Queues are the business of the node that it came from."""
        self._deliver_to(self._index.match(message.topic), message, to_direct, at_most_once)

    def deliver_bursts(self, bursts: Sequence[object], to_direct: bool) -> None:
        """What has come to this node's inbox, for direct subscribers at QoS 1 and 2; or on its channel.
        Raises what a damaged record leads to."""
        for place in range(0, len(bursts), BURST_FIELDS):
            burst = Burst(bursts, place)
            targets = self._index.match(burst.topic)
            first = _first_here(targets)
            if first is None or first.subscriber.session is None:
                continue
            version = first.subscriber.session.outbound.version
            at_most_once = burst.for_everyone or not to_direct
            for message in burst.messages(version, min(first.qos, burst.qos)):
                self._deliver_to(targets, message, to_direct, at_most_once)

    def _deliver_to(
        self, targets: list[Subscription], message: Message, to_direct: bool, at_most_once: bool
    ) -> None:
        for target in targets:
            subscriber = target.subscriber
            if subscriber.session is None:
                continue
            qos = min(target.qos, message.qos)
            if not (at_most_once if qos == 0 else to_direct and subscriber.is_direct):
                continue
            if message.token and self.had(message.token, subscriber.key):
                continue
            self.hand_to(subscriber, target, message, qos, message.publisher)

    def deliver_channel(self, runs: Sequence[object]) -> None:
        """What has come on this node's channel, for subscribers that get it at QoS 0. Raises what a damaged
        record leads to."""
        messages, shared = messages_of(runs)
        for message in messages:
            self.deliver_here(message, False, True)
        for name, message in shared:
            share = self._index.shares.get(name)
            member = share.next(True) if share is not None else None
            if member is not None:
                self.hand_to(member.subscriber, member, message, 0, message.publisher)

    def hand_to(
        self, subscriber: Subscriber, target: Subscription, message: Message, qos: int, client_id: str
    ) -> None:
        """Gives a message to a session that is connected here, past any queue."""
        if target.no_local and subscriber.client_id == client_id:
            own = without_no_local(target)
            if own is None:
                return
            target = own
            qos = min(target.qos, message.qos)
        receiver = subscriber.session
        if receiver is None:
            return
        self.delivered += 1
        retain = message.retain and target.retain_as_published  # [MQTT-3.3.1-12], [MQTT-3.3.1-13]
        if message.retain:
            receiver.outbound.hear(message.topic)
        if qos == 0:
            receiver.outbound.deliver_at_most_once(message, retain, target.subscription_identifiers)
        elif receiver.direct is not None:
            receiver.direct.deliver(message, qos, retain, target.subscription_identifiers)

    def had(self, token: bytes, key: str) -> bool:
        """Whether a subscriber connected here has had the message of this token; from now on it has.

        What the store remembers for queues, this remembers for what is delivered in memory: a publisher
        that reconnects, or a will that is found twice, must not bring it again.
        """
        keys_of_token = self._delivered.get(token)
        if keys_of_token is None:
            if len(self._delivered) >= _TOKENS_REMEMBERED:
                del self._delivered[next(iter(self._delivered))]
            self._delivered[token] = {key}
            return False
        if key in keys_of_token:
            return True
        keys_of_token.add(key)
        return False

    def share_at_most_once(self, share: Share, message: Message) -> None:
        member = share.next(False)
        if member is None:
            return
        if member.subscriber.node:
            self._transit.publish_shared(member.subscriber.node, share.name, message)
        else:
            self.hand_to(member.subscriber, member, message, 0, message.publisher)


def _first_here(targets: list[Subscription]) -> Subscription | None:
    """The first that is connected here."""
    for target in targets:
        if target.subscriber.session is not None:
            return target
    return None
