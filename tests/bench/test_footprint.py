"""The table of what things take up; and that small amounts can be measured."""

from broker.routing.index import SubscriptionIndex
from broker.routing.loading import Loaded
from cluster.store import keys
from tests.bench.footprint import SHAPES, fill_rows, page
from tests.bench.storing import Line, client_id, measure_sessions, server_of


def test_a_goal_is_met_or_missed() -> None:
    met, missed, free = (Line("a", 200, "B", 200), Line("b", 5.04, "s", 5, "why"), Line("c", 1234567, "B"))
    assert [line.is_missed for line in (met, missed, free)] == [False, True, False]
    assert str(met) == "| a | 200 B | 200 (met) |  |"
    assert str(missed) == "| b | 5.0 s | 5 (missed) | why |"
    assert str(free) == "| c | 1,234,567 B |  |  |"


def test_the_page_has_a_table_for_each_section() -> None:
    text = page("moorline 0", 1000, [("One", [Line("a", 1, "B")]), ("Two", [])])
    assert "## One\n\n| | measured | at most | |\n| --- | --- | --- | --- |\n| a | 1.0 B |  |  |\n" in text
    assert "## Two" in text


def test_sessions_take_some_memory() -> None:
    sizes = [line.measured for line in measure_sessions("valkey", 400)]
    assert all(100 < size < 2000 for size in sizes)
    assert sizes[0] < sizes[1]  # a subscription takes some, too


def test_rows_are_those_of_the_shape() -> None:
    """And a node can load them."""
    for shape in SHAPES:
        with server_of("valkey") as (_, caller):
            fill_rows(caller, shape, 20)
            loaded = Loaded()
            for shard in range(keys.SUBSCRIPTION_SHARDS):
                rows = caller.hash(keys.subscriptions(caller.prefix, shard))
                loaded.take([part for row in rows.items() for part in row])
        for _ in loaded.pack():
            pass
        index = SubscriptionIndex()
        index.replace(loaded)
        assert index.count == 20
        assert len(index.stamps_of(client_id(0))) == shape.per_client
