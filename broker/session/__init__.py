"""What a Session is: QoS 1 and 2 states, windows, Packet Identifiers, subscriptions, wills. Pure; imports
mqtt only."""

from broker.session.alias import TopicAliases
from broker.session.clock import Clock
from broker.session.delivery import Delivery
from broker.session.direct import DirectOutbound
from broker.session.drops import Drop, Drops
from broker.session.inbound import Inbound, Receipt, Release, TokenSource
from broker.session.level import STORED, is_fsynced, level_name, make_level, replicas_of, stronger
from broker.session.message import NO_DEADLINE, Message
from broker.session.outbound import Outbound, packet_id_of
from broker.session.outbox import Outbox, Sink, flush_all
from broker.session.promise import ActionPromise, Confirmation, Confirmations, Promise, Promises
from broker.session.queued import QueuedOutbound
from broker.session.reporting import Reports, Taken
from broker.session.session import Intake, QueueState, SendingLimits, Session
from broker.session.shared import IN_QUEUE, SharedDelivery, SharedWork
from broker.session.stored import Changes, StoredSession
from broker.session.subscription import wants_retained
from broker.session.will import WillMessage, will_message

__all__ = [
    "IN_QUEUE",
    "NO_DEADLINE",
    "STORED",
    "ActionPromise",
    "Changes",
    "Clock",
    "Confirmation",
    "Confirmations",
    "Delivery",
    "DirectOutbound",
    "Drop",
    "Drops",
    "Inbound",
    "Intake",
    "Message",
    "Outbound",
    "Outbox",
    "Promise",
    "Promises",
    "QueueState",
    "QueuedOutbound",
    "Receipt",
    "Release",
    "Reports",
    "SendingLimits",
    "Session",
    "SharedDelivery",
    "SharedWork",
    "Sink",
    "StoredSession",
    "Taken",
    "TokenSource",
    "TopicAliases",
    "WillMessage",
    "flush_all",
    "is_fsynced",
    "level_name",
    "make_level",
    "packet_id_of",
    "replicas_of",
    "stronger",
    "wants_retained",
    "will_message",
]
