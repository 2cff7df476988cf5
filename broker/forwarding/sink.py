"""What takes the messages of a forward. To be implemented by plug-ins, too: an entry point of
`moorline.sinks` names a function that gets the name of the forward and its `options`, and answers with an
asynchronous context manager, which lives as long as this node has the forward, and gives a Sink.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Final, Protocol, cast

from broker.errors import StartError

ENTRY_POINTS: Final = "moorline.sinks"


class Retry(Exception):
    """Not now: the target is away, or too busy. The same messages are sent again after a pause, of
    `after_seconds` at least. The text is shown to operators; it must have no secret in it."""

    def __init__(self, reason: str, after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.after_seconds = after_seconds


class Refused(Exception):
    """Never: the target does not want one of these messages. Each is then sent alone; one that is refused
    again and again is dropped. The text as of Retry."""


@dataclass(frozen=True, slots=True)
class ForwardedMessage:
    """`key` is the same however often the message is sent, and that of no other message. `is_repeat`: it may
    have been sent before. `expires_after_seconds`: as MQTT's Message Expiry Interval, from now on."""

    key: str
    topic: str
    payload: bytes
    qos: int
    retain: bool
    is_repeat: bool
    user_properties: tuple[tuple[str, str], ...] = ()
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    expires_after_seconds: int | None = None


class Sink(Protocol):
    """One of a forward, used by one task."""

    async def send(self, messages: Sequence[ForwardedMessage]) -> None:
        """Returns when the target has taken all of them, in this order, for good. Raises Retry, Refused.

        May be cancelled at any time, and will be when it takes longer than `timeout_seconds`."""


Options = Mapping[str, str | int | float | bool]
Plugin = Callable[[str, Options], AbstractAsyncContextManager[Sink]]


def load_plugin(name: str) -> Plugin:
    """StartError if it is not installed, or can't be loaded."""
    found = tuple(entry_points(group=ENTRY_POINTS, name=name))
    if not found:
        installed = ", ".join(sorted({each.name for each in entry_points(group=ENTRY_POINTS)}))
        raise StartError(
            f"no entry point {name!r} of {ENTRY_POINTS} is installed; there are: {installed or 'none'}"
        )
    try:
        made: object = found[0].load()
    except Exception as error:  # not our code
        reason = f"{type(error).__name__}: {error}"
        raise StartError(f"{name!r} of {ENTRY_POINTS} can't be loaded: {reason}") from error
    if not callable(made):
        raise StartError(f"{name!r} of {ENTRY_POINTS} is no function")
    return cast(Plugin, made)
