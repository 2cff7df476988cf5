"""Clients that send more than they may: nothing is lost, nobody is disconnected, others notice nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from broker.mqtt import MQTT_3_1_1, MQTT_5, Disconnect, Puback, Publish, Will, encode
from tests.limits.conftest import SECONDS, Limited
from tests.listeners.frames import Carrier, Peer
from tests.node.wire import WireClient

MESSAGE_RATE_TOO_HIGH = 0x96
SENT = 200  # at 200 a second, of which 40 may come at once
LEAST_SECONDS = 0.7


@contextmanager
def _beside(where: Limited, name: str) -> Iterator[Callable[[], float]]:
    """An honest client at another listener; afterwards, the longest that it had to wait for an answer."""
    longest = 0.0
    is_over = threading.Event()

    def ask() -> None:
        nonlocal longest
        while not is_over.is_set():
            started = time.monotonic()
            honest.ping()
            longest = max(longest, time.monotonic() - started)
            is_over.wait(0.01)

    with where.wire() as honest:
        assert honest.connect(f"{name}-honest").reason_code == 0
        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield lambda: longest
        finally:
            is_over.set()
            thread.join()


def _flood(topic: str, count: int = SENT, qos: int = 0, version: int = MQTT_5) -> bytes:
    return b"".join(
        encode(Publish(topic, b"%d" % number, qos, False, False, number + 1 if qos else 0), version)
        for number in range(count)
    )


def _web(where: Limited) -> WireClient:
    return WireClient(0, carrier=Carrier(Peer(where.ports["web"]).upgrade()))


@pytest.mark.parametrize("listener", ["slow", "web"])
def test_a_client_is_read_from_as_fast_as_it_may_send(listeners: Limited, name: str, listener: str) -> None:
    limit = f"listeners.{listener}.messages_per_second"
    with ExitStack() as stack:
        watcher = stack.enter_context(listeners.wire())
        watcher.connect(f"{name}-watcher")
        watcher.subscribe(name)
        sender = stack.enter_context(_web(listeners) if listener == "web" else listeners.wire(listener))
        assert sender.connect(f"{name}-sender").reason_code == 0
        longest = stack.enter_context(_beside(listeners, name))
        started = time.monotonic()
        sender.send_bytes(_flood(name))
        assert watcher.payloads(SENT) == [b"%d" % number for number in range(SENT)]
        assert time.monotonic() - started > LEAST_SECONDS
        assert listeners.throttled(limit) >= 1
        assert sender.ping() == []
        assert longest() < 0.5
    (line,) = listeners.lines(limit)[:1]
    assert line["client_id"] == f"{name}-sender"
    assert len(listeners.lines(limit)) <= 2
    listeners.wait_metric("moorline_connections_throttled", 0)


@pytest.mark.parametrize("version", [MQTT_3_1_1, MQTT_5])
def test_acknowledged_messages_too(listeners: Limited, name: str, version: int) -> None:
    """Their order, and who has sent DISCONNECT behind them is gone only when they are stored."""
    with ExitStack() as stack:
        watcher = stack.enter_context(listeners.wire())
        watcher.connect(f"{name}-watcher")
        watcher.subscribe(name, f"{name}-will")
        sender = stack.enter_context(listeners.wire("slow", version))
        will = Will(f"{name}-will", b"", 0, False)
        assert sender.connect(f"{name}-sender", will=will).reason_code == 0
        sender.send_bytes(_flood(name, qos=1, version=version) + encode(Disconnect(), version))
        acknowledged = sender.wait_closed()  # but for those that were stored after DISCONNECT
        assert acknowledged == [Puback(number + 1) for number in range(len(acknowledged))]
        assert len(acknowledged) > SENT / 2
        assert watcher.payloads(SENT) == [b"%d" % number for number in range(SENT)]
        watcher.assert_silence()


def test_what_comes_before_connack_counts_too(listeners: Limited, name: str) -> None:
    """But for a slice."""
    with listeners.wire() as watcher, listeners.wire("slow") as sender:
        watcher.connect(f"{name}-watcher")
        watcher.subscribe(name)
        started = time.monotonic()
        sender.connect_only(f"{name}-sender", clean_start=True)
        sender.send_bytes(_flood(name))
        assert watcher.payloads(SENT) == [b"%d" % number for number in range(SENT)]
        assert time.monotonic() - started > LEAST_SECONDS / 2


def test_a_client_that_waits_for_us_is_not_dead(listeners: Limited, name: str) -> None:
    """Keep-alive 1 s, and 40,000 bytes at 20,000 a second."""
    with listeners.wire() as watcher, listeners.wire("thin") as sender:
        watcher.connect(f"{name}-watcher")
        watcher.subscribe(name)
        assert sender.connect(f"{name}-sender", keep_alive=1).reason_code == 0
        started = time.monotonic()
        sender.send_bytes(encode(Publish(name, bytes(40_000), 0, False, False, 0), MQTT_5))
        assert watcher.message().payload == bytes(40_000)
        assert time.monotonic() - started > 1.6
        assert sender.ping() == []
        assert listeners.throttled("listeners.thin.bytes_per_second") >= 1


def test_clients_of_a_listener_share_in_turns(listeners: Limited, name: str) -> None:
    """One that floods takes its share, and no more: the other waits a moment for its few messages."""
    with ExitStack() as stack:
        watcher = stack.enter_context(listeners.wire())
        watcher.connect(f"{name}-watcher")
        watcher.subscribe(f"{name}/#")
        senders = [stack.enter_context(listeners.wire("tenants")) for _ in range(2)]
        for number, sender in enumerate(senders):
            assert sender.connect(f"{name}-{number}").reason_code == 0
        started = time.monotonic()
        senders[0].send_bytes(_flood(f"{name}/flood", 2 * SENT))
        senders[1].send_bytes(_flood(f"{name}/few", 5))
        topics = [watcher.message().topic for _ in range(2 * SENT + 5)]
        assert time.monotonic() - started > LEAST_SECONDS
        last_of_few = len(topics) - topics[::-1].index(f"{name}/few")
        assert last_of_few < SENT
        assert listeners.throttled("listeners.tenants.total_messages_per_second") >= 1


def test_who_is_over_its_rate_for_too_long_is_disconnected(limited: Limited, name: str) -> None:
    """Here for a second."""
    with limited.wire("strict", source="127.0.4.1") as sender:
        assert sender.connect(name).reason_code == 0
        is_refused = threading.Event()

        def flood() -> None:
            while not is_refused.is_set():
                try:
                    sender.send_bytes(_flood(name, 50))
                except (ConnectionError, TimeoutError):
                    return

        thread = threading.Thread(target=flood)
        thread.start()
        sender.timeout_seconds = 2 * SECONDS
        assert sender.wait_refused() == MESSAGE_RATE_TOO_HIGH
        is_refused.set()
        thread.join()
    assert limited.refused("throttled_seconds") == 1
    assert limited.metric("moorline_disconnects_total", reason="message_rate_too_high") == 1
    (line,) = limited.lines("throttled_seconds")
    assert line["client_id"] == name


def test_what_others_send_is_nobodys_fault(limited: Limited, name: str) -> None:
    """The total of a listener slows down, and disconnects nobody."""
    with limited.wire("common", source="127.0.4.2") as sender:
        assert sender.connect(name).reason_code == 0
        before = limited.refused("throttled_seconds")
        started = time.monotonic()
        sender.send_bytes(_flood(name, 300))
        assert sender.ping() == []
        assert time.monotonic() - started > 1.5
        assert limited.refused("throttled_seconds") == before
        assert limited.throttled("listeners.common.total_messages_per_second") >= 1
