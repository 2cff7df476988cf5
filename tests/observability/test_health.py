"""Probes: alive from the beginning, ready only while the node can serve."""

from broker.observability.health import Health


def test_a_node_is_ready_once_it_listens_and_redis_answers() -> None:
    health = Health()
    assert health.ready().reasons == ("starting", "redis: not reached yet")
    health.redis_back()
    health.started()
    assert health.ready().ok
    assert repr(health) == "<Health ready>"


def test_redis_away_makes_it_unready_but_not_dead() -> None:
    health = Health()
    health.started()
    health.redis_away("connection refused")
    assert health.ready().reasons == ("redis: connection refused",)
    assert health.live().ok
    health.redis_back()
    assert health.ready().ok
    health.redis_away("")
    assert not health.ready().ok


def test_a_draining_node_takes_nobody() -> None:
    health = Health()
    health.started()
    health.redis_back()
    health.drain()
    assert health.ready().reasons == ("draining",)
    assert health.live().ok
    assert repr(health) == "<Health draining>"
