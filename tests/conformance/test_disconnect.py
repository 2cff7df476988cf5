"""PINGREQ, DISCONNECT, and how the server ends a connection [3.12, 3.14, 4.13]."""

import pytest

from broker.mqtt import Disconnect, Properties, Publish, ReasonCode, encode
from tests.conformance.clauses import v3, v5
from tests.conformance.flow import Flow
from tests.conformance.malformed.case import packet


@v5("3.12.4-1", "4.2-1")
@v3("3.12.4-1", "7.1.1-1")
def test_ping_is_answered(flow: Flow) -> None:
    """Each one, in bytes, over TCP, before and behind others."""
    client = flow.near()
    client.send_bytes(packet(0xC0) * 3)
    assert client.receive_bytes(6) == packet(0xD0) * 3
    other = flow.far("other")
    assert other.ping() == []


@v5("3.14.4-1", "3.14.4-2", "3.14.2-2")
def test_nothing_follows_disconnect_of_the_server(flow: Flow) -> None:
    """Though there is more to answer."""
    client = flow.near()
    client.send_bytes(packet(0xC0) + packet(0x00) + packet(0xC0))
    packets = client.wait_closed()
    last = packets[-1]
    assert isinstance(last, Disconnect)
    assert last.reason_code == ReasonCode.MALFORMED_PACKET
    assert [each.packet_type for each in packets[:-1]] == [13]
    assert last.properties is None or last.properties.session_expiry_interval is None


@v5("4.13.2-1", "3.14.4-2")
@v3("4.8.0-1")
def test_closed_with_disconnect_of_the_client(flow: Flow) -> None:
    """Without an answer; what it sends after that counts for nothing."""
    watcher = flow.far("watcher")
    watcher.subscribe(flow.name("#"), qos=1)
    client = flow.near()
    client.send_bytes(
        packet(0xE0) + encode(Publish(flow.name("t"), b"too late", 1, False, False, 1), flow.version)
    )
    assert client.wait_closed() == []
    assert flow.until_mark(flow.near("publisher"), watcher) == []


@v5("3.14.2-3", "3.14.2-4", "3.1.2-24")
def test_disconnect_fits_the_client(flow: Flow) -> None:
    """The Reason String is left out where there is no room for it."""
    sizes = {}
    for maximum in (24, 1000):
        client = flow.near(properties=Properties(maximum_packet_size=maximum))
        client.send_bytes(packet(0x00))
        (last,) = client.wait_closed()
        assert isinstance(last, Disconnect)
        assert last.reason_code == ReasonCode.MALFORMED_PACKET
        sizes[maximum] = len(encode(last, flow.version))
    assert sizes[24] <= 24 < sizes[1000]


@v5("3.14.2-1", "4.13.1-1")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (packet(0x00), ReasonCode.MALFORMED_PACKET),
        (packet(0xD0), ReasonCode.PROTOCOL_ERROR),
        (b"\x30\xff\xff\xff\x7f", ReasonCode.PACKET_TOO_LARGE),
        (packet(0x30, b"\x00\x01t\x03\x23\xff\xff"), ReasonCode.TOPIC_ALIAS_INVALID),
    ],
)
def test_reason_of_disconnect(flow: Flow, data: bytes, code: ReasonCode) -> None:
    client = flow.near()
    client.send_bytes(data)
    assert client.wait_refused() == code


@v5("3.3.4-7", "4.13.1-1")
def test_more_than_the_receive_maximum(strict_flow: Flow) -> None:
    """The node takes three at once: a client that sends a fourth before an answer is disconnected."""
    client = strict_flow.near()
    client.send(*[Publish(strict_flow.name("t"), b"x", 1, False, False, each) for each in range(1, 5)])
    assert client.wait_refused() == ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
