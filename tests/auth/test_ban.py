"""Bans, and finding the one that fits."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.auth.address import plain_address
from broker.auth.ban import Ban, BanKind, Target, check_text, target_of
from broker.auth.ban_list import BanList
from broker.observability.bans import KINDS

NOW = 1_000_000


def ban(kind: str, value: str, until_ms: int = 0) -> Ban:
    return Ban(target_of(kind, value), "why", "me", 0, until_ms)


def holding(*bans: Ban) -> BanList:
    held = BanList()
    for each in bans:
        held.add(each)
    return held


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        ("address", "192.0.2.7", "192.0.2.7"),
        ("address", "192.0.2.7/32", "192.0.2.7"),
        ("address", "192.0.2.0/24", "192.0.2.0/24"),
        ("address", "::ffff:192.0.2.7", "192.0.2.7"),
        ("address", "2001:DB8:0::1", "2001:db8::1"),
        ("address", "2001:db8::/64", "2001:db8::/64"),
        ("pair", "2001:DB8:0::1 a client", "2001:db8::1 a client"),
        ("client", "a b*", "a b*"),
        ("user", "*x", "*x"),
    ],
)
def test_each_target_has_one_form(kind: str, written: str, value: str) -> None:
    target = target_of(kind, written)
    assert target.value == value
    assert Target.of_name(target.name) == target


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("planet", "earth"),
        ("address", "192.0.2.7/24"),
        ("address", "example.com"),
        ("address", "0.0.0.0/0"),
        ("address", "::/0"),
        ("address", ""),
        ("pair", "192.0.2.7"),
        ("pair", "x y"),
        ("client", ""),
        ("client", "*"),
        ("client", "**"),
        ("client", "a\0"),
        ("client", "é" * 513),
        ("user", ""),
    ],
)
def test_what_makes_no_sense_is_refused(kind: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        target_of(kind, value)


def test_a_reason_is_one_line() -> None:
    assert check_text("sends garbage", 200) == "sends garbage"
    for text in ("two\nlines", "x" * 201):
        with pytest.raises(ValueError, match="one line"):
            check_text(text, 200)


def test_clients_by_name_by_pattern_and_at_one_address() -> None:
    held = holding(
        ban("client", "exact"), ban("client", "pump-*-b"), ban("client", "*z*"), ban("pair", "192.0.2.7 both")
    )

    def is_banned(client_id: str, address: str = "192.0.2.1") -> bool:
        return held.find_client(client_id, address, NOW) is not None

    assert is_banned("exact")
    assert is_banned("pump-1-b")
    assert is_banned("pump--b")
    assert is_banned("xyz")
    assert is_banned("both", "::ffff:192.0.2.7")
    for client_id in ("exactly", "Exact", "pump-1-c", "pump-b", "both", ""):
        assert not is_banned(client_id)
    assert held.counts == {"client": 3, "user": 0, "address": 0, "pair": 1}


def test_users_by_name_only() -> None:
    held = holding(ban("user", "mal*"))
    assert held.find_user("mal*", NOW) is not None
    assert held.find_user("mallory", NOW) is None
    assert held.find_user(None, NOW) is None


NETWORKS = st.one_of(
    st.builds(
        lambda bits, length: ip_network((bits, length), strict=False), st.integers(0, 255), st.integers(1, 32)
    ),
    st.builds(
        lambda bits, length: ip_network((bits << 120, length), strict=False),
        st.integers(0, 255),
        st.integers(1, 128),
    ),
)
ADDRESSES = st.one_of(
    st.integers(0, 300).map(lambda bits: ip_address(bits)),
    st.integers(0, 300).map(lambda bits: ip_address((bits << 119) | 1 << 70)),
)


@given(st.lists(NETWORKS, max_size=8), st.lists(NETWORKS, max_size=3), ADDRESSES)
def test_addresses_are_found_as_by_looking_at_all_networks(
    networks: list[object], removed: list[object], address: object
) -> None:
    held = holding(*[ban("address", str(network)) for network in networks])
    for network in removed:
        held.remove(target_of("address", str(network)))
    left = {str(network) for network in networks} - {str(network) for network in removed}
    found = held.find_address(str(address), NOW)
    wanted = any(ip_address(str(address)) in ip_network(each) for each in left)
    assert (found is not None) == wanted
    assert held.counts["address"] == len(left) == len(held)


def test_what_has_ended_holds_no_more() -> None:
    held = holding(
        ban("client", "c", NOW + 1), ban("client", "p*", NOW + 1), ban("address", "192.0.2.0/24", NOW + 1)
    )
    for now_ms, is_banned in ((NOW, True), (NOW + 1, False)):
        found = (
            held.find_client("c", "", now_ms),
            held.find_client("p", "", now_ms),
            held.find_address("192.0.2.1", now_ms),
        )
        assert [each is not None for each in found] == [is_banned] * 3


def test_a_wider_ban_holds_where_a_narrower_one_has_ended() -> None:
    held = holding(ban("address", "192.0.2.1", NOW), ban("address", "192.0.2.0/24"))
    found = held.find_address("192.0.2.1", NOW)
    assert found is not None
    assert found.target.value == "192.0.2.0/24"


def test_what_people_have_set_is_found_behind_what_came_by_itself() -> None:
    by_itself = [
        Ban(target_of(kind, value), "why", "moorline", 0, 0, is_automatic=True)
        for kind, value in (("address", "192.0.2.7"), ("pair", "192.0.2.7 c"), ("client", "a"), ("user", "u"))
    ]
    held = holding(*by_itself)
    assert held.find_address("192.0.2.7", NOW, only_set=True) is None
    assert held.find_client("c", "192.0.2.7", NOW, only_set=True) is None
    assert held.find_user("u", NOW, only_set=True) is None
    assert held.find_user("u", NOW) is not None
    held.add(ban("address", "192.0.2.0/24"))
    held.add(ban("client", "c*"))
    assert held.find_address("192.0.2.7", NOW, only_set=True) is not None
    assert held.find_client("c", "192.0.2.7", NOW, only_set=True) is not None


def test_removed_and_replaced() -> None:
    held = holding(ban("client", "p*"), ban("client", "p-*"))
    assert held.remove(target_of("client", "p*")) is not None
    assert held.remove(target_of("client", "p*")) is None
    assert held.find_client("px", "", NOW) is None
    assert held.find_client("p-x", "", NOW) is not None
    counts = held.counts
    held.become(holding(ban("user", "u")))
    assert held.find_client("p-x", "", NOW) is None
    assert held.get(target_of("user", "u")) is not None
    assert counts == {"client": 0, "user": 1, "address": 0, "pair": 0}


def test_what_is_no_address_is_never_banned() -> None:
    held = holding(*[ban("address", each) for each in ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")])
    assert held.find_address("", NOW) is None
    assert held.find_address("/run/mqtt.sock", NOW) is None
    assert held.find_address("fe80::1%eth0", NOW) is not None
    assert plain_address("") == ""


def test_kinds_are_those_of_the_metrics() -> None:
    assert tuple(kind.value for kind in BanKind) == KINDS
