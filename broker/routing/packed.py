"""A million rows without a million objects: key -> names, each with a value; all of them bytes.

Theory of operation. Rows lie in *pages*, byte strings of some hundred bytes; the hash of its key says in
which one a row is, and `bytes.find` finds it there. A page looks like this, where the marks are bytes that
never occur in UTF-8:

    FF key FE name FD value FE name FD value FF key FE name FD value ...

A change makes a new page. When there are too many bytes for so many pages, one page is split in two (linear
hashing), so no change takes longer than another. A key with very many names has a map of its own (`_crowds`).
An object for each row, with a dictionary, would take five times as much, and time of the garbage collector.
A map of many rows is made of `Unpacked` in a fifth of the time.

Neither keys, names nor values may hold bytes from F8 on.
"""

from collections.abc import Iterator
from typing import Final

_KEY: Final = b"\xff"
_NAME: Final = b"\xfe"
_VALUE: Final = b"\xfd"
_PAGE_BYTES: Final = 320  # on average; what Python's allocator has no size for (over 512) costs more
_PARTS: Final = 256
PART_PAGES: Final = 1024
"""About five thousand rows: a millisecond."""
HIGHEST: Final = _KEY
"""Beyond all keys."""
_CROWD_ROWS: Final = 64  # of one key in a page; more take too long to copy with every change
_WAITING_ROWS: Final = 8192  # each is kept in pieces until then: some 200 bytes


