"""Forwards: what goes from here to other systems, and from other brokers to here.

Theory of operation. A forward is a client of this broker that lives in it: `Inner` feeds the bytes of its
packets to a `Client`, as a socket would, and gets what that writes. So its session, with its queue in Redis,
its window, its handshakes, and what happens when two nodes want it, is that of any persistent session, and
nothing is known of forwards below this package but that their entrance is one of our own.

Of all nodes one has the turn at a forward (`turn.py`). It claims the session and hands its messages to the
sink, in order, as many at a time as are set. A message is acknowledged when the sink has taken it, and not
before: while the target is away, the messages wait in Redis. If the node is killed the next one goes on where
the session was; so a message may come twice, under the same key. Two nodes that both believe to have the turn
do no harm: the session is that of one, and the other's connection ends.
"""

from broker.forwarding.events import EventMessages, event_messages
from broker.forwarding.forwarding import Forwarding, make_forwarding, queue_limits
from broker.forwarding.sink import ForwardedMessage, Refused, Retry, Sink

__all__ = [
    "EventMessages",
    "ForwardedMessage",
    "Forwarding",
    "Refused",
    "Retry",
    "Sink",
    "event_messages",
    "make_forwarding",
    "queue_limits",
]
