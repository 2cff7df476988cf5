"""What is asked of a primary to have a level confirmed, and what its answers mean to people."""

from collections.abc import Sequence
from typing import cast

import pytest

from cluster.store.confirm import Asker, Need, Outcome, has_true_waitaof
from cluster.store.connection import Connection
from cluster.store.errors import AccessDenied, CallFailed, RedisFull, StoreUnavailable, UnsupportedRedis
from cluster.store.server import parse_info

pytestmark = pytest.mark.anyio

INFO = b"# Replication\r\nrole:master\r\nconnected_slaves:%d\r\nmaster_replid:%b\r\nmaster_replid2:0\r\n"
PEXPIRE = "PEXPIRE fence 3600000"
SETTINGS = "CONFIG GET appendonly appendfsync no-appendfsync-on-rewrite"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Talk:
    """A connection: `answers` to the next questions, command by command; `asked` has these."""

    address = "here"
    server = b"redis_version:8.0.0\r\n"

    def __init__(self, *answers: Sequence[object]) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []
        self.single: list[tuple[object, ...]] = []

    async def ask(self, commands: bytes, count: int) -> list[object]:
        self.asked.append(_words(commands))
        answers = list(self.answers.pop(0))
        assert len(answers) == count
        return answers

    async def ask_one(self, *arguments: object) -> object:
        if arguments == ("INFO", "server"):
            return self.server
        self.single.append(arguments)
        return b"OK"


def _words(commands: bytes) -> list[str]:
    found: list[str] = []
    lines = commands.decode().split("\r\n")[:-1]
    while lines:
        count = int(lines.pop(0)[1:])
        found.append(" ".join(lines[1 : 2 * count : 2]))
        lines = lines[2 * count :]
    return found


def _asker(talk: Talk, replicas: int = 0, *, is_fsynced: bool = False) -> Asker:
    return Asker(cast(Connection, talk), "fence", Need(replicas, is_fsynced), 500)


def _info(replicas: int = 1, id: bytes = b"x") -> bytes:
    return INFO % (replicas, id)


async def test_replicas_and_disk_are_asked_behind_a_write_of_our_own() -> None:
    talk = Talk([1, 2, [1, 0], _info(2)])
    outcome = await _asker(talk, 2, is_fsynced=True).ask(must_write=True)
    assert outcome == Outcome("", "x", "0")
    assert talk.asked == [[PEXPIRE, "WAIT 2 500", "WAITAOF 1 0 500", "INFO replication"]]


async def test_the_key_is_made_if_it_is_not_there() -> None:
    talk = Talk([0, 1, _info()], [1, 1, _info()])
    assert (await _asker(talk, 1).ask(must_write=True)).trouble == ""
    assert talk.single == [("SET", "fence", 1, "PX", 3_600_000)]
    assert len(talk.asked) == 2


async def test_nothing_is_written_to_ask_again() -> None:
    talk = Talk([1, _info()])
    assert (await _asker(talk, 1).ask(must_write=False)).trouble == ""
    assert talk.asked == [["WAIT 1 500", "INFO replication"]]


@pytest.mark.parametrize(
    ("answer", "connected", "trouble"),
    [
        (0, 0, "0 replicas are connected, 1 needed: start more"),
        (0, 1, "0 of 1 replicas had it within 500 ms, 1 needed"),
        (AccessDenied("NOPERM"), 1, "allow it (+wait)"),
        (CallFailed("ERR odd"), 1, "WAIT answered ERR odd"),
    ],
)
async def test_trouble_with_replicas_is_told(answer: object, connected: int, trouble: str) -> None:
    talk = Talk([1, answer, _info(connected)])
    assert trouble in (await _asker(talk, 1).ask(must_write=True)).trouble


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        ([0, 0], "its disk did not have it within 500 ms"),
        (AccessDenied("NOPERM"), "allow it (+waitaof)"),
        (CallFailed("ERR WAITAOF cannot be used when appendonly is disabled"), "set appendonly yes"),
        (b"OK", "the server answered b'OK'"),
    ],
)
async def test_trouble_with_the_disk_is_told(answer: object, trouble: str) -> None:
    talk = Talk([1, answer, _info()])
    assert trouble in (await _asker(talk, is_fsynced=True).ask(must_write=True)).trouble


def _settings(**values: bytes) -> list[bytes]:
    return [part for name, value in values.items() for part in (name.replace("_", "-").encode(), value)]


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (_settings(appendonly=b"yes", appendfsync=b"always", no_appendfsync_on_rewrite=b"no"), ""),
        (
            _settings(appendonly=b"yes", appendfsync=b"everysec", no_appendfsync_on_rewrite=b"yes"),
            "set appendfsync always, no-appendfsync-on-rewrite no, or choose another level",
        ),
        (AccessDenied("NOPERM"), "does not say whether appendfsync is always"),
        (UnsupportedRedis("ERR unknown command"), "does not say whether appendfsync is always"),
    ],
)
async def test_a_server_without_a_true_waitaof_has_to_write_always(answer: object, trouble: str) -> None:
    talk = Talk([1, answer, _info()], [answer, _info()])
    talk.server = b"redis_version:7.2.4\r\nvalkey_version:9.1.2\r\n"
    asker = _asker(talk, is_fsynced=True)
    told = (await asker.ask(must_write=True)).trouble
    assert trouble in told
    assert bool(told) is bool(trouble)
    assert talk.asked == [[PEXPIRE, SETTINGS, "INFO replication"]]
    assert (await asker.ask(must_write=False)).trouble == told


@pytest.mark.parametrize(
    ("server", "is_true"),
    [
        ("redis_version:7.0.15", False),
        ("redis_version:7.2.0", True),
        ("redis_version:7.4.2", False),
        ("redis_version:8.0.0", True),
        ("redis_version:8", False),
        ("redis_version:7.2.4\r\nvalkey_version:7.2.11", True),
        ("redis_version:7.2.4\r\nvalkey_version:8.1.0", False),
        ("redis_version:7.2.4\r\nvalkey_version:9.1.2", False),
        ("", False),
    ],
)
def test_whose_waitaof_is_true(server: str, is_true: bool) -> None:
    assert has_true_waitaof(parse_info(server)) is is_true


@pytest.mark.parametrize(
    "answers",
    [
        [StoreUnavailable("READONLY"), 0, _info()],
        [1, CallFailed("UNBLOCKED force unblock from blocking operation"), _info()],
        [1, 1, b"role:slave\r\n"],
        [1, 1, RedisFull("OOM")],
    ],
)
async def test_a_server_that_is_no_primary_confirms_nothing(answers: list[object]) -> None:
    with pytest.raises(StoreUnavailable):
        await _asker(Talk(answers), 1).ask(must_write=True)
