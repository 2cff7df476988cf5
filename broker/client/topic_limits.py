"""How long and how deep a topic may be. A topic that has been looked at is remembered, so that it costs a
message no more than where there are rules."""

from dataclasses import dataclass, field
from typing import Final

_KNOWN_MAXIMUM: Final = 65_536


@dataclass(slots=True)
class TopicLimits:
    """Of a node; 0 is no limit. `known` are topics that keep to it: those who may publish anywhere have it as
    the set of where they may."""

    levels: int
    size_bytes: int
    known: set[str] = field(default_factory=set)

    def is_beyond(self, topic: str) -> bool:
        """Whether no message may go there."""
        return bool(self.levels and topic.count("/") >= self.levels) or self.is_too_long(topic)

    def is_too_long(self, topic: str) -> bool:
        """Whether it has too many bytes, as a topic or a filter."""
        size_bytes = self.size_bytes
        if not size_bytes or len(topic) * 4 <= size_bytes:
            return False
        return len(topic) > size_bytes or len(topic.encode()) > size_bytes

    def remember(self, topic: str) -> None:
        """One that is not beyond."""
        if len(self.known) >= _KNOWN_MAXIMUM:
            self.known.clear()
        self.known.add(topic)
