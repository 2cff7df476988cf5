"""Counters, their bounded labels, and the page they make."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.observability.bans import BanCounters
from broker.observability.chores import ChoreCounters
from broker.observability.durability import LevelStatus
from broker.observability.forwards import ForwardStatus
from broker.observability.metrics import LABEL_LIMIT, Counters, Histogram, Tally
from broker.observability.page import MetricsPage
from broker.observability.sounding import Soundings


def _samples(counters: Counters) -> dict[tuple[str, tuple[str, ...]], float]:
    page = MetricsPage(counters).render().decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_what_is_counted_is_on_the_page() -> None:
    counters = Counters("node-1", "0.1.0")
    counters.received_qos1 += 3
    counters.connections = 7
    counters.messages_dropped.add("queue_full", 2)
    counters.connects.add("bad_user_name_or_password")
    counters.redis_round_trip.observe(0.003)
    counters.disconnects.add("session_taken_over")
    counters.malformed.add("packet_too_large")
    counters.refused.add("subscriptions_per_session")
    samples = _samples(counters)
    assert samples["moorline_disconnects_total", ("session_taken_over",)] == 1
    assert samples["moorline_malformed_total", ("packet_too_large",)] == 1
    assert samples["moorline_refused_total", ("subscriptions_per_session",)] == 1
    assert samples["moorline_node", ("node-1", "0.1.0")] == 1
    assert samples["moorline_messages_received_total", ("1",)] == 3
    assert samples["moorline_messages_received_total", ("0",)] == 0
    assert samples["moorline_connections", ()] == 7
    assert samples["moorline_messages_dropped_total", ("1-2", "queue_full")] == 2
    assert samples["moorline_messages_dropped_total", ("0", "queue_full")] == 0
    assert samples["moorline_messages_dropped_total", ("0", "expired")] == 0
    assert samples["moorline_connects_total", ("bad_user_name_or_password",)] == 1
    assert samples["moorline_redis_round_trip_seconds_count", ()] == 1
    assert samples["moorline_redis_round_trip_seconds_bucket", ("0.0025",)] == 0
    assert samples["moorline_redis_round_trip_seconds_bucket", ("0.005",)] == 1


def test_each_counter_reaches_the_page() -> None:
    """Whatever attribute is raised, the page changes: none is forgotten by the collector."""
    for name in Counters.__slots__:
        counters = Counters()
        before = _samples(counters)
        value = getattr(counters, name)
        match value:
            case Tally():
                value.add("some_reason")
            case Histogram():
                value.observe(0.5)
            case dict() if name == "shared":
                value["a group"] = (1, 2)
            case dict() if name == "delivery_latency":
                value["stored"].observe(0.5)
            case dict() if name in ("alarms", "listener_limits", "listener_open"):
                value["a name"] = 1
            case dict():
                value["a listener", "a file"] = 1.0
            case BanCounters():
                value.delayed += 1  # the others: test_bans
            case ChoreCounters():
                value.rebalanced += 1  # the others: test_chores
            case list() if name == "durability":
                value.append(LevelStatus("fsynced"))
            case list():
                value.append(ForwardStatus("a forward", "webhook"))
            case Soundings():
                value.redis_replicas = 2  # the others: below
            case str():
                setattr(counters, name, "changed")
            case _:
                setattr(counters, name, 12_345)
        moorline = {
            key: sample for key, sample in _samples(counters).items() if key[0].startswith("moorline_")
        }
        assert moorline != {key: before.get(key) for key in moorline}, name


def test_each_sounding_reaches_the_page() -> None:
    for name in Soundings.__slots__:
        if name == "queue_fullest_client":  # for alarms only: a label must not name clients
            continue
        if name == "redis_primary":  # a label: below
            continue
        counters = Counters()
        before = _samples(counters)
        value = getattr(counters.soundings, name)
        if isinstance(value, dict):
            value[next(iter(value))] = 7
        else:
            setattr(counters.soundings, name, 7)
        added = set(_samples(counters).items()) - set(before.items())
        assert [key[0] for key, sample in added if key[0].startswith("moorline_") and sample == 7], name


def test_what_is_not_known_is_not_on_the_page() -> None:
    samples = _samples(Counters())
    assert ("moorline_redis_memory_used_bytes", ()) not in samples
    assert not any(name == "moorline_redis_primary_info" for name, _ in samples)


def test_primary_is_a_label() -> None:
    counters = Counters()
    counters.soundings.redis_primary = "10.0.0.1:6379"
    assert _samples(counters)["moorline_redis_primary_info", ("10.0.0.1:6379",)] == 1


def test_packets_that_are_neither_publish_nor_counted_are_acknowledgements() -> None:
    counters = Counters()
    counters.packets_received = 10
    counters.received_qos1 = 3
    counters.packets.add("pingreq", 2)
    counters.error_packets.add("suback not_authorized", 4)
    samples = _samples(counters)
    assert samples["moorline_packets_received_total", ("publish",)] == 3
    assert samples["moorline_packets_received_total", ("pingreq",)] == 2
    assert samples["moorline_packets_received_total", ("acknowledgement",)] == 5
    assert samples["moorline_error_packets_total", ("not_authorized", "suback")] == 4


def test_the_page_tells_of_the_process_too() -> None:
    assert ("process_resident_memory_bytes", ()) in _samples(Counters())


def test_labels_are_bounded() -> None:
    tally = Tally(["known"])
    for number in range(10 * LABEL_LIMIT):
        tally.add(f"reason {number}")
    tally.add("known", 5)
    assert len(dict(tally.items())) == LABEL_LIMIT + 1
    assert tally["known"] == 5
    assert tally["other"] == 10 * LABEL_LIMIT - (LABEL_LIMIT - 1)
    assert tally["never"] == 0


def test_a_tally_shows_what_happened() -> None:
    tally = Tally(["a", "b"])
    tally.add("b")
    assert repr(tally) == "Tally({'b': 1})"


@pytest.mark.parametrize(("value", "bucket"), [(0.5, "1.0"), (1.0, "1.0"), (1.5, "2.0"), (3.0, "+Inf")])
def test_a_value_on_the_bound_belongs_to_its_bucket(value: float, bucket: str) -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(value)
    counts = dict(histogram.buckets())
    order = ["1.0", "2.0", "+Inf"]
    assert [counts[bound] for bound in order] == [
        float(order.index(bound) >= order.index(bucket)) for bound in order
    ]
    assert histogram.count == 1
