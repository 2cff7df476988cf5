"""Which loads make sense, and how they are shared out."""

from dataclasses import replace

import pytest

from broker.mqtt import matches
from loadtest.plan import Account, Plan, PlanError, Shape, Sleep, Storm, Viewing, check_plan, share_out
from loadtest.target import Target

PLAN = Plan(target=Target("127.0.0.1", 1883), run_id="abc123", publishers=5, subscribers=5)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (replace(PLAN, subscribers=4), "as many publishers"),
        (replace(PLAN, shape=Shape.FAN_IN), "one subscriber"),
        (replace(PLAN, shape=Shape.FAN_OUT), "one publisher"),
        (replace(PLAN, payload_bytes=15), "16 to"),
        (replace(PLAN, window=0), "window"),
        (replace(PLAN, rate_per_second=0.0), "rate"),
        (replace(PLAN, count=0), "count"),
        (replace(PLAN, duration_seconds=0), "duration"),
        (replace(PLAN, qos=3), "QoS"),
        (replace(PLAN, processes=0), "processes"),
        (replace(PLAN, shape=Shape.COMMANDS, habit=Sleep(50, 1)), "QoS 1 or 2"),
        (replace(PLAN, shape=Shape.DASHBOARD, habit=Viewing(9, 1)), "QoS 1 or 2"),
        (replace(PLAN, shape=Shape.DASHBOARD, qos=1, habit=Viewing(2, 1)), "only 2 topics"),
        (replace(PLAN, shape=Shape.STORM, qos=1, habit=Storm(1, 0, 1)), "persistent at QoS 1"),
        (replace(PLAN, shape=Shape.STORM, habit=Storm(1, 0, 1)), "use a rate"),
        (replace(PLAN, account=Account(version=6)), "version"),
        (replace(PLAN, shape=Shape.FAN_OUT, publishers=1, processes=2), "--processes 1"),
    ],
)
def test_a_mistake_is_named(plan: Plan, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        check_plan(plan)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(PlanError) as caught:
        check_plan(replace(PLAN, window=0, payload_bytes=1))
    assert "window" in str(caught.value)
    assert "bytes" in str(caught.value)


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        replace(PLAN, processes=4),
        replace(PLAN, shape=Shape.FAN_OUT, publishers=1, processes=2, qos=1),
        replace(PLAN, shape=Shape.FAN_IN, subscribers=1, processes=2, rate_per_second=10.0),
    ],
)
def test_sound_plans_pass(plan: Plan) -> None:
    check_plan(plan)


@pytest.mark.parametrize("processes", [1, 2, 3, 9])
def test_shares_cover_all_clients_once_and_keep_pairs_together(processes: int) -> None:
    shares = share_out(replace(PLAN, processes=processes))
    assert sorted(number for share in shares for number in share.publishers) == [0, 1, 2, 3, 4]
    assert all(share.publishers == share.subscribers and share.connections for share in shares)


def test_topics_and_filters_of_the_shapes() -> None:
    fan_in = replace(PLAN, shape=Shape.FAN_IN, subscribers=1)
    fan_out = replace(PLAN, shape=Shape.FAN_OUT, publishers=1)
    assert (PLAN.topic_filter(3), PLAN.sources(3), PLAN.fan) == (PLAN.topic(3), range(3, 4), 1)
    assert (fan_in.topic_filter(0), fan_in.sources(0), fan_in.fan) == ("lt/abc123/+", range(5), 1)
    assert (fan_out.topic_filter(3), fan_out.sources(3), fan_out.fan) == (fan_out.topic(0), range(1), 5)


def test_topics_and_filters_of_those_that_are_like_a_fleet() -> None:
    shared = replace(PLAN, shape=Shape.SHARED)
    telemetry = replace(PLAN, shape=Shape.TELEMETRY, publishers=150)
    commands = replace(PLAN, shape=Shape.COMMANDS, publishers=2, habit=Sleep(50, 1))
    dashboard = replace(PLAN, shape=Shape.DASHBOARD, publishers=2, habit=Viewing(150, 1))
    assert (shared.topic_filter(0), shared.fan) == ("$share/ltabc123/lt/abc123/+", 1)
    assert (telemetry.topic(120), telemetry.fan) == ("lt/abc123/site1/120/state", 5)
    assert telemetry.sources(3) == range(150)
    assert (commands.topic_filter(3), commands.sources(3)) == (commands.topic(3), range(3, 4))
    assert list(commands.sources_of(1)) == [1, 3]
    assert dashboard.sources(0) == range(150)
    assert [len(dashboard.sources_of(number)) for number in (0, 1)] == [75, 75]
    for plan in (telemetry, commands, dashboard):
        assert all(matches(plan.topic_filter(4), plan.topic(source)) for source in plan.sources(4))


def test_clients_are_spread_over_the_addresses_and_come_back_to_the_next() -> None:
    one, two, three = (Target("127.0.0.1", port) for port in (1, 2, 3))
    spread = replace(PLAN, target=one, further_targets=(two,))
    assert [spread.publisher_target(number) for number in range(3)] == [one, two, one]
    assert [spread.subscriber_target(0, returns) for returns in range(3)] == [one, two, one]
    apart = replace(spread, subscribers_targets=(three,))
    assert (apart.publisher_target(1), apart.subscriber_target(1)) == (two, three)


def test_client_identifiers_suit_the_oldest_brokers() -> None:
    assert len(PLAN.client_id("s", 99_999)) <= 23
