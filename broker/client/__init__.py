"""One connected client, and the flows of its packets."""

from broker.client.arriving import on_interest, on_kicked, on_messages, on_records, on_rung
from broker.client.banning import AUTOMATIC, Banning, BanRules
from broker.client.client import Client
from broker.client.closing import disconnect_all, drop_rows, on_failed, on_lost, on_overrun, on_stale
from broker.client.deadlines import DeadlineWheel
from broker.client.deciding import RESERVED_PREFIX
from broker.client.enforcing import on_bans_added
from broker.client.entrance import Entrance
from broker.client.explaining import QUESTION as EXPLAIN
from broker.client.explaining import Explaining
from broker.client.facts import (
    BanFacts,
    ConnectionFacts,
    FilterFacts,
    FlowFacts,
    GroupFacts,
    NodeFacts,
    SubscriberFacts,
    TopicFacts,
)
from broker.client.fights import Fights
from broker.client.flows import HANDLERS
from broker.client.guard import Guard
from broker.client.history import History, HistoryLimits
from broker.client.hub import ClientSettings, Hub
from broker.client.listing import client_answerers
from broker.client.listing_subscriptions import subscription_answerers
from broker.client.looking_up import TOPIC_QUESTION as EXPLAIN_TOPIC
from broker.client.looking_up import LookingUp
from broker.client.mounting import MountPoint
from broker.client.origin import Origin, Peer
from broker.client.permitting import Review, disconnect_those, disconnect_users, review_all
from broker.client.pressure import Pressure
from broker.client.publishing import EVENTS_PREFIX
from broker.client.reclaiming import reclaim_all
from broker.client.renewing import renew_users
from broker.client.revoking import disconnect_revoked
from broker.client.rewriting import Rewriting
from broker.client.sharing import look_now_and_then, on_given
from broker.client.shedding import Shedder
from broker.client.spans import Spans, open_spans
from broker.client.standing import Standing
from broker.client.subscribing import revoke
from broker.client.surveying import Survey, probe
from broker.client.sys_topics import SysTopics
from broker.client.tapping import make_taps
from broker.client.telling import tell_session_ended
from broker.client.throttle import Rates, Throttling, make_throttling
from broker.client.topic_limits import TopicLimits
from broker.client.wanting import tell_what_is_read, withdraw_unused
from broker.client.wills import route_wills

__all__ = [
    "AUTOMATIC",
    "EVENTS_PREFIX",
    "EXPLAIN",
    "EXPLAIN_TOPIC",
    "HANDLERS",
    "RESERVED_PREFIX",
    "BanFacts",
    "BanRules",
    "Banning",
    "Client",
    "ClientSettings",
    "ConnectionFacts",
    "DeadlineWheel",
    "Entrance",
    "Explaining",
    "Fights",
    "FilterFacts",
    "FlowFacts",
    "GroupFacts",
    "Guard",
    "History",
    "HistoryLimits",
    "Hub",
    "LookingUp",
    "MountPoint",
    "NodeFacts",
    "Origin",
    "Peer",
    "Pressure",
    "Rates",
    "Review",
    "Rewriting",
    "Shedder",
    "Spans",
    "Standing",
    "SubscriberFacts",
    "Survey",
    "SysTopics",
    "Throttling",
    "TopicFacts",
    "TopicLimits",
    "client_answerers",
    "disconnect_all",
    "disconnect_revoked",
    "disconnect_those",
    "disconnect_users",
    "drop_rows",
    "look_now_and_then",
    "make_taps",
    "make_throttling",
    "on_bans_added",
    "on_failed",
    "on_given",
    "on_interest",
    "on_kicked",
    "on_lost",
    "on_messages",
    "on_overrun",
    "on_records",
    "on_rung",
    "on_stale",
    "open_spans",
    "probe",
    "reclaim_all",
    "renew_users",
    "review_all",
    "revoke",
    "route_wills",
    "subscription_answerers",
    "tell_session_ended",
    "tell_what_is_read",
    "withdraw_unused",
]
