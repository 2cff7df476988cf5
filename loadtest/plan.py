"""What to run: the values of one load, checked together, and how it is shared out over worker processes."""

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


class PlanError(ValueError):
    """The options don't fit together; the message names each mistake."""


class Shape(StrEnum):
    """Who gets whose messages."""

    PAIRS = "pairs"
    FAN_IN = "fan-in"
    FAN_OUT = "fan-out"


@dataclass(frozen=True, slots=True)
class Account:
    """How each client introduces itself."""

    version: int = 4  # the protocol level of CONNECT: 3 (MQTT 3.1), 4 (3.1.1) or 5
    username: str | None = None
    password: str | None = None


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
    subscribers_target: Target | None = (
        None  # another node of the same broker; None: where the publishers are
    )

    @property
    def fan(self) -> int:
        """How many subscribers get each message."""
        return self.subscribers if self.shape is Shape.FAN_OUT else 1

    def topic(self, publisher: int) -> str:
        """The Topic Name this publisher publishes to."""
        return f"lt/{self.run_id}/{publisher}"

    def topic_filter(self, subscriber: int) -> str:
        """The Topic Filter this subscriber subscribes to."""
        match self.shape:
            case Shape.PAIRS:
                return self.topic(subscriber)
            case Shape.FAN_IN:
                return f"lt/{self.run_id}/+"
            case Shape.FAN_OUT:
                return self.topic(0)

    def sources(self, subscriber: int) -> range:
        """The publishers whose messages this subscriber gets."""
        match self.shape:
            case Shape.PAIRS:
                return range(subscriber, subscriber + 1)
            case Shape.FAN_IN:
                return range(self.publishers)
            case Shape.FAN_OUT:
                return range(1)

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
    rules: list[tuple[bool, str]] = [
        (plan.account.version in (3, 4, 5), "the MQTT version is 3, 4 or 5"),
        (plan.qos in (0, 1, 2), "the QoS is 0, 1 or 2"),
        (plan.publishers >= 1 and plan.subscribers >= 1, "at least one publisher and one subscriber"),
        (
            plan.shape is not Shape.PAIRS or plan.publishers == plan.subscribers,
            "pairs need as many publishers as subscribers",
        ),
        (plan.shape is not Shape.FAN_IN or plan.subscribers == 1, "fan-in has one subscriber"),
        (plan.shape is not Shape.FAN_OUT or plan.publishers == 1, "fan-out has one publisher"),
        (
            MINIMUM_SIZE <= plan.payload_bytes <= MAXIMUM_SIZE,
            f"a payload has {MINIMUM_SIZE} to {MAXIMUM_SIZE} bytes",
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
        (
            plan.processes == 1
            or plan.qos > 0
            or plan.rate_per_second is not None
            or plan.shape is Shape.PAIRS,
            "a window at QoS 0 counts deliveries: with fan-in and fan-out both ends have to be in one process"
            " (use --processes 1, --rate, or QoS 1)",
        ),
    ]
    mistakes = [text for fine, text in rules if not fine]
    if mistakes:
        raise PlanError("; ".join(mistakes))


def share_out(plan: Plan) -> list[Share]:
    """Split the clients evenly over the processes; the two ends of a pair always share one."""
    step = min(plan.processes, max(plan.publishers, plan.subscribers))
    return [
        Share(plan, range(number, plan.publishers, step), range(number, plan.subscribers, step))
        for number in range(step)
    ]
