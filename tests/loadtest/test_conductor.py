"""Whole runs against a broker that keeps, or breaks, its promises."""

import asyncio
import time
from dataclasses import replace

import pytest
import uvloop

from broker.mqtt import Publish
from loadtest.conductor import Conductor, LoadFailed
from loadtest.cost import Pids
from loadtest.payload import STAMP
from loadtest.plan import Account, Plan, Shape
from loadtest.report import MessageReport
from loadtest.target import Target
from loadtest.timeline import Timeline
from tests.loadtest.fake_broker import FakeBroker, Mischief

NOWHERE = Target("127.0.0.1", 1)
PAIR = Plan(target=NOWHERE, run_id="test", qos=1, count=50, window=5, drain_seconds=0.3)


async def _run(plan: Plan, broker: FakeBroker) -> MessageReport:
    async with broker.serving() as target:
        return await Conductor(replace(plan, target=target), Pids(), lambda *_: None).run()


def run(plan: Plan, mischief: Mischief | None = None, broker: FakeBroker | None = None) -> MessageReport:
    """One run on an event loop of its own."""
    fake = broker or FakeBroker()
    if mischief is not None:
        fake.mischief = mischief
    return uvloop.run(_run(plan, fake))


def at(number: int, *copies: int) -> Mischief:
    """Deliver message `number` (from 1) so many times each call; the others once."""
    seen = 0

    def mischief(message: Publish) -> list[Publish]:
        nonlocal seen
        seen += 1
        return [message] * (copies[0] if seen == number else 1)

    return mischief


def swapping() -> Mischief:
    """Hold message 10 back until message 11 has gone."""
    seen = 0
    held: list[Publish] = []

    def mischief(message: Publish) -> list[Publish]:
        nonlocal seen
        seen += 1
        if seen == 10:
            held.append(message)
            return []
        return [message, *held] if seen == 11 else [message]

    return mischief


SHAPES = [
    replace(PAIR, publishers=3, subscribers=3),
    replace(PAIR, shape=Shape.FAN_IN, publishers=4),
    replace(PAIR, shape=Shape.FAN_OUT, subscribers=4),
]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("plan", SHAPES, ids=lambda plan: plan.shape)
def test_an_honest_broker_passes(plan: Plan, qos: int, version: int) -> None:
    report = run(replace(plan, qos=qos, account=Account(version)))
    assert not report.problems()
    assert report.sent == 50 * plan.publishers
    assert report.deliveries == 50 * plan.publishers * plan.fan
    assert (report.lost, report.duplicates, report.order_errors, report.unacknowledged) == (0, 0, 0, 0)
    assert report.latency_ms is not None
    assert report.generator.cpu_us_per_delivery > 0


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_lost_message_is_found(qos: int) -> None:
    report = run(replace(PAIR, qos=qos), at(20, 0))
    assert report.lost == 1
    assert bool(report.problems()) is (qos > 0)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_repeated_message_is_found(qos: int) -> None:
    report = run(replace(PAIR, qos=qos), at(20, 2))
    assert (report.lost, report.duplicates) == (0, 1)
    assert bool(report.problems()) is (qos != 1)


def test_a_message_repeated_after_the_last_is_found() -> None:
    assert run(replace(PAIR, qos=2), at(50, 2)).duplicates == 1


def test_swapped_messages_are_found() -> None:
    report = run(PAIR, swapping())
    assert (report.lost, report.duplicates, report.order_errors) == (0, 0, 1)
    assert report.problems()


def test_a_damaged_payload_is_found() -> None:
    def damage(message: Publish) -> list[Publish]:
        return [Publish(message.topic, message.payload[:-1] + b"!", message.qos, False, False, 1, None)]

    report = run(replace(PAIR, payload_bytes=40), damage)
    assert report.corrupt == 50
    assert report.problems()


def test_refused_messages_are_not_owed() -> None:
    broker = FakeBroker(lambda _: [])
    broker.ack_code = 0x97
    report = run(replace(PAIR, account=Account(5)), broker=broker)
    assert (report.refused, report.lost) == (50, 0)


@pytest.mark.parametrize("qos", [0, 1])
def test_cut_connections_are_told_and_end_the_run(qos: int) -> None:
    broker = FakeBroker()
    broker.break_after = 20
    report = run(replace(PAIR, qos=qos), broker=broker)
    assert any("connection lost" in problem for problem in report.problems())
    assert report.deliveries <= 20


def test_a_window_whose_messages_are_all_lost_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.worker._STALL_SECONDS", 0.1)
    report = run(replace(PAIR, qos=0, count=12), lambda _: [])
    assert report.sent == 12
    assert report.lost == 12
    assert report.written_off >= 5


