"""The way of a batch of Application Messages through session and store, and the subscription index."""

from broker.routing.commit import GroupCommit
from broker.routing.committer import Committer
from broker.routing.committer import Surroundings as CommitSurroundings
from broker.routing.fields import arrival
from broker.routing.holders import Holders
from broker.routing.index import SubscriptionIndex
from broker.routing.ingress import Ingress
from broker.routing.interest import Interest
from broker.routing.publication import Publication
from broker.routing.router import Router
from broker.routing.rows import apply_changes, load_index, load_unversioned
from broker.routing.settling import Settling, TopicLevels
from broker.routing.subscription import Subscriber, Subscription
from broker.routing.timing import Timing
from broker.routing.transit import Transit, take_handover
from broker.routing.writes import SessionWrites

__all__ = [
    "CommitSurroundings",
    "Committer",
    "GroupCommit",
    "Holders",
    "Ingress",
    "Interest",
    "Publication",
    "Router",
    "SessionWrites",
    "Settling",
    "Subscriber",
    "Subscription",
    "SubscriptionIndex",
    "Timing",
    "TopicLevels",
    "Transit",
    "apply_changes",
    "arrival",
    "load_index",
    "load_unversioned",
    "take_handover",
]
