"""Sentinels that are not as they should be."""

import anyio
import pytest

from broker.doctor.finding import Finding, Level
from broker.doctor.sentinel import check_sentinels
from cluster.store.endpoint import parse_url
from tests.store.fake_sentinel import DENIED, NOBODY, answer, sentinels, url_of

WELL: dict[str, str | int] = {
    "num_slaves": 1,
    "num_other_sentinels": 2,
    "quorum": 2,
    "down_after_milliseconds": 3000,
}
NO_QUORUM = b"-NOQUORUM 1 usable Sentinels. Not enough\r\n"


def look(*says: bytes | None, quorum: bytes | None = None) -> tuple[list[Finding], str]:
    """What is found, and where the primary is."""

    async def examine() -> tuple[list[Finding], str]:
        async with sentinels(*says) as (_, fakes):
            for fake in fakes:
                fake.quorum = quorum or fake.quorum
            findings, primary = await check_sentinels(parse_url(url_of(fakes)))
            return findings, str(primary)

    return anyio.run(examine)


def at(port: int = 1, epoch: int = 3, **fields: str | int) -> bytes:
    """The answer of a sentinel that is well, but for these fields."""
    return answer(port, epoch, **{**WELL, **fields})


def test_all_is_well() -> None:
    findings, primary = look(*[at()] * 3)
    assert [finding.level for finding in findings] == [Level.OK] * 4
    assert findings[0].found == "3 of 3 answer; they call 127.0.0.1:1 'main'"
    assert primary == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("says", "text"),
    [
        ([at(), at(), NOBODY], "knows no primary with the name 'main'"),
        ([at(), at(), DENIED * 2], "NOAUTH"),
        ([at(), at(), None], "no answer"),
        ([at(), at(), at(2, 4)], "they differ: 127.0.0.1:"),
        ([at(s_down_time=5), at(), at()], "is down for some of them"),
        ([at(num_other_sentinels=1)] * 2, "2 sentinels know each other"),
        ([at(), at(), at(num_other_sentinels=1)], "3 sentinels know each other"),
        ([at(quorum=4)] * 3, "4 must agree"),
        ([at()], "redis.url names 1"),
        ([at(num_slaves=0)] * 3, "no replica"),
        ([at(down_after_milliseconds=100)] * 3, "a pause is taken for a death"),
        ([at(down_after_milliseconds=30_000)] * 3, "nothing is acknowledged so long"),
    ],
)
def test_what_is_not(says: list[bytes | None], text: str) -> None:
    findings, primary = look(*says)
    bad = [finding for finding in findings if finding.level is not Level.OK]
    assert [finding.level for finding in bad] == [Level.WARN]
    assert text in bad[0].found
    assert primary.startswith("127.0.0.1:")


def test_too_few_are_left() -> None:
    findings, _ = look(*[at()] * 3, quorum=NO_QUORUM)
    assert sum("NOQUORUM" in finding.found for finding in findings) == 3


def test_right_to_ask_for_the_quorum_is_not_needed() -> None:
    findings, _ = look(*[at()] * 3, quorum=b"-NOPERM this user has no permissions\r\n")
    assert {finding.level for finding in findings} == {Level.OK}


def test_none_is_there() -> None:
    findings, primary = look(None, NOBODY)
    assert [finding.level for finding in findings] == [Level.WARN, Level.WARN, Level.FAIL]
    assert primary == "None"
