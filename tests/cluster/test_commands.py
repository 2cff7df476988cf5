"""Commands: as they are packed they are understood; what is not understood harms nobody."""

import pytest

from cluster import commands
from cluster.commands import Drain, Order, Question, Shed
from cluster.store import inbox_records
from cluster.store.inbox_records import Command


def _carried_out(*given: Command) -> list[Order]:
    seen: list[Order] = []
    carry_out = commands.handler(seen.append, seen.append, seen.append)
    for command in given:
        carry_out(command)
    return seen


@pytest.mark.parametrize(
    "order", [Drain(), Drain(True), Shed(0), Shed(12, 3.5), Question("1f", "who", "{}", 2.0)]
)
def test_an_order_arrives_as_it_was_given(order: Order) -> None:
    command = commands.pack(order)
    record = inbox_records.unpack(inbox_records.pack_command(command.name, command.argument))
    assert isinstance(record, Command)
    assert _carried_out(record) == [order]


def test_unknown_commands_are_counted() -> None:
    unknown: list[None] = []
    carry_out = commands.handler(*[lambda _: None] * 3, on_unknown=lambda: unknown.append(None))
    for command in (Command("dance", b"{}"), commands.pack(Drain()), Command("drain", b"no JSON")):
        carry_out(command)
    assert len(unknown) == 1


def test_a_newer_node_may_say_more() -> None:
    assert _carried_out(
        Command("dance", b"{}"),
        Command("drain", b'{"moved": true, "gently": true}'),
        Command("shed", b'{"keep": 4}'),
    ) == [Drain(True), Shed(4)]


@pytest.mark.parametrize(
    "command",
    [
        Command("drain", b"no JSON"),
        Command("drain", b'{"moved": "perhaps"}'),
        Command("shed", b"{}"),
        Command("shed", b'{"keep": -1}'),
        Command("shed", b'{"keep": 1, "clients_per_second": 0}'),
    ],
)
def test_a_damaged_command_is_logged_and_skipped(command: Command, caplog: pytest.LogCaptureFixture) -> None:
    assert _carried_out(command, commands.pack(Drain())) == [Drain()]
    assert "damaged command" in caplog.text
