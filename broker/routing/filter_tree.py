"""Which of the filters with wildcards match a topic: a tree by topic level.

A level that only one filter goes through is not made: the filter itself lies in its place, and the rest of
it is compared with the topic. Of a million devices with a filter each only the level where they part is made.
"""

from typing import Final, TypeAlias

_LEVELS: Final = "/"
_MULTI: Final = "#"
_SINGLE: Final = "+"


class _Level:
    """Filters that end here, and those that go on: further levels, or the one filter that would be there. A
    dictionary is made for the second name: for one alone it would take 180 bytes more."""

    __slots__ = ("_children", "_name", "_only", "ending", "multi", "single")

    def __init__(self) -> None:
        self._name = ""
        self._only: _Following | None = None  # what follows by that name, if there is no other
        self._children: dict[str, _Following] | None = None
        self.single: _Following | None = None  # '+'
        self.multi: str | None = None  # the filter that ends with '#' here
        self.ending: str | None = None  # the filter that ends here

    def following(self, name: str) -> "_Following | None":
        return self.single if name == _SINGLE else self.named(name)

    def named(self, name: str) -> "_Following | None":
        """What follows by a name that is no wildcard."""
        if self._children is not None:
            return self._children.get(name)
        return self._only if name == self._name else None

    def follow(self, name: str, following: "_Following") -> None:
        if name == _SINGLE:
            self.single = following
        elif self._children is not None:
            self._children[name] = following
        elif self._only is None or name == self._name:
            self._name = name
            self._only = following
        else:
            self._children = {self._name: self._only, name: following}
            self._only = None

    def follow_first(self, name: str, filter: str) -> "_Following":
        """What follows, which is this filter if nothing did: by one look into what may be a million."""
        if name == _SINGLE:
            if self.single is None:
                self.single = filter
            return self.single
        if self._children is not None:
            return self._children.setdefault(name, filter)
        only = self._only
        if only is not None and name == self._name:
            return only
        self.follow(name, filter)
        return filter

    def end(self, name: str) -> None:
        if name == _SINGLE:
            self.single = None
        elif self._children is None:
            self._only = None
        else:
            del self._children[name]
            if not self._children:
                self._children = None

    def goes_on(self) -> bool:
        """Whether anything follows, or ends with '#' here."""
        return (
            self._only is not None
            or self._children is not None
            or self.single is not None
            or self.multi is not None
        )

    def is_empty(self) -> bool:
        return self.ending is None and not self.goes_on()


_Following: TypeAlias = _Level | str


class FilterTree:
    """A set of filters. All walk in loops, not by recursion: a filter has as many levels as the settings
    allow."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root = _Level()

    def is_empty(self) -> bool:
        """Whether there is no filter."""
        return self._root.is_empty()

    def add(self, filter: str) -> None:
        """It may be there already."""
        level = self._root
        start = 0  # only as far apart as it must be: of a million most end at a level of many
        while start >= 0:
            end = filter.find(_LEVELS, start)
            name = filter[start:] if end < 0 else filter[start:end]
            if name == _MULTI:
                level.multi = filter
                return
            following = level.follow_first(name, filter)
            if following is filter:
                return
            if isinstance(following, str):
                if following == filter:
                    return
                # Up to here they are the same.
                following = _level_with(following, end + 1 if end >= 0 else len(filter) + 1)
                level.follow(name, following)
            level = following
            start = end + 1 if end >= 0 else -1
        level.ending = filter

    def remove(self, filter: str) -> None:
        """It must be there."""
        names = filter.split(_LEVELS)
        level = self._root
        path: list[tuple[_Level, str]] = []
        for name in names:
            if name == _MULTI:
                level.multi = None
                break
            following = level.following(name)
            if isinstance(following, str):
                level.end(name)
                break
            assert following is not None  # the filter is there
            path.append((level, name))
            level = following
        else:
            level.ending = None
        while path and level.is_empty():
            level, name = path.pop()
            level.end(name)

    def matching(self, topic: str) -> list[str]:
        """The filters that match it."""
        found: list[str] = []
        root = self._root
        if not root.goes_on():
            return found
        names = topic.split(_LEVELS)
        # [MQTT-4.7.2-1]: wildcards at the start don't match topics that begin with '$'.
        wildcards_count = not topic.startswith("$")
        levels = [root]
        for depth, name in enumerate(names, 1):
            following: list[_Level] = []
            for level in levels:
                if level.multi is not None and wildcards_count:
                    found.append(level.multi)
                child = level.named(name)
                if child is not None:
                    _go_on(child, names, depth, following, found)
                if level.single is not None and wildcards_count:
                    _go_on(level.single, names, depth, following, found)
            if not following:
                return found
            levels = following
            wildcards_count = True
        for level in levels:
            if level.multi is not None:
                found.append(level.multi)  # '#' matches the parent level too
            if level.ending is not None:
                found.append(level.ending)
        return found


def _go_on(
    following: _Following, names: list[str], depth: int, levels: list[_Level], found: list[str]
) -> None:
    if isinstance(following, _Level):
        levels.append(following)
    elif _rest_matches(following.split(_LEVELS), names, depth):
        found.append(following)


def _rest_matches(filter: list[str], names: list[str], depth: int) -> bool:
    """Whether a filter matches a topic from this level on."""
    for i in range(depth, len(filter)):
        name = filter[i]
        if name == _MULTI:
            return True  # of the parent level, too
        if i == len(names) or (name != _SINGLE and name != names[i]):
            return False
    return len(filter) == len(names)


def _level_with(filter: str, start: int) -> _Level:
    """A level in which a filter has its place; `start` is where its name for that begins, beyond the end of
    the filter if it has none."""
    level = _Level()
    if start > len(filter):
        level.ending = filter
        return level
    end = filter.find(_LEVELS, start)
    name = filter[start:] if end < 0 else filter[start:end]
    if name == _MULTI:
        level.multi = filter
    else:
        level.follow(name, filter)
    return level