class PackedMap:
    """`count` is how many rows there are, `keys` how many keys they have."""

    __slots__ = ("_crowds", "_mask", "_next", "_pages", "_size_bytes", "count", "keys")

    def __init__(self) -> None:
        self.count = 0
        self.keys = 0
        self._pages: list[bytes] = [b""]
        self._mask = 0  # pages up to the last power of two, less 1
        self._next = 0  # the page that is split next: those before it are split already
        self._size_bytes = 0
        self._crowds: dict[bytes, PackedMap] = {}

    def get(self, key: bytes, name: bytes) -> bytes | None:
        """The value of a row."""
        crowd = self._crowds.get(key)
        if crowd is not None:
            return crowd.get(name, b"")
        page = self._pages[self._place(key)]
        start, end = _find_key(page, key)
        row = _NAME + name + _VALUE
        at = page.find(row, start, end) if end else -1
        if at < 0:
            return None
        return page[at + len(row) : _end_of_row(page, at, end)]

    def names(self, key: bytes) -> list[tuple[bytes, bytes]]:
        """The rows of a key: name and value."""
        crowd = self._crowds.get(key)
        if crowd is not None:
            return [(name, value) for name, _, value in crowd.rows()]
        page = self._pages[self._place(key)]
        start, end = _find_key(page, key)
        return _rows_of(page[start + 1 : end])[1] if end else []

    def some_names(self, key: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """At most so many of them, however many there are."""
        crowd = self._crowds.get(key)
        if crowd is None:
            return self.names(key)[:limit]
        found: list[tuple[bytes, bytes]] = []
        for name, _, value in crowd.rows():
            if len(found) >= limit:
                break
            found.append((name, value))
        return found

    def has(self, key: bytes) -> bool:
        """Whether it has rows."""
        return key in self._crowds or _find_key(self._pages[self._place(key)], key)[1] > 0

    def count_of(self, key: bytes) -> int:
        """How many rows a key has."""
        crowd = self._crowds.get(key)
        if crowd is not None:
            return crowd.count
        page = self._pages[self._place(key)]
        start, end = _find_key(page, key)
        return page.count(_NAME, start, end) if end else 0

    def put(self, key: bytes, name: bytes, value: bytes) -> None:
        """Adds a row, or gives it another value."""
        crowd = self._crowds.get(key)
        if crowd is not None:
            self.count -= crowd.count
            crowd.put(name, b"", value)
            self.count += crowd.count
            return
        place = self._place(key)
        page = self._pages[place]
        start, end = _find_key(page, key)
        row = _NAME + name + _VALUE
        if not end:
            self.keys += 1
            self.count += 1
            self._write(place, page + _KEY + key + row + value)
            return
        at = page.find(row, start, end)
        if at >= 0:
            self._write(place, page[:at] + row + value + page[_end_of_row(page, at, end) :])
            return
        self.count += 1
        self._write(place, page[:end] + row + value + page[end:])
        if page.count(_NAME, start, end) >= _CROWD_ROWS:
            self._part(key)

    def remove(self, key: bytes, name: bytes) -> bool:
        """Whether there was such a row."""
        crowd = self._crowds.get(key)
        if crowd is not None:
            existed = crowd.remove(name, b"")
            self.count -= existed
            if not crowd.count:
                del self._crowds[key]
                self.keys -= 1
            return existed
        place = self._place(key)
        page = self._pages[place]
        start, end = _find_key(page, key)
        at = page.find(_NAME + name + _VALUE, start, end) if end else -1
        if at < 0:
            return False
        self.count -= 1
        following = _end_of_row(page, at, end)
        if following == end and at == start + len(_KEY) + len(key):  # it was the only one
            self.keys -= 1
            at = start
        self._write(place, page[:at] + page[following:])
        return True

    def pack(self, rows: "Unpacked") -> Iterator[list[bytes]]:
        """Takes all rows into a map that is empty, in some steps, each of which tells the keys that it took;
        until the last one it is not to be used."""
        rows.join()
        pages = 1
        while pages < _PARTS or rows.size_bytes > _PAGE_BYTES * pages:
            pages *= 2
        self._mask = pages - 1
        self._pages = [b""] * pages
        for part in range(_PARTS):
            found = rows.take(part)
            keys = [row[: row.find(_NAME)] for row in found]
            if len(set(keys)) < len(keys):
                found, keys, crowded = self._gather(found)
                for key, group in crowded:
                    crowd = self._crowds[key] = PackedMap()
                    for _ in crowd.pack(_unpacked(group)):
                        yield []
                    self.count += crowd.count
                    self.keys += 1
                    yield [key]
            else:
                self.count += len(keys)
            self._pack_part(part, found, keys)
            yield keys

    def _gather(self, found: list[bytes]) -> tuple[list[bytes], list[bytes], list[tuple[bytes, list[bytes]]]]:
        """Rows in which all names of a key are together, and these keys; and the keys that get maps of their
        own, with their rows."""
        first, more = _by_key(found)
        crowded: list[tuple[bytes, list[bytes]]] = []
        for key, group in more.items():
            if len(group) > _CROWD_ROWS:
                crowded.append((key, group))
                del first[key]
            else:
                group = _distinct(group)
                self.count += len(group) - 1
                first[key] = key + _NAME + _NAME.join(group)
        self.count += len(first)
        return list(first.values()), list(first), crowded

    def _pack_part(self, part: int, rows: list[bytes], keys: list[bytes]) -> None:
        """The pages of a part, whose keys are all different."""
        pages: list[list[bytes]] = [[] for _ in range(part, len(self._pages), _PARTS)]
        mask = self._mask
        for number, key in enumerate(keys):
            pages[(hash(key) & mask) // _PARTS].append(rows[number])
        self.keys += len(keys)
        for number, found in enumerate(pages):
            if found:
                page = _KEY + _KEY.join(found)
                self._size_bytes += len(page)
                self._pages[number * _PARTS + part] = page

    def keys_on(self, page: int) -> list[bytes] | None:
        """The keys on one of the pages, for whoever goes through all of them while they change: then one may
        be found twice, or not at all. None behind the last page."""
        if page < len(self._pages):
            return [row.partition(_NAME)[0] for row in self._pages[page].split(_KEY)[1:]]
        return list(self._crowds) if page == len(self._pages) else None

    def rows(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Key, name and value of every row as they are now: later changes don't show."""
        return _each_row(list(self._pages), [(key, crowd.rows()) for key, crowd in self._crowds.items()])

    def rests(self, first: int, beginning: bytes, low: bytes, high: bytes) -> list[bytes] | None:
        """Of keys on a part of the pages, from page `first` on, that begin so: what follows in them, if it is
        neither below `low` nor beyond `high` (HIGHEST: nothing is). The next part begins PART_PAGES later.
        None: there are no such pages.

        What changes between two parts may be there twice. Not the keys of `crowds`. A key with U+0000 in it
        is found only if `beginning` has all of that."""
        if first >= len(self._pages):
            return None
        part = b"".join(self._pages[first : first + PART_PAGES])
        mark = _KEY + beginning
        if mark not in part:
            return []
        # A page is not taken apart further than it must be. With a 0 behind each key, what begins with a key
        # is in the order of keys.
        bound = high + b"\1"
        pieces = part.replace(_NAME, b"\0").split(mark)[1:]
        return [piece[: piece.find(b"\0")] for piece in pieces if low <= piece < bound]

    def crowds(self, beginning: bytes) -> "list[tuple[bytes, PackedMap]]":
        """Keys that begin so and have very many names, each with a map whose keys these are."""
        return [(key, crowd) for key, crowd in self._crowds.items() if key.startswith(beginning)]

    def _place(self, key: bytes) -> int:
        number = hash(key)
        place = number & self._mask
        return number & (2 * self._mask + 1) if place < self._next else place

    def _write(self, place: int, page: bytes) -> None:
        self._size_bytes += len(page) - len(self._pages[place])
        self._pages[place] = page
        if self._size_bytes > _PAGE_BYTES * len(self._pages):
            self._split()

    def _split(self) -> None:
        """Moves half of the rows of a page to a new one."""
        bit = self._mask + 1
        stay: list[bytes] = [b""]
        go: list[bytes] = [b""]
        for rows in self._pages[self._next].split(_KEY)[1:]:
            key = rows[: rows.find(_NAME)]
            (go if hash(key) & bit else stay).append(rows)
        self._pages[self._next] = _KEY.join(stay)
        self._pages.append(_KEY.join(go))
        self._next += 1
        if self._next == bit:
            self._mask = 2 * bit - 1
            self._next = 0

    def _part(self, key: bytes) -> None:
        """Gives a key a map of its own."""
        place = self._place(key)
        page = self._pages[place]
        start, end = _find_key(page, key)
        crowd = PackedMap()
        for name, value in _rows_of(page[start + 1 : end])[1]:
            crowd.put(name, b"", value)
        self._crowds[key] = crowd
        self._write(place, page[:start] + page[end:])


class Unpacked:
    """Rows on their way into an empty map. Those whose pages lie far apart are kept apart: what is packed
    together is together in the processor's caches."""

    __slots__ = ("_parts", "_pieces", "_waiting", "size_bytes")

    def __init__(self) -> None:
        self._parts = [bytearray() for _ in range(_PARTS)]
        self._pieces: list[list[bytes]] = [[] for _ in range(_PARTS)]  # of the last rows, for the parts
        self._waiting = 0  # how many these are
        self.size_bytes = 0  # of the parts

    def add(self, key: bytes, name: bytes, value: bytes, rest: bytes = b"") -> None:
        """`rest` belongs to the value. If a row comes twice, the later one counts."""
        pieces = self._pieces[hash(key) & (_PARTS - 1)]
        pieces.append(_KEY)
        pieces.append(key)
        pieces.append(_NAME)
        pieces.append(name)
        pieces.append(_VALUE)
        pieces.append(value)
        pieces.append(rest)
        self._waiting += 1
        if self._waiting >= _WAITING_ROWS:
            self.join()

    def join(self) -> None:
        """To be done when all have been added."""
        for part, pieces in enumerate(self._pieces):
            if pieces:
                rows = b"".join(pieces)
                self._parts[part] += rows  # a list of these would leave holes in the memory
                self.size_bytes += len(rows)
                pieces.clear()
        self._waiting = 0

    def take(self, part: int) -> list[bytes]:
        """Key, name and value of the rows of a part, which is empty then."""
        rows = bytes(self._parts[part]).split(_KEY)[1:]
        self._parts[part] = bytearray()
        return rows


def _by_key(rows: list[bytes]) -> tuple[dict[bytes, bytes], dict[bytes, list[bytes]]]:
    """The first row of each key; and of keys that have several, names and values of all."""
    first: dict[bytes, bytes] = {}
    more: dict[bytes, list[bytes]] = {}
    for row in rows:
        at = row.find(_NAME)
        key = row[:at]
        earlier = first.setdefault(key, row)
        if earlier is row:
            continue
        group = more.get(key)
        if group is None:
            group = more[key] = [earlier[at + 1 :]]
        group.append(row[at + 1 :])
    return first, more


def _distinct(group: list[bytes]) -> list[bytes]:
    """The last of each name."""
    last = {row[: row.find(_VALUE)]: row for row in group}
    return list(last.values())


def _unpacked(group: list[bytes]) -> Unpacked:
    """Of the rows of one key those of a crowd: the names are the keys there."""
    rows = Unpacked()
    for row in group:
        name, _, value = row.partition(_VALUE)
        rows.add(name, b"", value)
    return rows


def _find_key(page: bytes, key: bytes) -> tuple[int, int]:
    """Where its rows begin and end; the end is 0 if it has none."""
    start = page.find(_KEY + key + _NAME)
    if start < 0:
        return 0, 0
    end = page.find(_KEY, start + 1)
    return start, end if end >= 0 else len(page)


def _end_of_row(page: bytes, at: int, end: int) -> int:
    following = page.find(_NAME, at + 1, end)
    return following if following >= 0 else end


def _rows_of(rows: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Key, names and values of a part of a page."""
    parts = rows.split(_NAME)
    found = []
    for part in parts[1:]:
        name, _, value = part.partition(_VALUE)
        found.append((name, value))
    return parts[0], found


def _each_row(
    pages: list[bytes], crowds: list[tuple[bytes, Iterator[tuple[bytes, bytes, bytes]]]]
) -> Iterator[tuple[bytes, bytes, bytes]]:
    for page in pages:
        for rows in page.split(_KEY)[1:]:
            key, found = _rows_of(rows)
            for name, value in found:
                yield key, name, value
    for key, crowd in crowds:
        for name, _, value in crowd:
            yield key, name, value
