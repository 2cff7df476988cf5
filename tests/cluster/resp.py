"""Redis' protocol as the proxy needs it: where a command ends, and what a call of our library asks for."""

from collections.abc import Iterator
from typing import Final

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker

_END: Final = b"\r\n"
_INCARNATION: Final = 5
_BLOB: Final = 6  # FCALL name 1 key prefix incarnation blob


class Splitter:
    """Cuts a stream of bytes into commands (arrays of bulk strings), each as it came."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The commands that are complete now."""
        buffer = self._buffer + data
        position = 0
        while (end := _end_of_command(buffer, position)) > 0:
            yield buffer[position:end]
            position = end
        self._buffer = buffer[position:]


def _end_of_command(buffer: bytes, position: int) -> int:
    """Where the command ends that begins here; -1 if it is not complete."""
    line = buffer.find(_END, position)
    if line < 0:
        return -1
    if buffer[position : position + 1] != b"*":
        raise ValueError(f"no array of bulk strings: {buffer[position : position + 40]!r}")
    count = int(buffer[position + 1 : line])
    position = line + 2
    for _ in range(count):
        line = buffer.find(_END, position)
        if line < 0:
            return -1
        position = line + 2 + int(buffer[position + 1 : line]) + 2
    return position if position <= len(buffer) else -1


def arguments(command: bytes) -> list[bytes]:
    """What a complete command consists of."""
    line = command.index(_END)
    found = []
    position = line + 2
    for _ in range(int(command[1:line])):
        line = command.index(_END, position)
        size = int(command[position + 1 : line])
        found.append(command[line + 2 : line + 2 + size])
        position = line + 2 + size + 2
    return found


def operations(command: bytes) -> list[str]:
    """The operations of a call of our library; none if the command is another one."""
    given = _call(command)
    if not given:
        return []
    _, requests = msgpack.unpackb(given[_BLOB], raw=True, strict_map_key=False)
    return [request[0].decode() for request in requests]


def incarnation(command: bytes) -> str:
    """Who calls our library; empty if the command is another one."""
    given = _call(command)
    return given[_INCARNATION].decode() if given else ""


def _call(command: bytes) -> list[bytes]:
    """The arguments of a call of our library."""
    if b"FCALL" not in command[:16]:
        return []
    given = arguments(command)
    return given if len(given) > _BLOB and given[0] == b"FCALL" else []
