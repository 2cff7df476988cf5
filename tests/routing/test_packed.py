"""The packed map against a dictionary of dictionaries, changed one by one and packed at once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.routing import packed
from broker.routing.packed import PackedMap, Unpacked

# Few keys, so that rows meet; names and values that are parts of each other.
NAMES = st.sampled_from(["a", "b", "ab", "", "é", "\0x", *map(str, range(100))]).map(str.encode)
KEYS = st.sampled_from(["k", "kk", "", "a", "é/+/ü", *map(str, range(30))]).map(str.encode)
VALUES = st.sampled_from([b"", b"1", b"12:\x01"])
ROWS = st.lists(st.tuples(KEYS, NAMES, VALUES), max_size=60)

Model = dict[bytes, dict[bytes, bytes]]


def check(found: PackedMap, model: Model) -> None:
    """Every question has the answer of the model."""
    assert found.keys == len(model)
    assert found.count == sum(map(len, model.values()))
    assert {key for key, _, _ in found.rows()} == set(model)
    for key, names in model.items():
        assert found.has(key)
        assert dict(found.names(key)) == names
        assert found.count_of(key) == len(names) == len(found.names(key))
        for name, value in names.items():
            assert found.get(key, name) == value
        assert found.get(key, b"never") is None
    assert not found.has(b"never")
    assert (found.names(b"never"), found.count_of(b"never"), found.get(b"never", b"")) == ([], 0, None)


def change(found: PackedMap, model: Model, key: bytes, name: bytes, value: bytes | None) -> None:
    """Puts a row, or removes it if there is no value."""
    if value is not None:
        found.put(key, name, value)
        model.setdefault(key, {})[name] = value
        return
    assert found.remove(key, name) is (name in model.get(key, {}))
    model.get(key, {}).pop(name, None)
    if not model.get(key):
        model.pop(key, None)


def packed_of(rows: list[tuple[bytes, bytes, bytes]]) -> tuple[PackedMap, Model]:
    unpacked, model = Unpacked(), Model()
    for key, name, value in rows:
        unpacked.add(key, name, value)
        model.setdefault(key, {})[name] = value
    found = PackedMap()
    keys = [key for part in found.pack(unpacked) for key in part]
    assert sorted(keys) == sorted(model)
    return found, model


@settings(deadline=None)
@given(ROWS, st.lists(st.tuples(KEYS, NAMES, st.none() | VALUES), max_size=120))
def test_it_is_a_dictionary_of_dictionaries(
    rows: list[tuple[bytes, bytes, bytes]], changes: list[tuple[bytes, bytes, bytes | None]]
) -> None:
    """From what was packed at once, too; a row that comes twice there counts as it came last."""
    found, model = packed_of(rows)
    check(found, model)
    for key, name, value in changes:
        change(found, model, key, name, value)
    check(found, model)
    for key, names in list(model.items()):
        for name in list(names):
            change(found, model, key, name, None)
    check(found, {})


@pytest.mark.parametrize("at_once", [True, False])
def test_many_rows_of_many_keys(at_once: bool) -> None:
    """Pages are split; keys with many names have maps of their own, and lose them."""
    rows = [
        (b"key-%d" % (number % keys), b"name-%d" % number, b"%d" % number)
        for keys in (1, 7, 5000)
        for number in range(5000)
    ]
    found, model = packed_of(rows if at_once else [])
    if not at_once:
        for row in rows:
            change(found, model, *row)
    check(found, model)
    for key, name, _ in rows[::2]:
        change(found, model, key, name, None)
    check(found, model)
    for key, name, _ in rows:
        change(found, model, key, name, None)
    check(found, {})


def test_pages_stay_short() -> None:
    """However rows have come, and whatever the hash of a key is."""
    found, _ = packed_of([(b"key-%d" % number, b"name", b"") for number in range(3000)])
    for number in range(3000, 30_000):
        found.put(b"key-%d" % number, b"name", b"")
    assert len(found._pages) > found._size_bytes / 2 / packed._PAGE_BYTES
    assert max(map(len, found._pages)) < 20 * packed._PAGE_BYTES
