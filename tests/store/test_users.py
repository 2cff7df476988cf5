"""Users and rules in Redis: whole or not at all, in order, and nobody's change undone."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker.auth.user import Allowed, ScramKeys, StoredUser, User
from cluster.store import keys, users
from cluster.store.errors import ItemError
from cluster.store.library import library_source
from cluster.store.reply import as_bytes, as_int
from tests.node.redis_server import running_redis
from tests.store.caller import Caller

ANN = User("hash", frozenset({"b", "a"}), True, Allowed(("x/%u",), ()), ScramKeys(4096, b"\xff", b"k", b"s"))
BOB = User("other", is_enabled=False)


def put(caller: Caller, name: str, user: User = BOB, seen: int = 0, *, renews: bool = True) -> int:
    return as_int(caller.ask(users.put_user(name, users.pack_user(user), seen, renews=renews)))


def find(caller: Caller, *names: str) -> list[StoredUser | None]:
    _, found = users.parse_found(names, caller.ask(users.find_users(names), function="free"))
    return [found[name] for name in names]


def follow(caller: Caller, seen: int, limit: int = 10) -> users.Changes:
    return users.parse_changes(caller.ask(users.follow_users(seen, limit), function="free"))


@pytest.mark.parametrize("user", [ANN, BOB, User("x", allowed=Allowed())])
def test_a_record_is_the_user(user: User) -> None:
    assert users.unpack_user(users.pack_user(user)) == user


@pytest.mark.parametrize("record", [b"", b"\xc1", b"\x91\x01", b"\x91\x02", b"\x96\x01\x01\x90\x01\xc0\xc0"])
def test_what_is_no_record(record: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        users.unpack_user(record)
    assert users.parse_user("x", b"1:1:1:1:" + record) is None


def test_a_record_of_a_newer_release_may_say_more() -> None:
    record = users.pack_user(BOB)
    assert users.unpack_user(b"\x97" + record[1:] + b"\x07") == BOB


def test_a_user_from_its_beginning_to_its_end(caller: Caller) -> None:
    assert find(caller, "ann") == [None]
    first = put(caller, "ann", ANN)
    (stored,) = find(caller, "ann")
    assert stored is not None
    assert (stored.user, stored.version, stored.credentials_version) == (ANN, first, first)
    assert stored.created_ms == stored.changed_ms > 1_700_000_000_000
    second = put(caller, "ann", BOB, first, renews=False)
    changed, nobody = find(caller, "ann", "nobody")
    assert changed is not None
    assert nobody is None
    assert (changed.user, changed.version, changed.credentials_version) == (BOB, second, first)
    assert changed.created_ms == stored.created_ms
    third = put(caller, "ann", ANN, second)
    (renewed,) = find(caller, "ann")
    assert renewed is not None
    assert renewed.credentials_version == third > second > first
    assert as_int(caller.ask(users.delete_user("ann"))) == third + 1
    assert as_int(caller.ask(users.delete_user("ann"))) == 0
    assert find(caller, "ann") == [None]
    assert put(caller, "ann") > third  # whoever came in as the one before is older


def test_nobodys_change_is_undone(caller: Caller) -> None:
    first = put(caller, "ann")
    assert put(caller, "ann") == users.CONFLICT
    assert put(caller, "ann", ANN, first) > first
    assert put(caller, "ann", BOB, first) == users.CONFLICT
    assert put(caller, "nobody", BOB, first) == users.CONFLICT
    (stored,) = find(caller, "ann")
    assert stored is not None
    assert stored.user == ANN


def test_there_is_a_bound(caller: Caller) -> None:
    request = users.put_user("ann", b"x", 0, renews=True)
    request[-1] = 1
    assert caller.ask(request) == 1
    request[2] = "bob"
    assert caller.ask(request) == users.FULL
    assert caller.redis.zrange(keys.users_index(caller.prefix), 0, -1) == [b"ann"]
    assert follow(caller, 0).names == ["ann"]


def test_a_full_redis_reads_and_deletes(caller: Caller) -> None:
    put(caller, "ann")
    caller.redis.config_set("maxmemory", 1)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        put(caller, "bob")
    assert [user is None for user in find(caller, "ann", "bob")] == [False, True]
    assert as_int(caller.ask(users.delete_user("ann"), function="free")) == 2


def test_pages_are_in_order_and_whole(caller: Caller) -> None:
    names = sorted((f"u{number}é{{" for number in range(25)), key=str.encode)
    for name in reversed(names):
        put(caller, name)
    seen: list[str] = []
    after = None
    caller.redis.hset(keys.users(caller.prefix), names[9], b"damaged")
    while True:
        page, after = users.parse_page(caller.ask(users.users_page(after, 10)))
        if after is None:
            break
        assert len(page) <= 10
        seen += [user.name for user in page]
    assert seen == names[:9] + names[10:]


def test_who_has_changed(caller: Caller) -> None:
    assert follow(caller, 0) == users.Changes(0, [], True)
    assert follow(caller, -1) == users.Changes(0, [], False)  # nothing was known
    for name, seen in (("a", 0), ("b", 0), ("a", 1)):
        put(caller, name, seen=seen)
    caller.ask(users.delete_user("b"))
    assert follow(caller, 0) == users.Changes(4, ["a", "b", "a", "b"], True)
    assert follow(caller, 0, 3) == users.Changes(3, ["a", "b", "a"], True)
    assert follow(caller, 3) == users.Changes(4, ["b"], True)
    assert follow(caller, 4) == users.Changes(4, [], True)
    assert follow(caller, 9) == users.Changes(4, [], False)  # Redis has lost what came after 4
    caller.redis.xtrim(keys.users_log(caller.prefix), maxlen=2, approximate=False)
    assert follow(caller, 1) == users.Changes(4, [], False)
    assert follow(caller, 2) == users.Changes(4, ["a", "b"], True)


def test_writers_and_followers_at_once(redis_client: redis.Redis, caller: Caller) -> None:
    """Each change is told once, and what was told can be read."""
    path = redis_client.connection_pool.connection_kwargs["path"]
    told: list[str] = []

    def write(number: int) -> None:
        with redis.Redis(unix_socket_path=path) as client:
            own = Caller(client, caller.prefix)
            for each in range(25):
                put(own, f"w{number}-{each}")

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(4)]
        seen = 0
        while len(told) < 100:
            changes = follow(caller, seen, 7)
            assert changes.is_complete
            if not changes.names:
                continue
            assert None not in find(caller, *changes.names)
            seen = changes.version
            told += changes.names
            assert not any(writer.done() and writer.exception() for writer in writers)
    assert len(set(told)) == seen == 100


def test_a_kill_of_redis_leaves_no_part_of_a_user(tmp_path: Path) -> None:
    """At any moment of many writes, more than once."""
    with running_redis(tmp_path / "redis") as server:
        for number in range(3):
            with redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as client:
                client.function_load(library_source(), replace=True)
                caller = Caller(client, "k:")
                killing = threading.Timer(0.05, server.kill)
                with suppress(redis.exceptions.ConnectionError):
                    for each in itertools.count():
                        put(caller, f"{number}-{each}")
                        if each == 10:
                            killing.start()
                        if each % 3 == 2:
                            caller.ask(users.delete_user(f"{number}-{each - 1}"))
                killing.join()
            server.start()
            with server.client() as client:
                caller = Caller(client, "k:")
                stored = caller.hash(keys.users("k:"))
                assert sorted(stored) == client.zrange(keys.users_index("k:"), 0, -1)
                assert len(stored) > 3
                assert all(users.parse_user("x", value) for value in stored.values())
                version = int(client.get(keys.users_version("k:")) or 0)
                (last,) = client.xrevrange(keys.users_log("k:"), count=1)
                assert last[0] == f"0-{version}".encode()
                assert max(int(value.split(b":")[0]) for value in stored.values()) >= version - 1


def test_the_secret_is_the_first_one(caller: Caller) -> None:
    assert as_bytes(caller.ask(users.users_secret(b"\0\xff"))) == b"\0\xff"
    assert as_bytes(caller.other().ask(users.users_secret(b"another"))) == b"\0\xff"


def test_rules(caller: Caller) -> None:
    def read(had: int) -> tuple[int, str | None]:
        return users.parse_rules(caller.ask(users.read_rules(had), function="free"))

    assert read(-1) == (0, None)
    assert caller.ask(users.put_rules("é")) == 1
    assert read(-1) == read(0) == (1, "é")
    assert read(1) == (1, None)
    assert caller.ask(users.put_rules(None), function="free") == 2
    assert read(1) == (2, None)
    assert caller.ask(users.put_rules("")) == 3
    assert read(2) == (3, "")


def test_a_key_that_somebody_has_damaged(caller: Caller) -> None:
    caller.redis.set(keys.users(caller.prefix), "x")
    with pytest.raises(ItemError):
        find(caller, "ann")
