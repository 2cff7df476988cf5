"""Connections that stay get a transport of the event loop, and nobody notices."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from typing import cast

import pytest

from broker.listeners.wires import HIGH_WATER_BYTES
from tests.listeners.wired import (
    Noting,
    Run,
    connected,
    each_loop,
    fill,
    opened,
    read_all,
    until,
    wire_of,
    wired,
)

LARGE = b"0123456789" * 1_000_000


def has_moved(protocol: Noting) -> bool:
    return protocol.transport is not None and protocol.transport is not protocol.wire


def write(protocol: Noting, data: bytes) -> None:
    assert protocol.transport is not None
    protocol.transport.write(data)


@each_loop
def test_who_stays_gets_a_transport_and_goes_on(run: Run) -> None:
    async def scenario() -> None:
        await stay_and_go()  # the loop may open some files of its own
        before = len(os.listdir("/proc/self/fd"))
        await stay_and_go()
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    run(scenario())


async def stay_and_go() -> None:
    loop = asyncio.get_running_loop()
    async with wired(0.01) as (wires, protocol, peer):
        peer.send(b"one")
        await until(lambda: has_moved(protocol))
        peer.send(b"two")
        await until(lambda: protocol.received == b"onetwo")
        write(protocol, b"back")
        assert await loop.sock_recv(peer, 10) == b"back"
        assert not wires.by_handle
        wire_of(protocol).write(b"by who has not heard")
        wire_of(protocol).pause_reading()
        wire_of(protocol).close()
        wire_of(protocol).abort()
        write(protocol, b"still there")
        assert await loop.sock_recv(peer, 30) == b"still there"
    assert protocol.ends == [None]


@each_loop
def test_all_who_stay_are_moved_and_those_who_are_new_are_not(run: Run) -> None:
    async def scenario() -> None:
        wires, protocols = opened(0.3), [Noting() for _ in range(120)]
        peers = [connected(wires, protocol) for protocol in protocols]
        await until(lambda: all(map(has_moved, protocols)))
        late = Noting()
        peers.append(connected(wires, late))
        for peer in peers:
            peer.send(b"x")
        await until(lambda: all(protocol.received == b"x" for protocol in (*protocols, late)))
        assert not has_moved(late)
        for peer in peers:
            peer.close()
        await until(lambda: all(protocol.ends == [None] for protocol in (*protocols, late)))
        wires.close()

    run(scenario())


@each_loop
def test_who_pauses_or_has_something_unsent_is_not_moved_yet(run: Run) -> None:
    async def scenario() -> None:
        wires, pausing, writing, other = opened(0.01), Noting(), Noting(), Noting()
        peers = [connected(wires, protocol) for protocol in (pausing, writing, other)]
        wire_of(pausing).pause_reading()
        count = fill(writing, b"x" * 10_000)
        await until(lambda: has_moved(other))
        assert not has_moved(pausing)
        assert not has_moved(writing)
        wire_of(pausing).resume_reading()
        reading = asyncio.ensure_future(read_all(peers[1]))
        await until(lambda: has_moved(pausing) and has_moved(writing))
        assert writing.told == ["pause", "resume"]
        assert writing.transport is not None
        writing.transport.close()
        assert len(await reading) == 10_000 * count
        for peer in peers:
            peer.close()
        await until(lambda: pausing.ends == other.ends == [None])
        wires.close()

    run(scenario())


@each_loop
def test_what_is_written_meanwhile_arrives_in_order(run: Run) -> None:
    async def scenario() -> None:
        async with wired() as (_, protocol, peer):
            wire = wire_of(protocol)
            wire.write(b"first ")
            wire.move()
            wire.write(LARGE)
            wire.write(b" then")
            assert wire.get_write_buffer_size() > HIGH_WATER_BYTES
            assert not wire.may_move()
            await until(lambda: has_moved(protocol))
            reading = asyncio.ensure_future(read_all(peer))
            await until(lambda: protocol.told[-1:] == ["resume"])
            write(protocol, b" last")
            assert protocol.transport is not None
            protocol.transport.close()
            assert await reading == b"first " + LARGE + b" then last"

    run(scenario())


@each_loop
@pytest.mark.parametrize("is_large", [False, True])
def test_who_closes_meanwhile_has_all_sent(run: Run, is_large: bool) -> None:
    async def scenario() -> None:
        data = LARGE if is_large else b"small"
        async with wired() as (_, protocol, peer):
            wire_of(protocol).move()
            wire_of(protocol).write(data)
            wire_of(protocol).close()
            wire_of(protocol).write(b"too late")
            assert await read_all(peer) == data
            await until(lambda: protocol.ends == [None])

    run(scenario())


@each_loop
def test_who_aborts_meanwhile_is_gone(run: Run) -> None:
    async def scenario() -> None:
        async with wired() as (_, protocol, peer):
            wire_of(protocol).move()
            wire_of(protocol).abort()
            assert protocol.ends == []
            assert await read_all(peer) == b""
        assert protocol.ends == [None]

    run(scenario())


@each_loop
def test_who_pauses_meanwhile_is_not_read(run: Run) -> None:
    async def scenario() -> None:
        async with wired() as (_, protocol, peer):
            wire_of(protocol).move()
            wire_of(protocol).pause_reading()
            protocol.is_reading = False
            await until(lambda: has_moved(protocol))
            moved = cast(asyncio.ReadTransport, protocol.transport)
            await until(lambda: not moved.is_reading())
            peer.send(b"later")
            for _ in range(3):  # looks of the event loop at what has arrived: over the loopback, all of it
                await asyncio.sleep(0)
            assert protocol.received == b""
            protocol.is_reading = True
            moved.resume_reading()
            await until(lambda: protocol.received == b"later")
        assert protocol.ends == [None]

    run(scenario())


@each_loop
def test_who_pauses_only_for_a_moment_is_read(run: Run) -> None:
    """And goes on when there is the transport, but before that could pause."""

    async def scenario() -> None:
        async with wired() as (_, protocol, peer):
            wire_of(protocol).move()
            wire_of(protocol).pause_reading()
            assert protocol.is_reading  # by then
            await until(lambda: has_moved(protocol))
            peer.send(b"now")
            await until(lambda: protocol.received == b"now")
        assert protocol.ends == [None]

    run(scenario())


@each_loop
def test_who_gets_no_transport_is_closed(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(_make_protocol: Callable[[], object], _taken: socket.socket) -> None:
        raise OSError("no more of them")

    async def scenario() -> None:
        wires, protocol = opened(), Noting()
        with connected(wires, protocol) as peer:
            wire = wire_of(protocol)
            monkeypatch.setattr(wire._transports, "_loop", Refusing(refuse))
            wire.move()
            wire.write(b"to nobody")
            assert await read_all(peer) == b""
            await until(lambda: len(protocol.ends) == 1)
            assert str(protocol.ends[0]) == "no more of them"
        assert not wires.by_handle
        wires.close()

    with caplog.at_level(logging.DEBUG, "broker.listeners.wires"):
        run(scenario())
    assert "connection ended as it has no transport" in caplog.text


class Refusing:
    """An event loop that makes no transports."""

    def __init__(self, refuse: Callable[..., object]) -> None:
        self.connect_accepted_socket = refuse


class Leaving(Noting):
    """Ends as soon as it has another transport, before that is told to pause."""

    moved: asyncio.Transport | None = None

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "transport" and isinstance(value, asyncio.Transport):
            self.moved = value
            asyncio.get_running_loop().call_soon(setattr, self, "transport", None)


def test_a_connection_that_has_ended_is_not_told_to_pause() -> None:
    problems: list[object] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        wires, protocol = opened(), Leaving()
        with connected(wires, protocol):
            wire_of(protocol).move()
            wire_of(protocol).pause_reading()
            protocol.is_reading = False
            await until(lambda: protocol.moved is not None and protocol.transport is None)
            await asyncio.sleep(0)  # the turn in which it would pause has gone by
            assert protocol.moved is not None
            assert protocol.moved.is_reading()
            protocol.moved.abort()
            await until(lambda: protocol.ends == [None])
        wires.close()

    asyncio.run(scenario())
    assert problems == []
