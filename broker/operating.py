"""What operators see of a node and steer in it, beside serving: answers to questions, taps, alarms, the
history of clients, forwards. Whatever fails in here harms no client.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial

from broker.alarming import Alarming
from broker.answering import content_answerers
from broker.client import (
    EXPLAIN,
    EXPLAIN_TOPIC,
    Explaining,
    History,
    HistoryLimits,
    Hub,
    LookingUp,
    Standing,
    Survey,
    SysTopics,
    client_answerers,
    make_taps,
    subscription_answerers,
)
from broker.forwarding import Forwarding, make_forwarding
from broker.guarding.reviewing import review_rights
from broker.observability.alarms import rules_with
from broker.settings import HistorySettings
from broker.surroundings import Surroundings
from cluster.control import Control
from cluster.heartbeat import Heartbeat
from cluster.node_info import NodeInfo
from cluster.questions import Answerer
from cluster.soundings import Sounder
from cluster.store.store import Store
from cluster.taps import QUESTION, Taps


@dataclass(frozen=True, slots=True)
class Operations:
    """Of one incarnation. `history` None: nobody wants it."""

    sys_topics: SysTopics
    standing: Standing
    history: History | None
    taps: Taps
    forwarding: Forwarding
    survey: Survey
    sounder: Sounder
    alarming: Alarming

    def services(self) -> Sequence[Callable[[], Coroutine[object, object, None]]]:
        """What runs as long as the node is a member. Forwards begin later, when clients may come."""
        running = [
            self.sys_topics.run,
            self.standing.run,
            self.taps.run,
            self.survey.run,
            self.sounder.run,
            self.alarming.run,
        ]
        return running if self.history is None else [*running, self.history.run]


def make_operations(
    around: Surroundings,
    hub: Hub,
    control: Control,
    store: Store,
    info: NodeInfo,
    heartbeat: Heartbeat,
    answerers: dict[str, Answerer],
) -> Operations:
    """Makes them, and adds to `answerers` what others may ask of this node."""
    settings = around.settings
    sys_topics = SysTopics(hub, control, info, settings.mqtt.sys_interval_seconds)
    standing = Standing(hub.clients)
    taps = make_taps(store, hub, info.name, around.spans)
    forwarding = make_forwarding(settings.forwards, hub, store, control, around.counters.forwards)
    answerers |= content_answerers(hub) | client_answerers(hub) | subscription_answerers(hub)
    answerers["review_rights"] = partial(review_rights, hub, around.guarding)
    answerers["forwards"] = forwarding.answer
    answerers[QUESTION] = taps.answer
    answerers[EXPLAIN_TOPIC] = LookingUp(hub).answer
    answerers[EXPLAIN] = Explaining(hub, standing, lambda: store.lane.away_since).answer
    soundings = around.counters.soundings
    return Operations(
        sys_topics,
        standing,
        _history(settings.history, hub, store),
        taps,
        forwarding,
        Survey(hub, soundings),
        Sounder(
            store,
            hub.incarnation,
            heartbeat,
            hub.index,
            lambda: hub.settings.queue_limit,
            lambda: hub.settings.queue_bytes,
            soundings,
        ),
        Alarming(
            rules_with(settings.alarms.model_dump()),
            around.counters,
            hub,
            control.alarms,
            sys_topics.tell_alarms,
        ),
    )


def _history(settings: HistorySettings, hub: Hub, store: Store) -> History | None:
    if not settings.enabled:
        return None
    history = History(store.call, HistoryLimits(settings.events, settings.seconds, settings.clients))
    hub.events.add(history.recent.take)
    return history
