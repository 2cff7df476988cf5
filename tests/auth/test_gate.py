"""A few at a time, and addresses in turn."""

import asyncio

import pytest

from broker.auth.gate import Busy, Gate


def _enter(gate: Gate, *addresses: str) -> list["asyncio.Task[None]"]:
    return [asyncio.ensure_future(gate.enter(address)) for address in addresses]


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def _done(tasks: list["asyncio.Task[None]"]) -> list[bool | str]:
    return ["busy" if task.done() and isinstance(task.exception(), Busy) else task.done() for task in tasks]


def test_addresses_have_their_turns() -> None:
    async def run() -> None:
        gate = Gate(1, 10)
        tasks = _enter(gate, "flood", "flood", "flood", "flood", "honest")
        await _settle()
        assert _done(tasks) == [True, False, False, False, False]
        gate.leave()
        gate.leave()
        await _settle()
        assert _done(tasks) == [True, True, False, False, True]
        gate.leave()
        gate.leave()
        gate.leave()
        await _settle()
        assert _done(tasks) == [True] * 5
        assert gate.waiting == 0

    asyncio.run(run())


def test_who_floods_is_told_first() -> None:
    async def run() -> None:
        gate = Gate(1, 3)
        tasks = _enter(gate, "running", "flood", "flood", "flood", "flood", "honest")
        await _settle()
        assert _done(tasks) == [True, False, False, "busy", "busy", False]
        more = _enter(gate, "honest", "third")
        await _settle()
        assert _done(more) == ["busy", False]
        assert _done(tasks) == [True, False, "busy", "busy", "busy", False]
        for _ in range(4):
            gate.leave()
        await asyncio.gather(*tasks, *more, return_exceptions=True)

    asyncio.run(run())


def test_who_gives_up_leaves_its_place() -> None:
    async def run() -> None:
        gate = Gate(1, 2)
        tasks = _enter(gate, "a", "a", "b")
        await _settle()
        tasks[1].cancel()
        await _settle()
        assert gate.waiting == 1
        gate.leave()
        tasks[2].cancel()  # just when it was given its place
        with pytest.raises(asyncio.CancelledError):
            await tasks[2]
        await asyncio.wait_for(gate.enter("c"), 1)

    asyncio.run(run())
