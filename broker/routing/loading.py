"""All rows of persistent sessions, on their way from Redis into the index.

They are taken page by page, then packed at once: a million take a second or two, and the index serves with
what it has until it gets the new ones.
"""

import logging
from collections.abc import Iterable, Iterator
from ctypes import CDLL
from typing import Final

from broker.mqtt import is_shared, without_exclusive
from broker.routing.filter_tree import FilterTree
from broker.routing.packed import PackedMap, Unpacked
from broker.routing.subscription import name_of, pack_options
from cluster.store import records

DAMAGE: Final = (AttributeError, KeyError, TypeError, ValueError)
"""What unpacking a damaged row, or one of a newer release, leads to."""
_OPTIONS_LIMIT: Final = 4096
_DOLLAR: Final = ord("$")

logger = logging.getLogger(__name__)


def give_back_memory() -> None:
    """Gives what was freed back to the system: what waited to be packed is as large as what came of it, and
    the C library would keep that. Others than glibc have no such function."""
    trim = getattr(CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Loaded:
    """`rows`, `filters` and `wildcards` are for the index, when they have been packed."""

    __slots__ = ("_by_client", "_by_filter", "_options", "filters", "rows", "shared", "wildcards")

    def __init__(self) -> None:
        self.rows = PackedMap()
        self.filters = PackedMap()
        self.wildcards = FilterTree()
        self.shared: dict[tuple[str, str], tuple[bytes, int]] = {}  # client and filter -> options and stamp
        self._by_filter = Unpacked()
        self._by_client = Unpacked()
        self._options: dict[bytes, bytes] = {}  # as they are -> as rows have them, behind a colon

    def take(self, page: list[bytes]) -> None:
        """Rows as they are in Redis (`keys.subscriptions`): field, value, field, value."""
        is_sound = _are_text(page[::2])
        for at in range(0, len(page), 2):
            field = page[at]
            try:
                if not is_sound:
                    field.decode()
                self._take(field, page[at + 1])
            except DAMAGE as error:
                logger.error("subscription %r left out: %s", field, error)

    def _take(self, field: bytes, row: bytes) -> None:
        filter, _, client = field.partition(b"\0")
        stamp, _, options = row.partition(b":")
        packed = self._options.get(options)
        if packed is None:
            packed = self._pack(options)
        if not stamp.isdigit():
            raise ValueError(f"no stamp: {stamp!r}")
        self._by_client.add(client, filter, stamp)
        if not filter or filter[0] != _DOLLAR:
            self._by_filter.add(filter, client, stamp, packed)
            return
        text = filter.decode()
        if is_shared(text):
            self.shared[client.decode(), text] = options, int(stamp)
        else:
            self._by_filter.add(without_exclusive(text).encode(), name_of(text, client), stamp, packed)

    def _pack(self, options: bytes) -> bytes:
        records.unpack_options(options)
        if len(self._options) >= _OPTIONS_LIMIT:
            self._options.clear()
        packed = self._options[options] = b":" + pack_options(options)
        return packed

    def pack(self) -> Iterator[None]:
        """When all have been taken: makes them ready for the index, in some steps."""
        for filters in self.rows.pack(self._by_filter):
            for filter in _with_wildcards(filters):
                self.wildcards.add(filter)
            yield
        for _ in self.filters.pack(self._by_client):
            yield


def _with_wildcards(filters: list[bytes]) -> list[str]:
    """Those that have any: of a fleet with exact filters none, and then it is not asked for each. (`in` would
    raise and forget an exception for each, as what it looks for might be a number.)"""
    together = b"\0".join(filters)
    if together.find(b"+") < 0 and together.find(b"#") < 0:
        return []
    return [filter for filter in together.decode().split("\0") if "+" in filter or "#" in filter]


def _are_text(fields: Iterable[bytes]) -> bool:
    """Whether none of them is damaged: asked once for a page, as that is much less than for each."""
    try:
        b"\0".join(fields).decode()
    except UnicodeDecodeError:
        return False
    return True
