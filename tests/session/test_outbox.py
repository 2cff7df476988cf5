"""One write per connection and tick; bounded while the peer doesn't read."""

from broker.session import Outbox, flush_all


class _Sink:
    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write_all(self, data: bytes) -> None:
        self.writes.append(data)


def _outbox(limit_bytes: int = 10) -> tuple[Outbox, _Sink, list[Outbox]]:
    ready: list[Outbox] = []
    sink = _Sink()
    return Outbox(ready, sink, limit_bytes), sink, ready


def test_what_a_tick_collects_is_one_write() -> None:
    outbox, sink, ready = _outbox()
    outbox.send(b"ab")
    outbox.send(b"cd")
    assert ready == [outbox]
    assert outbox.size_bytes == 4
    flush_all(ready)
    assert sink.writes == [b"abcd"]
    assert ready == []
    assert outbox.size_bytes == 0


def test_a_single_packet_is_written_as_it_is() -> None:
    outbox, sink, ready = _outbox()
    packet = b"ab"
    outbox.send(packet)
    flush_all(ready)
    assert sink.writes == [packet]
    assert sink.writes[0] is packet


def test_it_is_ready_again_after_a_flush() -> None:
    outbox, sink, ready = _outbox()
    outbox.send(b"a")
    flush_all(ready)
    outbox.send(b"b")
    flush_all(ready)
    assert sink.writes == [b"a", b"b"]


def test_a_flush_of_nothing_writes_nothing() -> None:
    outbox, sink, _ = _outbox()
    outbox.flush()
    assert sink.writes == []


def test_blocked_it_keeps_everything_until_the_peer_reads_again() -> None:
    outbox, sink, ready = _outbox()
    outbox.blocked = True
    outbox.send(b"a")
    assert ready == []
    outbox.flush()
    assert sink.writes == []
    outbox.unblock()
    assert ready == [outbox]
    flush_all(ready)
    assert sink.writes == [b"a"]


def test_blocked_between_send_and_flush() -> None:
    outbox, sink, ready = _outbox()
    outbox.send(b"a")
    outbox.blocked = True
    flush_all(ready)
    assert sink.writes == []
    outbox.unblock()
    flush_all(ready)
    assert sink.writes == [b"a"]


def test_unblocking_lists_it_at_most_once() -> None:
    outbox, _, ready = _outbox()
    outbox.unblock()
    assert ready == []  # nothing to write
    outbox.send(b"a")
    outbox.unblock()
    assert ready == [outbox]


def test_full_means_blocked_and_beyond_the_limit() -> None:
    outbox, _, _ = _outbox(limit_bytes=3)
    outbox.send(b"abcd")
    assert not outbox.is_full()
    outbox.blocked = True
    assert outbox.is_full()
    outbox.parts.clear()
    outbox.size_bytes = 3
    assert not outbox.is_full()


def test_closed_it_forgets_and_ignores() -> None:
    outbox, sink, ready = _outbox()
    outbox.send(b"a")
    outbox.blocked = True
    outbox.close()
    outbox.send(b"b")
    outbox.unblock()
    flush_all(ready)
    assert sink.writes == []
    assert repr(outbox) == "Outbox(0 bytes, blocked=False, closed=True)"
