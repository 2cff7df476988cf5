"""Answers who gets a topic, from the index of this node: for `broker.admin.explain`."""

from typing import Final

import anyio.lowlevel
import orjson

from broker.client.facts import FilterFacts, GroupFacts, SubscriberFacts, TopicFacts
from broker.client.hub import Hub
from broker.mqtt import is_exclusive, is_valid_topic_name
from broker.routing import Holders, Subscription
from cluster.questions import QuestionRefused

TOPIC_QUESTION: Final = "explain_topic"
FILTERS: Final = 50
NAMED: Final = 50
"""Sessions of a filter that are named; of others so many are looked at:"""
_LOOKED_AT: Final = 10_000


class LookingUp:
    """Of one node."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def answer(self, argument: bytes) -> TopicFacts:
        """`{"topic": ...}`. Raises QuestionRefused."""
        asked = orjson.loads(argument)
        topic = asked.get("topic") if isinstance(asked, dict) else None
        if not isinstance(topic, str) or not is_valid_topic_name(topic):
            raise QuestionRefused("topic is missing, or no Topic Name")
        index = self._hub.index
        filters = index.filters_for(topic)
        found = []
        for filter in filters[:FILTERS]:
            found.append(self._facts(index.holders(filter, NAMED, _LOOKED_AT)))
            await anyio.lowlevel.checkpoint()
        term, _, n = index.version.partition(".")
        return TopicFacts(len(filters), found, (int(term or 0), int(n or 0)))

    def _facts(self, holders: Holders) -> FilterFacts:
        """Of what is held, other nodes and groups are few; the rest are clients of this node."""
        nodes: dict[str, None] = {}
        groups: list[GroupFacts] = []
        direct: list[Subscription] = []
        for subscription in holders.held:
            subscriber = subscription.subscriber
            if subscriber.node:
                nodes[subscriber.node] = None
            elif subscriber.share is not None:
                waiting, given = self._hub.members.waiting.get(subscriber.share.name, (None, None))
                members = len(subscriber.share.members)
                groups.append(GroupFacts(subscriber.share.name, members, waiting, given))
            else:
                direct.append(subscription)
        return FilterFacts(
            holders.filter,
            holders.persistent_count,
            [_subscriber(each) for each in holders.persistent],
            len(direct) + holders.held_count - len(holders.held),
            [_subscriber(each) for each in direct[:NAMED]],
            groups[:NAMED],
            list(nodes),
        )


def _subscriber(subscription: Subscription) -> SubscriberFacts:
    return SubscriberFacts(
        subscription.subscriber.client_id,
        subscription.qos,
        subscription.no_local,
        is_exclusive(subscription.filter),
    )
