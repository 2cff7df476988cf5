"""Bans that come by themselves: who, when, and who never."""

import time
from collections.abc import Coroutine
from ipaddress import ip_network
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from broker import build_mode
from broker.auth import Denied, Identity
from broker.auth.ban import Target
from broker.auth.ban_list import BanList
from broker.client import Banning, BanRules, Client
from broker.client.admitting import note_verdict
from broker.client.enforcing import delay
from broker.mqtt import ReasonCode
from broker.observability.bans import BanCounters

WRONG = ReasonCode.BAD_USER_NAME_OR_PASSWORD
GONE = "client disconnected"


class Site:
    """One node: what it has asked to be banned."""

    def __init__(self, *exempt: str, limit: int = 3) -> None:
        self.banned: list[tuple[str, str, float]] = []
        self.waiting: list[Coroutine[object, object, None]] = []
        self.counters = BanCounters()
        rules = BanRules(limit, 60, 300, limit, 60, 30, [ip_network(each) for each in exempt])
        self.banning = Banning(BanList(), rules, self.counters, self.waiting.append, self._impose)

    def guess(self, count: int, address: str, username: str | None = "u", code: ReasonCode = WRONG) -> None:
        for _ in range(count):
            self.banning.note_failure(code, username, address, 0.0)

    def flap(self, count: int, client_id: str, address: str, reason: str = GONE) -> None:
        for _ in range(count):
            self.banning.note_end(client_id, address, reason, 0.0)

    def run(self) -> list[tuple[str, str, float]]:
        """What has been banned since."""
        for work in self.waiting:
            with pytest.raises(StopIteration):
                work.send(None)
        self.waiting.clear()
        banned, self.banned = self.banned, []
        return banned

    async def _impose(self, target: Target, reason: str, seconds: float) -> None:
        self.banned.append((target.name, reason, seconds))


def test_who_guesses_is_banned_by_address() -> None:
    site = Site()
    site.guess(3, "192.0.2.7")
    assert site.run() == []
    site.guess(1, "::ffff:192.0.2.7")
    assert site.run() == [("address:192.0.2.7", "4 failed authentications", 300)]
    assert site.counters.automatic == {"guessing": 1, "flapping": 0}


@pytest.mark.skipif(build_mode() != "pure", reason="compiled, nothing takes a client but a real one")
def test_each_verdict_counts_whatever_it_came_by() -> None:
    """Of a password or of an Authentication Method; who says nothing guesses nothing."""
    site = Site()
    hub = SimpleNamespace(banning=site.banning, guard=None)
    client = cast(Client, SimpleNamespace(hub=hub, address="192.0.2.7"))
    for _ in range(10):
        note_verdict(client, None, Denied(), is_guess=False)
    assert site.run() == []
    for _ in range(4):
        note_verdict(client, "u", Denied())
    assert [name for name, *_ in site.run()] == ["address:192.0.2.7"]
    note_verdict(client, "u", Identity("u"))
    anyio.run(delay, site.banning, "u", time.monotonic())
    assert site.counters.delayed == 0


def test_of_ipv6_all_addresses_of_a_customer_count() -> None:
    site = Site()
    for number in range(4):
        site.guess(1, f"2001:db8::{number}")
    site.guess(3, "2001:db8:0:1::1")
    assert [name for name, *_ in site.run()] == ["address:2001:db8::/64"]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "192.0.2.7", "2001:db8::5", ""]
)
def test_never_loopback_or_exempt_addresses_or_what_has_none(address: str) -> None:
    site = Site("192.0.2.0/24", "2001:db8::/32")
    site.guess(100, address)
    site.flap(100, "c", address)
    assert site.run() == []


@pytest.mark.parametrize("code", [ReasonCode.SERVER_BUSY, ReasonCode.SERVER_UNAVAILABLE])
def test_what_is_not_the_clients_fault_does_not_count(code: ReasonCode) -> None:
    site = Site()
    site.guess(100, "192.0.2.7", code=code)
    assert site.run() == []


def test_while_a_ban_is_asked_for_nobody_asks_again() -> None:
    site = Site()
    site.guess(40, "192.0.2.7")
    assert len(site.waiting) == 1
    assert len(site.run()) == 1
    site.guess(4, "192.0.2.7")
    assert len(site.run()) == 1


def test_a_flood_of_addresses_asks_for_few_at_a_time() -> None:
    site = Site(limit=1)
    for number in range(1000):
        site.guess(2, f"198.18.{number // 250}.{number % 250}")
    assert len(site.run()) == 100


def test_who_flaps_is_banned_at_that_address() -> None:
    site = Site()
    site.flap(3, "c", "192.0.2.7", "connection lost: reset")
    site.flap(3, "c", "192.0.2.8", "malformed_packet: x")
    assert site.run() == []
    site.flap(1, "c", "192.0.2.7", "keep_alive_timeout: x")
    assert site.run() == [("pair:192.0.2.7 c", "4 connections that ended", 30)]


@pytest.mark.parametrize("reason", ["session_taken_over: x", "server_busy: x", "server_shutting_down: x"])
def test_what_the_broker_has_ended_is_no_flapping(reason: str) -> None:
    site = Site()
    site.flap(100, "c", "192.0.2.7", reason)
    assert site.run() == []


def test_a_limit_of_nothing_bans_nobody() -> None:
    site = Site(limit=0)
    site.guess(100, "192.0.2.7")
    site.flap(100, "c", "192.0.2.7")
    assert site.run() == []


def test_other_rules_hold_from_then_on() -> None:
    site = Site()
    site.banning.change(BanRules(1, 60, 90, 0, 60, 30, ()))
    site.guess(2, "192.0.2.7")
    site.flap(100, "c", "192.0.2.7")
    assert [seconds for _, _, seconds in site.run()] == [90]


@pytest.mark.anyio
async def test_a_user_name_is_slowed_down_and_never_banned(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    site = Site()
    for number in range(10):
        await delay(site.banning, "u", 0.0)
        site.guess(1, f"192.0.2.{number}")
    await delay(site.banning, "other", 0.0)
    await delay(site.banning, None, 0.0)
    assert waited == [1, 2, 3, 4, 5, 5]
    assert site.counters.delayed == 6
    assert site.run() == []
    site.banning.note_success("u")
    await delay(site.banning, "u", 0.0)
    assert len(waited) == 6


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
