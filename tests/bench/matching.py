"""Who gets a topic; one operation is one topic."""

from typing import Final

from tests.bench.case import Case, Work
from tests.routing.room import Room

_PER_CALL: Final = 20
_LEVELS: Final = 20
_NAMES: Final = [f"site/{i}/line/{i}/temperature" for i in range(_PER_CALL)]


def _room() -> Room:
    """400 machines, each with a subscription of its own; and somebody who takes all of a kind."""
    room = Room()
    for site in range(_LEVELS):
        for line in range(_LEVELS):
            room.subscribe(f"machine-{site}-{line}", f"site/{site}/line/{line}/command")
            room.subscribe(f"screen-{site}-{line}", f"site/{site}/line/{line}/#")
    room.subscribe("archive", "site/+/line/+/temperature")
    return room


def _match_again() -> Work:
    match = _room().index.match

    def run() -> None:
        for name in _NAMES:
            match(name)

    return run


def _match_anew() -> Work:
    room = _room()
    index = room.index
    newcomer = index.subscriber("newcomer")

    def run() -> None:
        room.subscribe("newcomer", "elsewhere/#")  # whoever comes with a wildcard: nothing is remembered
        for name in _NAMES:
            index.match(name)
        index.remove(newcomer, "elsewhere/#", room.stamp)

    return run


CASES: Final = (
    Case("match a topic that is remembered", _PER_CALL, _match_again),
    Case("match a topic anew, 400 exact and 401 wildcard filters", _PER_CALL, _match_anew),
)
