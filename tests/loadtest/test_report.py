"""Which promises a QoS makes, and which figures are told."""

from dataclasses import replace

import pytest

from loadtest.cost import Usage
from loadtest.histogram import Latency
from loadtest.report import (
    Accounts,
    BrokerCost,
    GeneratorCost,
    MessageReport,
    RedisCost,
)

GOOD = Accounts(qos=1, lost=0, duplicates=0, order_errors=0, corrupt=0)
REPORT = MessageReport(
    shape="pairs",
    qos=1,
    persistent=False,
    mqtt_version=4,
    publishers=2,
    subscribers=2,
    payload_bytes=16,
    window=20,
    rate_per_second=None,
    processes=1,
    seconds=2.0,
    sent=1000,
    deliveries=1000,
    sent_per_second=500.0,
    deliveries_per_second=500.0,
    lost=0,
    duplicates=0,
    order_errors=0,
    corrupt=0,
    refused=0,
    unacknowledged=0,
    written_off=0,
    faults=[],
    latency_ms=Latency(0.1, 0.2, 0.3, 0.4, 0.5),
    broker=BrokerCost(0.5, 25.0, 2000.0, 10 * 2**20),
    generator=GeneratorCost(0.01, 5.0, 10.0),
    interrupted=False,
)


@pytest.mark.parametrize(
    ("accounts", "broken"),
    [
        (GOOD, 0),
        (replace(GOOD, lost=1), 1),
        (replace(GOOD, qos=0, lost=1), 0),  # at most once
        (replace(GOOD, qos=2, lost=1), 1),
        (replace(GOOD, duplicates=1), 0),  # at least once
        (replace(GOOD, qos=0, duplicates=1), 1),
        (replace(GOOD, qos=2, duplicates=1), 1),
        (replace(GOOD, order_errors=1), 1),
        (replace(GOOD, qos=0, order_errors=1), 0),
        (replace(GOOD, qos=0, corrupt=1), 1),
        (replace(GOOD, faults=["publisher 1: connection lost"]), 1),
    ],
)
def test_promises_of_each_qos(accounts: Accounts, broken: int) -> None:
    assert len(accounts.problems()) == broken


def test_many_faults_are_counted_not_listed() -> None:
    (text,) = replace(GOOD, faults=[f"client {number}" for number in range(1000)]).problems()
    assert text.endswith("client 4 and 995 more")


def test_a_generator_at_its_limit_says_so() -> None:
    busy = replace(REPORT, generator=GeneratorCost(1.9, 95.0, 1.0))
    assert any("--processes" in remark for remark in busy.remarks())
    assert not REPORT.remarks()


def test_the_cost_of_a_broker() -> None:
    before, after = Usage({1: 1.0}, 100), Usage({1: 2.0, 2: 1.0}, 80)
    assert BrokerCost.of(before, after, 120, 500, 4.0) == BrokerCost(2.0, 50.0, 250.0, 120)


def test_the_part_of_redis_is_told() -> None:
    before = Usage({1: 1.0, 2: 0.5}, 100, Usage({2: 0.5}, 40))
    after = Usage({1: 2.0, 2: 1.5}, 180, Usage({2: 1.5}, 60))
    cost = BrokerCost.of(before, after, 120, 500, 4.0)
    assert cost == BrokerCost(2.0, 50.0, 250.0, 180, RedisCost(1.0, 25.0, 60))
    assert dict(cost.rows("deliveries"))["broker CPU"] == "2.00 s (50 % of a core), 1.00 s of them Redis"


def test_a_cost_too_small_to_measure_is_no_division_by_zero() -> None:
    usage = Usage({1: 1.0}, 100)
    cost = BrokerCost.of(usage, usage, 0, 500, 1.0)
    assert cost is not None
    assert cost.per_cpu_second is None
    assert "too little to tell" in dict(cost.rows("deliveries")).values()


def test_no_process_named_no_cost() -> None:
    assert BrokerCost.of(Usage(), Usage(), 0, 1, 1.0) is None
