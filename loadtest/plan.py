"""What to run: the values of one load, checked together, and how it is shared out over worker processes.

A *source* is what has a Topic Name and numbers its messages 0, 1, 2, ... on it. Mostly it is a publisher; in
the shapes of `ROTATING` a publisher has several, and serves them in turn.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from loadtest.payload import MAXIMUM_SIZE, MINIMUM_SIZE
from loadtest.target import Target

WINDOW_LIMIT: Final = 10_000
"""Messages outstanding per publisher. Far below 65,535: a Packet Identifier is free when its turn comes."""
CONNECTING_AT_ONCE: Final = 100
"""Connections being opened at the same time while a load is set up: below the usual backlog of a listener."""
SESSION_EXPIRY_SECONDS: Final = 3600
"""Of the persistent sessions of a run: what an aborted run leaves in a broker ends by itself (MQTT 5)."""
SITE_SIZE: Final = 100
"""Devices or topics below one level of the topic tree."""


class PlanError(ValueError):
    """The options don't fit together; the message names each mistake."""


class Shape(StrEnum):
    """Who gets whose messages."""

    PAIRS = "pairs"
    FAN_IN = "fan-in"
    FAN_OUT = "fan-out"
    SHARED = "shared-group"
    TELEMETRY = "telemetry"
    COMMANDS = "commands"
    STORM = "reconnect-storm"
    DASHBOARD = "retained-dashboard"


ROTATING: Final = (Shape.COMMANDS, Shape.STORM, Shape.DASHBOARD)
"""Shapes with several topics per publisher."""


@dataclass(frozen=True, slots=True)
class Account:
    """How each client introduces itself."""

    version: int = 4  # the protocol level of CONNECT: 3 (MQTT 3.1), 4 (3.1.1) or 5
    username: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """What the devices of `commands` do: each is away for a part of its cycle, each at another time."""

    asleep_percent: float
    cycle_seconds: float


@dataclass(frozen=True, slots=True)
class Storm:
    """What the clients of `reconnect-storm` do: all are cut in one moment, again and again, and come back."""

    every_seconds: float
    away_seconds: float  # from the cut until they begin to come back
    at_once: int  # connections being opened at the same time, by all processes


@dataclass(frozen=True, slots=True)
class Viewing:
    """What the dashboards of `retained-dashboard` do: open, get all that is retained, look, close, open."""

    topics: int
    view_seconds: float


Habit = Sleep | Storm | Viewing


@dataclass(frozen=True, slots=True)
class Plan:
    """One load: N publishers, M subscribers, and how long they go on."""

    target: Target
    run_id: str  # part of each client identifier and topic: runs don't hear each other
    account: Account = Account()
    shape: Shape = Shape.PAIRS
    publishers: int = 1
    subscribers: int = 1
    qos: int = 0
    persistent: bool = False  # the subscribers' sessions
    persistent_publishers: bool = False
    payload_bytes: int = MINIMUM_SIZE
    window: int = 20  # closed loop: messages outstanding per publisher
    rate_per_second: float | None = None  # open loop: of all publishers together; then `window` isn't used
    duration_seconds: float = 10.0
    count: int | None = None  # messages per publisher; then there is no duration and no warm-up
    warm_up_seconds: float = 1.0
    drain_seconds: float = 5.0  # how long to wait, without any news, for what is still on its way
    processes: int = 1
    sample_seconds: float = 1.0  # a step of the timeline; 0: none
    watch_machine: bool = False  # measure meanwhile how fast the machine itself is
    further_targets: tuple[Target, ...] = ()  # other nodes of the same broker: clients are spread over all
    subscribers_targets: tuple[Target, ...] = ()  # nodes for the subscribers; none: where the publishers are
    habit: Habit | None = None  # what else the subscribers do, in the shapes that have such a thing

    @property
    def fan(self) -> int:
        """How many subscribers get each message."""
        return self.subscribers if self.shape in (Shape.FAN_OUT, Shape.TELEMETRY) else 1

    @property
    def source_count(self) -> int:
        """How many sources there are, numbered from 0."""
        if isinstance(self.habit, Viewing):
            return self.habit.topics
        return self.subscribers if self.shape in ROTATING else self.publishers

    def sources_of(self, publisher: int) -> range:
        """What this publisher publishes, in turn."""
        return range(publisher, self.source_count, self.publishers)

    def topic(self, source: int) -> str:
        """The Topic Name of a source."""
        root = f"lt/{self.run_id}"
        match self.shape:
            case Shape.TELEMETRY:
                return f"{root}/site{source // SITE_SIZE}/{source}/state"
            case Shape.COMMANDS | Shape.STORM:
                return f"{root}/{source}/command"
            case Shape.DASHBOARD:
                return f"{root}/site{source // SITE_SIZE}/{source}"
            case _:
                return f"{root}/{source}"

    def topic_filter(self, subscriber: int) -> str:
        """The Topic Filter this subscriber subscribes to."""
        root = f"lt/{self.run_id}"
        match self.shape:
            case Shape.PAIRS | Shape.COMMANDS | Shape.STORM:
                return self.topic(subscriber)
            case Shape.FAN_IN:
                return f"{root}/+"
            case Shape.FAN_OUT:
                return self.topic(0)
            case Shape.SHARED:
                return f"$share/lt{self.run_id}/{root}/+"
            case Shape.TELEMETRY:
                return f"{root}/+/+/state"
            case Shape.DASHBOARD:
                return f"{root}/#"

    def sources(self, subscriber: int) -> range:
        """The sources whose messages this subscriber gets; of a shared group, may get."""
        match self.shape:
            case Shape.PAIRS | Shape.COMMANDS | Shape.STORM:
                return range(subscriber, subscriber + 1)
            case Shape.FAN_OUT:
                return range(1)
            case _:
                return range(self.source_count)

    def publisher_target(self, publisher: int) -> Target:
        """Where this publisher connects."""
        return self._nth((self.target, *self.further_targets), publisher)

    def subscriber_target(self, subscriber: int, returns: int = 0) -> Target:
        """Where this subscriber connects: whoever comes back takes the next address."""
        targets = self.subscribers_targets or (self.target, *self.further_targets)
        return self._nth(targets, subscriber + returns)

    @staticmethod
    def _nth(targets: tuple[Target, ...], number: int) -> Target:
        return targets[number % len(targets)]

    def client_id(self, role: str, number: int) -> str:
        """At most 23 characters, as MQTT 3.1 wants it."""
        return f"lt{self.run_id}{role}{number}"


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker process does of a plan."""

    plan: Plan
    publishers: range
    subscribers: range

    @property
    def connections(self) -> int:
        """How many connections the worker holds."""
        return len(self.publishers) + len(self.subscribers)


def check_plan(plan: Plan) -> None:
    """Raise PlanError if the values don't fit together."""
    mistakes = plan_mistakes(plan)
    if mistakes:
        raise PlanError("; ".join(mistakes))


