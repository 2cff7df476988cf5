"""Mount points: clients of a listener that has one know nothing but what is below it.

Its text ("tenant/") is put before each topic and filter that they name, behind `$share/<group>/`,
`$exclusive/` and `$delayed/<seconds>/`; the session takes it away again from what they are sent
(`Message.below`). Rewrite rules come first, so none leads out.

A name that can't have the mount point before it, since it begins with `$` or would become too long, is made
one that does not begin with the mount point: whoever acts on a name looks at that, and refuses it.
"""

import copy

from broker.client.renaming import split_special
from broker.mqtt import Properties, is_too_long


class MountPoint:
    """What is put before the names of clients; "tenant/", say."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"MountPoint({self.text!r})"

    def topic(self, topic: str) -> str:
        """What a client publishes to."""
        return self._mounted(topic)

    def filter(self, filter: str) -> str:
        """What a client subscribes to."""
        return self._mounted(filter)

    def properties(self, properties: Properties | None) -> Properties | None:
        """With the Response Topic as everybody sees it, or none if nobody could answer there."""
        if properties is None or properties.response_topic is None:
            return properties
        topic = self._mounted(properties.response_topic)
        changed = copy.copy(properties)
        changed.response_topic = topic if self.has(topic) else None
        return changed

    def has(self, name: str) -> bool:
        """Whether a topic, or all topics that a filter matches (without what is special before it), are
        below."""
        return name.startswith(self.text)

    def _mounted(self, name: str) -> str:
        special, rest = split_special(name)
        if rest == "" or rest.startswith("$"):
            return name
        mounted = special + self.text + rest
        return f"{special}${rest}" if is_too_long(mounted) else mounted
