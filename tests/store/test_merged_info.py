"""INFO of several primaries as if they were one."""

from cluster.store.merged_info import figures, merged


def test_people_see_them_together_and_the_worst() -> None:
    one = {"used_memory": "10", "maxmemory": "100", "maxmemory_policy": "noeviction", "aof_enabled": "1",
           "connected_slaves": "2", "aof_last_write_status": "ok", "redis_version": "7.0.15"}  # fmt: skip
    other = {"used_memory": "80", "maxmemory": "100", "maxmemory_policy": "allkeys-lru", "aof_enabled": "0",
             "connected_slaves": "1", "aof_last_write_status": "err", "redis_version": "7.0.14"}  # fmt: skip
    assert merged([one, other]) == {
        "used_memory": "90", "maxmemory": "200", "maxmemory_policy": "allkeys-lru", "aof_enabled": "0",
        "connected_slaves": "1", "aof_last_write_status": "err", "redis_version": "7.0.15",
    }  # fmt: skip
    assert merged([one]) == one
    assert merged([one, other | {"maxmemory": "0"}])["maxmemory"] == "0"


def test_alarms_go_by_the_fullest() -> None:
    infos = [
        {"used_memory": "70", "maxmemory": "100", "connected_slaves": "0", "aof_delayed_fsync": "1"},
        {"used_memory": "80", "maxmemory": "400", "connected_slaves": "3", "aof_delayed_fsync": "2"},
    ]
    assert figures(infos) == {
        "used_memory": 70, "maxmemory": 100, "connected_slaves": 0, "aof_delayed_fsync": 3,
        "aof_failed": 0,
    }  # fmt: skip
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        failed = {"aof_last_write_status": "ok", "aof_last_bgrewrite_status": "ok"} | {name: "err"}
        assert figures([infos[0] | {name: "ok"}, failed])["aof_failed"] == 1
