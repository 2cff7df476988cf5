"""Connections without transports of the event loop, beside real sockets, by both kinds of event loops."""

import asyncio
import errno
import logging
import os
import select
import socket
from typing import Any

import pytest

from broker.listeners.transports import Transports
from broker.listeners.wires import HIGH_WATER_BYTES, LOW_WATER_BYTES, Wire, Wires, open_wires
from tests.listeners.wired import (
    Noting,
    Run,
    connected,
    each_loop,
    fill,
    opened,
    read_all,
    reset,
    until,
    wire_of,
    wired,
)


@each_loop
def test_bytes_go_to_and_fro_and_nothing_stays_open(run: Run) -> None:
    async def scenario() -> None:
        before = len(os.listdir("/proc/self/fd"))
        wires, protocol = opened(), Noting()
        with connected(wires, protocol) as peer:
            peer.send(b"to")
            await until(lambda: protocol.received == b"to")
            wire_of(protocol).write(b"fro")
            assert await asyncio.get_running_loop().sock_recv(peer, 10) == b"fro"
            assert wire_of(protocol).get_extra_info("socket") is protocol.wire
            assert wire_of(protocol).get_extra_info("peercert") is None
            assert wire_of(protocol).get_write_buffer_size() == 0
        await until(lambda: protocol.ends == [None])
        assert wire_of(protocol).fileno() == -1
        assert not wires.by_handle
        wires.close()
        assert len(os.listdir("/proc/self/fd")) <= before

    run(scenario())


@each_loop
def test_who_does_not_read_makes_writing_pause_and_gets_all_in_order(run: Run) -> None:
    async def scenario() -> None:
        async with wired() as (_, protocol, peer):
            count = fill(protocol, b"0123456789" * 1000)
            assert wire_of(protocol).get_write_buffer_size() > HIGH_WATER_BYTES
            wire_of(protocol).write(b"last")
            assert protocol.told == ["pause"]
            reading = asyncio.ensure_future(read_all(peer))
            await until(lambda: protocol.told == ["pause", "resume"])
            assert wire_of(protocol).get_write_buffer_size() <= LOW_WATER_BYTES
            await until(lambda: wire_of(protocol).get_write_buffer_size() == 0)
            wire_of(protocol).close()
            assert await reading == b"0123456789" * 1000 * count + b"last"

    run(scenario())


@each_loop
def test_what_is_unsent_is_sent_before_it_is_closed(run: Run) -> None:
    async def scenario() -> None:
        async with wired() as (_, protocol, peer):
            count = fill(protocol, b"x" * 10_000)
            wire_of(protocol).close()
            wire_of(protocol).close()
            wire_of(protocol).write(b"too late")
            assert len(await read_all(peer)) == 10_000 * count
            await until(lambda: protocol.ends == [None])

    run(scenario())


@each_loop
@pytest.mark.parametrize("is_writing", [False, True])
def test_a_reset_is_told_as_the_error_that_it_is(run: Run, is_writing: bool) -> None:
    async def scenario() -> None:
        wires, protocol = opened(), Noting()
        peer = connected(wires, protocol)
        if is_writing:
            fill(protocol, b"x" * 10_000)
            wire_of(protocol).pause_reading()
        reset(peer)
        await until(lambda: bool(protocol.ends))
        assert isinstance(protocol.ends[0], ConnectionResetError | BrokenPipeError)
        wires.close()
        assert len(protocol.ends) == 1

    run(scenario())


@each_loop
def test_writing_to_nobody_is_told_as_the_error_that_it_is(run: Run) -> None:
    async def scenario() -> None:
        wires, protocol = opened(), Noting()
        peer = connected(wires, protocol)
        wire_of(protocol).pause_reading()
        reset(peer)
        wire_of(protocol).write(b"x")
        assert protocol.ends == []  # whoever writes is told later
        await until(lambda: bool(protocol.ends))
        assert isinstance(protocol.ends[0], ConnectionResetError | BrokenPipeError)
        wires.close()

    run(scenario())