def test_an_open_loop_keeps_its_rate() -> None:
    plan = replace(
        PAIR,
        publishers=2,
        subscribers=2,
        count=None,
        rate_per_second=400,
        duration_seconds=0.5,
        warm_up_seconds=0.1,
    )
    report = run(plan)
    assert 200 <= report.sent <= 400 * (report.seconds + 0.1) + 2
    assert 320 <= report.sent_per_second <= 480
    assert not report.problems()


def test_an_open_loop_counts_the_time_a_message_had_to_wait_for_its_turn() -> None:
    """A broker which stops for 0.3 s delays all that was due in that time, sent or not."""
    stalled = False

    def stall(message: Publish) -> list[Publish]:
        nonlocal stalled
        if not stalled:
            stalled = True
            # The loop of the test is the broker's and the generator's too: nothing can be sent meanwhile.
            time.sleep(0.3)
        return [message]

    plan = replace(PAIR, count=None, rate_per_second=200, duration_seconds=0.5, warm_up_seconds=0)
    report = run(plan, stall)
    assert report.latency_ms is not None
    assert report.latency_ms.p50 > 20
    assert report.latency_ms.max >= 290


async def _halted_run(plan: Plan, broker: FakeBroker) -> MessageReport:
    async with broker.serving() as target:
        conductor = Conductor(replace(plan, target=target), Pids(), lambda *_: None)
        run = asyncio.ensure_future(conductor.run())
        while broker.published < 20:  # noqa: ASYNC110  # the fake broker has no event for it
            await asyncio.sleep(0.01)
        conductor.halt()
        return await run


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("count", [None, 1_000_000])
def test_a_halted_run_reports_what_was_done(qos: int, count: int | None) -> None:
    plan = replace(PAIR, qos=qos, count=count, duration_seconds=600, warm_up_seconds=0)
    report = uvloop.run(_halted_run(plan, FakeBroker()))
    assert report.interrupted
    assert report.sent == report.deliveries >= 20
    assert not report.problems()


def test_a_refused_connection_is_an_error() -> None:
    broker = FakeBroker()
    broker.connack_code = 0x87
    with pytest.raises(LoadFailed, match="refused the connection"):
        run(PAIR, broker=broker)


def test_a_lower_granted_qos_is_an_error() -> None:
    broker = FakeBroker()
    broker.highest_granted_qos = 0
    with pytest.raises(LoadFailed, match="at QoS 1 was answered by"):
        run(PAIR, broker=broker)


def test_nobody_at_home_is_an_error() -> None:
    with pytest.raises(LoadFailed, match=r"127\.0\.0\.1:1"):
        uvloop.run(Conductor(PAIR, Pids(), lambda *_: None).run())


def test_several_processes_share_the_work() -> None:
    report = run(replace(PAIR, publishers=4, subscribers=4, processes=2, count=200))
    assert report.processes == 2
    assert report.deliveries == 800
    assert not report.problems()
    assert report.timeline is not None
    assert delivered_by(report.timeline) == pytest.approx(800, rel=0.03)


def delivered_by(timeline: Timeline) -> float:
    """The sum of all steps; rounding leaves an error of some messages."""
    begins = [0.0, *(sample.at_seconds for sample in timeline.samples)]
    return sum(
        sample.per_second["delivered"] * (sample.at_seconds - begin)
        for begin, sample in zip(begins, timeline.samples, strict=False)
    )


def test_the_timeline_tells_what_came_when() -> None:
    plan = replace(PAIR, qos=0, count=None, rate_per_second=400, duration_seconds=0.6, warm_up_seconds=0.2)
    report = run(replace(plan, sample_seconds=0.2), losing_each_tenth)
    timeline = report.timeline
    assert timeline is not None
    assert timeline.warm_up_seconds == 0.2
    assert 3 <= len(timeline.samples) <= 6
    assert delivered_by(timeline) == pytest.approx(report.deliveries, rel=0.03)
    assert all(sample.latency_ms is not None for sample in timeline.samples[:3])
    missing = [sample.so_far["missing"] for sample in timeline.samples]
    assert missing == sorted(missing)
    assert report.lost - 2 <= missing[-1] <= report.lost  # nobody jumps over the last ones
    assert missing[0] < missing[-1]


def losing_each_tenth(message: Publish) -> list[Publish]:
    return [] if STAMP.unpack_from(message.payload)[1] % 10 == 9 else [message]


def test_order_and_duplicates_are_told_in_the_timeline() -> None:
    for mischief, name in ((swapping(), "order_errors"), (at(20, 2), "duplicates")):
        timeline = run(replace(PAIR, qos=2), mischief).timeline
        assert timeline is not None
        last = timeline.samples[-1].so_far
        assert (last[name], last["missing"], last["corrupt"]) == (1, 0, 0)


def test_no_timeline_without_a_step() -> None:
    assert run(replace(PAIR, sample_seconds=0.0)).timeline is None