def plan_mistakes(plan: Plan) -> list[str]:
    """What doesn't fit together, each in words."""
    rules = [*_value_rules(plan), *_shape_rules(plan)]
    return [text for fine, text in rules if not fine]


def _value_rules(plan: Plan) -> list[tuple[bool, str]]:
    return [
        (plan.account.version in (3, 4, 5), "the MQTT version is 3, 4 or 5"),
        (plan.qos in (0, 1, 2), "the QoS is 0, 1 or 2"),
        (plan.publishers >= 1 and plan.subscribers >= 1, "at least one publisher and one subscriber"),
        (
            MINIMUM_SIZE <= plan.payload_bytes <= MAXIMUM_SIZE,
            f"a payload has {MINIMUM_SIZE} to {MAXIMUM_SIZE} bytes",
        ),
        (
            not plan.watch_machine or plan.sample_seconds > 0,
            "the machine is watched by the steps of the timeline: not with --sample 0",
        ),
        (1 <= plan.window <= WINDOW_LIMIT, f"the window is 1 to {WINDOW_LIMIT} messages"),
        (
            plan.rate_per_second is None or 0 < plan.rate_per_second <= 1e6,
            "the rate is above 0, at most 1,000,000",
        ),
        (plan.duration_seconds > 0, "the duration is above 0 seconds"),
        (plan.count is None or 1 <= plan.count < 1 << 32, "the count is at least 1"),
        (plan.warm_up_seconds >= 0, "the warm-up isn't negative"),
        (plan.drain_seconds > 0, "the time to drain is above 0 seconds"),
        (1 <= plan.processes <= 64, "1 to 64 processes"),
    ]


def _shape_rules(plan: Plan) -> list[tuple[bool, str]]:
    shape, qos = plan.shape, plan.qos
    counts_deliveries = qos == 0 and plan.rate_per_second is None
    return [
        (
            shape is not Shape.PAIRS or plan.publishers == plan.subscribers,
            "pairs need as many publishers as subscribers",
        ),
        (shape is not Shape.FAN_IN or plan.subscribers == 1, "fan-in has one subscriber"),
        (shape is not Shape.FAN_OUT or plan.publishers == 1, "fan-out has one publisher"),
        (
            plan.publishers <= max(1, plan.source_count),
            f"{plan.publishers} publishers have only {plan.source_count} topics",
        ),
        (shape is not Shape.COMMANDS or qos > 0, "commands for who is asleep have QoS 1 or 2"),
        (shape is not Shape.DASHBOARD or qos > 0, "retained messages that must all come have QoS 1 or 2"),
        (
            shape is not Shape.STORM or plan.persistent == (qos > 0),
            "in a reconnect storm sessions are persistent at QoS 1 and 2, and are not at QoS 0",
        ),
        (
            shape is not Shape.STORM or not counts_deliveries,
            "a window at QoS 0 counts deliveries, of which a storm loses some: use a rate",
        ),
        (
            shape is Shape.PAIRS or plan.processes == 1 or not counts_deliveries,
            "a window at QoS 0 counts deliveries: both ends have to be in one process"
            " (use --processes 1, --rate, or QoS 1)",
        ),
    ]


def share_out(plan: Plan) -> list[Share]:
    """Split the clients evenly over the processes; the two ends of a pair always share one."""
    step = min(plan.processes, max(plan.publishers, plan.subscribers))
    return [
        Share(plan, range(number, plan.publishers, step), range(number, plan.subscribers, step))
        for number in range(step)
    ]