@each_loop
def test_while_reading_pauses_nothing_is_read_and_nothing_polled(run: Run) -> None:
    async def scenario() -> None:
        wires, protocol = opened(), Noting()
        peer = connected(wires, protocol)
        wire_of(protocol).pause_reading()
        wire_of(protocol).pause_reading()
        peer.send(b"later")
        peer.close()
        assert wires.poll.poll(0.05, 10) == []
        assert protocol.received == b""
        wire_of(protocol).resume_reading()
        await until(lambda: protocol.ends == [None])
        assert protocol.received == b"later"
        wire_of(protocol).resume_reading()  # nothing to it any more
        wires.close()

    run(scenario())


@each_loop
def test_a_bug_ends_its_own_connection(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Noting):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("broken")

        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            raise RuntimeError("broken again")

    async def scenario() -> None:
        wires, broken, whole = opened(), Broken(), Noting()
        with connected(wires, broken) as one, connected(wires, whole) as other:
            one.send(b"x")
            other.send(b"y")
            await until(lambda: bool(broken.ends) and whole.received == b"y")
            assert str(broken.ends[0]) == "broken"
            assert whole.ends == []
        await until(lambda: whole.ends == [None])
        wires.close()

    with caplog.at_level(logging.ERROR):
        run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "connection failed",
        "connection not given up",
    ]


@each_loop
def test_who_is_closed_by_another_is_not_told_what_has_come(run: Run) -> None:
    class Closing(Noting):
        def __init__(self) -> None:
            super().__init__()
            self.other: Closing | None = None

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            assert self.other is not None
            wire_of(self.other).abort()

    async def scenario() -> None:
        wires, one, other = opened(), Closing(), Closing()
        one.other, other.other = other, one
        with connected(wires, one) as first, connected(wires, other) as second:
            first.send(b"x")
            second.send(b"x")
            await until(lambda: bool(one.ends or other.ends))
            assert sorted([one.received, other.received]) == [b"", b"x"]
        wires.close()

    run(scenario())


@each_loop
def test_nothing_is_left_of_what_does_not_come_about(run: Run) -> None:
    class Unwilling(Noting):
        def connection_made(self, transport: Wire) -> None:
            raise RuntimeError("not made")

    def none() -> asyncio.BaseProtocol:
        raise RuntimeError("no protocol object")

    async def scenario() -> None:
        wires, unwilling = opened(), Unwilling()
        with pytest.raises(RuntimeError, match="not made"):
            connected(wires, unwilling)
        await until(lambda: len(unwilling.ends) == 1)
        near, far = socket.socketpair()
        with far, pytest.raises(RuntimeError, match="no protocol object"):
            wires.open(near.detach(), none, Transports(far))
        assert not wires.by_handle
        wires.close()

    run(scenario())


@each_loop
def test_who_closes_as_soon_as_it_is_made_is_not_served(run: Run) -> None:
    class Hasty(Noting):
        def connection_made(self, transport: Wire) -> None:
            super().connection_made(transport)
            transport.write(b"no")
            transport.close()

    async def scenario() -> None:
        wires, hasty = opened(), Hasty()
        with connected(wires, hasty) as peer:
            assert await read_all(peer) == b"no"
        await until(lambda: hasty.ends == [None])
        wires.close()

    run(scenario())


@each_loop
def test_all_end_with_their_wires(run: Run) -> None:
    async def scenario() -> None:
        wires, protocols = opened(), [Noting(), Noting()]
        peers = [connected(wires, protocol) for protocol in protocols]
        wires.close()
        await until(lambda: [protocol.ends for protocol in protocols] == [[None], [None]])
        for peer in peers:
            assert await read_all(peer) == b""
            peer.close()

    run(scenario())


def test_a_connection_that_can_not_be_polled_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        """The system lets its user poll no more."""

        def __init__(self) -> None:
            self.real = select.epoll()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def register(self, fd: int, eventmask: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def scenario() -> None:
        wires, protocol = Wires(Full(), 3600.0), Noting()
        with connected(wires, protocol) as peer:
            assert await read_all(peer) == b""
        await until(lambda: len(protocol.ends) == 1)
        wires.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "connection not served: No space left on device"
    ]


def test_without_epoll_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    assert open_wires() is None
