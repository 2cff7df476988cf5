"""The header of a proxy: what is read out of it, however it comes; what is none."""

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.client import Origin
from broker.listeners.proxy_header import HEADER_MAXIMUM, TEXT_MAXIMUM, BadHeader, Header, parse_header
from tests.listeners.proxy_headers import (
    HEALTH_CHECK,
    PROXY,
    SIGNATURE,
    UNIX,
    UNKNOWN,
    V4,
    V6,
    Host,
    binary_header,
    text_header,
)

HOSTS = st.ip_addresses()
PORTS = st.integers(0, 65_535)
BEHIND = st.binary(max_size=40)


def _read(chunks: Iterable[bytes]) -> tuple[Header | None, bytes]:
    """As from a socket, chunk by chunk; the header and what was not taken."""
    begun = b""
    header = None
    rest = b""
    for chunk in chunks:
        if header is not None:
            rest += chunk
            continue
        header = parse_header(begun + chunk)
        begun += chunk
        if header is not None:
            rest = begun[header.size :]
    return header, rest


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place for place in places if place < len(data)} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


@given(HOSTS, HOSTS, PORTS, PORTS, BEHIND, st.lists(st.integers(1, 120)))
def test_version_1_in_any_pieces(
    host: Host, to: Host, port: int, to_port: int, behind: bytes, places: list[int]
) -> None:
    if host.version != to.version:
        to = host
    header = text_header(host, port, to, to_port)
    found, rest = _read(_cut(header + behind, places))
    assert found == Header(Origin(_plain(host), port), len(header))
    assert rest == behind


@given(HOSTS, PORTS, st.binary(max_size=300), BEHIND, st.lists(st.integers(1, 400)))
@example(V6, 1, bytes(4096 - 36), b"x", [5])
def test_version_2_in_any_pieces(
    host: Host, port: int, extra: bytes, behind: bytes, places: list[int]
) -> None:
    header = binary_header(host, port, extra)
    found, rest = _read(_cut(header + behind, places))
    assert found == Header(Origin(_plain(host), port), len(header))
    assert rest == behind


def _plain(host: Host) -> str:
    mapped = host.ipv4_mapped if isinstance(host, IPv6Address) else None
    return str(mapped or host)


@given(st.one_of(st.binary(), st.binary().map(SIGNATURE.__add__), st.binary().map(b"PROXY ".__add__)))
def test_whatever_comes_is_a_header_or_none_or_not_yet_one(data: bytes) -> None:
    """Nothing else is raised; what is taken is within bounds; nothing is waited for without end."""
    try:
        header = parse_header(data)
    except BadHeader:
        return
    if header is None:
        assert len(data) < HEADER_MAXIMUM
        return
    assert 0 < header.size <= min(len(data), HEADER_MAXIMUM)
    if header.origin is not None:
        assert str(ip_address(header.origin.host)) == header.origin.host
        assert 0 <= header.origin.port <= 65_535
    assert parse_header(data[: header.size]) == header


@pytest.mark.parametrize(
    "data",
    [
        UNKNOWN,
        b"PROXY UNKNOWN ffff:f...f:ffff whatever\r\n",
        HEALTH_CHECK,
        binary_header(V4, 5, command=0x20),
        SIGNATURE + bytes([0x20, 0x77, 0, 1, 0]),  # of LOCAL nothing counts
        SIGNATURE + bytes([PROXY, 0x00, 0, 2]) + b"xx",
        SIGNATURE + bytes([PROXY, UNIX, 0, 216]) + bytes(216),
    ],
)
def test_what_says_nothing(data: bytes) -> None:
    assert parse_header(data + b"behind") == Header(None, len(data))
    for end in range(1, len(data)):
        assert parse_header(data[:end]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x10\x0e\x00\x04MQTT",
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\n",
        b"PROXX",
        b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"\r\n\r\nx",
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY  UNKNOWN\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        b"PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 x 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999999999999999999\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 ١ 2\r\n".encode(),
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n" + bytes(TEXT_MAXIMUM),
        b"PROXY UNKNOWN " + b"x" * TEXT_MAXIMUM + b"\r\n",
        SIGNATURE + bytes([0x11, 0x11, 0, 0]),  # version 1
        SIGNATURE + bytes([0x22, 0x11, 0, 12]),  # an unknown command
        SIGNATURE + bytes([PROXY, 0x12, 0, 12]),  # UDP
        SIGNATURE + bytes([PROXY, 0x01, 0, 12]),
        SIGNATURE + bytes([PROXY, 0x11, 0, 11]),  # too short for two addresses
        SIGNATURE + bytes([PROXY, 0x21, 0, 35]),
        SIGNATURE + bytes([PROXY, 0x31, 0, 215]),
        SIGNATURE + bytes([0x20, 0x00, 0x10, 0x01]),  # 4,097 bytes
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(BadHeader):
        parse_header(data)


def test_the_longest_line() -> None:
    line = b"PROXY UNKNOWN ".ljust(TEXT_MAXIMUM - 2, b"x") + b"\r\n"
    assert parse_header(line + b"behind") == Header(None, TEXT_MAXIMUM)
    with pytest.raises(BadHeader):
        parse_header(b"PROXY UNKNOWN ".ljust(TEXT_MAXIMUM - 1, b"x") + b"\r\n")
