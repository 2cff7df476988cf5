"""Topic Aliases that the server sets on one connection [3.3.2.3.4].

An alias belongs to the connection, and the client knows of it only by a packet that has both the Topic Name
and the alias. So one is *offered*, and counts from when that packet has been handed to the outbox: whatever
is dropped before that has taught nothing. A topic gets its alias the second time that it is sent, since those
that come once would only cost bytes; of a full table the one that was not used for longest is given away.
"""

from typing import Final

SHORTEST_ALIASED_TOPIC: Final = 8
"""Characters. The alias takes three bytes itself, and a packet of its own for each client that has it."""


class TopicAliases:
    """At most `limit` aliases of one connection, from 1 on [MQTT-3.3.2-8], and as many topics that may be
    next."""

    __slots__ = ("_aliases", "_limit", "_seen")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._aliases: dict[str, int] = {}  # the one that was not used for longest first
        self._seen: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"TopicAliases({len(self._aliases)}/{self._limit})"

    def find(self, topic: str) -> int:
        """The alias that stands for the topic; 0 if there is none."""
        alias = self._aliases.pop(topic, 0)
        if alias:
            self._aliases[topic] = alias
        return alias

    def offer(self, topic: str) -> int:
        """The alias to set with this packet, which is to be followed by `set`; 0 for none."""
        if len(topic) < SHORTEST_ALIASED_TOPIC:
            return 0
        if topic not in self._seen:
            if len(self._seen) >= self._limit:
                self._seen.clear()
            self._seen[topic] = None
            return 0
        if len(self._aliases) < self._limit:
            return len(self._aliases) + 1
        return self._aliases[next(iter(self._aliases))]

    def set(self, topic: str, alias: int) -> None:
        """The packet with the topic and the alias is on its way."""
        if len(self._aliases) >= self._limit:
            del self._aliases[next(iter(self._aliases))]
        self._aliases[topic] = alias
        self._seen.pop(topic, None)

    def topics(self) -> dict[int, str]:
        """What each alias stands for."""
        return {alias: topic for topic, alias in self._aliases.items()}
