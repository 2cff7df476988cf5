"""Events of clients, told to taps."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from pydantic import TypeAdapter, ValidationError

from broker.client.describing import ITEMS, cut
from broker.client.tracing import is_meant
from broker.observability.events import Event, Events
from broker.observability.moments import moment_text
from cluster.taps import Tap

SOURCE: Final = "events"


@dataclass(frozen=True, slots=True)
class Asked:
    """Which events: of these kinds, of this client (`*` at its end: all that begin so). Empty: all."""

    kinds: tuple[str, ...] = ()
    client_id: str = ""


_ASKED: Final = TypeAdapter(Asked)


class EventTaps:
    """Those of a node: a source of taps."""

    def __init__(self, events: Events, node: str) -> None:
        self._events = events
        self._node = node
        self._removals: dict[str, Callable[[], None]] = {}

    async def begin(self, tap: Tap, asked: Mapping[str, object]) -> None:
        """As `Source` says."""
        try:
            what = _ASKED.validate_python(asked)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from None

        def take(event: Event) -> None:
            if what.kinds and event.kind not in what.kinds:
                return
            if what.client_id and not is_meant(what.client_id, event.client_id):
                return
            if tap.offer(time.monotonic()):
                tap.put(self._record(event))

        self._removals[tap.id] = self._events.add(take)

    def end(self, tap_id: str) -> None:
        """As `Source` says."""
        remove = self._removals.pop(tap_id, None)
        if remove is not None:
            remove()

    def _record(self, event: Event) -> bytes:
        return orjson.dumps(
            {
                "at": moment_text(event.at_ms),
                "node": self._node,
                "event": event.kind,
                "client_id": cut(event.client_id),
            }
            | {name: _bounded(value) for name, value in event.fields.items()}
        )


def _bounded(value: object) -> object:
    if isinstance(value, str):
        return cut(value)
    if isinstance(value, list):
        return [_bounded(each) for each in value[:ITEMS]]
    if isinstance(value, dict):
        return {name: _bounded(each) for name, each in value.items()}
    return value
