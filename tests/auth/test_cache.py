"""Verdicts are remembered for a while, without passwords."""

from broker.auth import Denied, Identity
from broker.auth.cache import VerdictCache

ANN = Identity("ann")


def test_found_until_its_time_has_passed() -> None:
    now = [0.0]
    cache = VerdictCache(10, 100, lambda: now[0])
    key = cache.key("ann", b"secret")
    assert cache.find(key) is None
    cache.keep(key, ANN)
    now[0] = 9
    assert cache.find(cache.key("ann", b"secret")) is ANN
    assert cache.find(cache.key("ann", b"other")) is None
    assert cache.find(cache.key("anns", b"ecret")) is None
    assert cache.find(cache.key("ann", None)) is None
    now[0] = 10
    assert cache.find(key) is None


def test_not_beyond_the_deadline_of_an_identity() -> None:
    now = [0.0]
    cache = VerdictCache(100, 10, lambda: 0, lambda: now[0])
    cache.keep(b"k", Identity("ann", deadline=5.0))
    assert cache.find(b"k") is not None
    now[0] = 5.0
    assert cache.find(b"k") is None


def test_guesses_push_nobody_out() -> None:
    cache = VerdictCache(10, 2, lambda: 0)
    cache.keep(b"ann", ANN)
    for number in range(10):
        cache.keep(b"%d" % number, Denied())
    assert cache.find(b"ann") is ANN
    assert [cache.find(b"%d" % number) is not None for number in (7, 8, 9)] == [False, True, True]
    cache.clear()
    assert cache.find(b"ann") is cache.find(b"9") is None


def test_nothing_for_no_time() -> None:
    cache = VerdictCache(0, 2, lambda: 0)
    cache.keep(b"k", ANN)
    assert cache.find(b"k") is None


def test_keys_of_two_processes_differ_and_say_nothing() -> None:
    one, two = VerdictCache(1, 1), VerdictCache(1, 1)
    assert one.key("ann", b"secret") != two.key("ann", b"secret")
    assert b"secret" not in one.key("ann", b"secret")
