"""What has happened to clients in this second, before it is written (`broker.client.history`). Each
connection brings two events: so this is compiled, and apart from what waits for Redis."""

from itertools import islice
from typing import Final

from broker.observability.events import Event

EVENTS_AT_A_TIME: Final = 8
"""Of a client and a second; of more the newest."""
CLIENTS_WAITING: Final = 10_000

_ASSIGNED: Final = "auto-"  # Client Identifiers that the broker has made: nobody asks for them later


class RecentEvents:
    """By client, the first one first; bounded. `take` is a taker of `hub.events`."""

    __slots__ = ("_waiting", "lost")

    def __init__(self) -> None:
        self._waiting: dict[str, list[Event]] = {}
        self.lost = 0
        """Events for which there was no room."""

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, event: Event) -> None:
        """It has happened."""
        client_id = event.client_id
        events = self._waiting.get(client_id)
        if events is not None:
            events.append(event)
            if len(events) > EVENTS_AT_A_TIME:
                del events[0]
                self.lost += 1
        elif client_id.startswith(_ASSIGNED):
            return
        elif len(self._waiting) < CLIENTS_WAITING:
            self._waiting[client_id] = [event]
        else:
            self.lost += 1

    def pop(self, clients: int) -> list[list[Event]]:
        """The events of so many clients, or of all; they don't wait any more."""
        waiting = self._waiting
        return [waiting.pop(client_id) for client_id in list(islice(waiting, clients))]
