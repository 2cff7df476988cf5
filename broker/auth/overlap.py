"""Which of several Topic Filters come first for the topics that another filter matches. Exact.

Theory of operation: a filter reads a topic level by level. It has failed, goes on, or has met its `#` and
takes whatever follows. So what matters of the beginning of a topic is which filters go on and which take all:
that is a state. From each state the levels that somebody names lead on, and one level that nobody names (at
the beginning also one with `$`, where wildcards don't match [MQTT-4.7.2-1]); all others are like those. When
the asking filter is at its end, the topic may end, and the first filter that matches it has been found. There
are few states for the filters that people write; for others the search gives up, and the caller says no.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

NONE: Final = -1
_STATES_MAXIMUM: Final = 5_000  # some 50 ms
_UNNAMED: Final = "\0"  # in no topic, so no filter names it
_UNNAMED_DOLLAR: Final = "$\0"


class TooManyStates(Exception):
    """The filters are too entangled to be looked through."""


_State = tuple[int, int, int]
"""Levels read; filters that go on, and that take all, as bits. The asking filter's bit is the highest."""


@dataclass(slots=True)
class _Level:
    """What the filters, each a bit, have at one depth."""

    named: dict[str, int]
    plus: int = 0
    hash: int = 0
    ends: int = 0  # before this level


def first_matches(filter: str, filters: Sequence[str]) -> Iterator[int]:
    """For each topic that `filter` matches the position of the first of `filters` that matches it, or NONE;
    each position once. Raises TooManyStates."""
    asking = 1 << len(filters)
    levels = _levels([*filters, filter])
    start = (0, 2 * asking - 1, 0)
    seen = {start}
    waiting = [start]
    found: set[int] = set()
    while waiting:
        depth, going, taking = waiting.pop()
        for name in _names(levels[depth], going, depth):
            state = _step(levels[depth], name, (depth, going, taking), asking)
            if not (state[1] | state[2]) & asking:
                continue
            matching = _matching(levels[depth + 1], state)
            if matching & asking and (name or depth):  # there is no empty topic
                position = _first(matching & ~asking)
                if position not in found:
                    found.add(position)
                    yield position
            if state[1] and state not in seen:
                if len(seen) == _STATES_MAXIMUM:
                    raise TooManyStates
                seen.add(state)
                waiting.append(state)


def _levels(filters: Sequence[str]) -> list[_Level]:
    split = [filter.split("/") for filter in filters]
    levels = [_Level({}) for _ in range(max(map(len, split)) + 2)]
    for number, names in enumerate(split):
        bit = 1 << number
        for depth, name in enumerate(names):
            level = levels[depth]
            if name == "+":
                level.plus |= bit
            elif name == "#":
                level.hash |= bit
            else:
                level.named[name] = level.named.get(name, 0) | bit
        levels[len(names)].ends |= bit
    return levels


def _names(level: _Level, going: int, depth: int) -> list[str]:
    names = [name for name, bits in level.named.items() if bits & going]
    return [*names, _UNNAMED] if depth else [*names, _UNNAMED, _UNNAMED_DOLLAR]


def _step(level: _Level, name: str, state: _State, asking: int) -> _State:
    """The state after one more level of the topic."""
    depth, going, taking = state
    next_going = level.named.get(name, 0) & going
    if depth or not name.startswith("$"):
        next_going |= level.plus & going
        taking |= level.hash & going
    first = taking & ~asking & -(taking & ~asking)
    if first:  # whatever follows, those behind it are not the first
        kept = first - 1 | asking
        next_going &= kept
        taking &= kept | first
    return depth + 1, next_going, taking


def _matching(level: _Level, state: _State) -> int:
    """Which filters match if the topic ends here; `level` is the one that does not follow. `#` includes the
    level above it [4.7.1.2]."""
    _, going, taking = state
    return taking | (going & (level.ends | level.hash))


def _first(bits: int) -> int:
    return (bits & -bits).bit_length() - 1  # NONE of no bits
