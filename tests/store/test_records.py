"""Records: what one node writes, another reads, also a newer one."""

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.store import records
from cluster.store.entry import pack_body, pack_head, unpack_entry
from tests.store.caller import fields_of

TEXT = st.text(max_size=100)
DEADLINES = st.integers(0, 2**43)


@given(
    qos=st.integers(0, 2),
    retain=st.booleans(),
    identifiers=st.lists(st.integers(1, 268_435_455), max_size=5).map(tuple),
    topic=TEXT,
    payload=st.binary(max_size=300),
    properties=st.binary(max_size=300),
    deadline_ms=DEADLINES,
    was_retained=st.booleans(),
)
def test_entries(
    qos: int,
    retain: bool,
    identifiers: tuple[int, ...],
    topic: str,
    payload: bytes,
    properties: bytes,
    deadline_ms: int,
    was_retained: bool,
) -> None:
    packed = pack_head(qos, retain, identifiers, was_retained)
    packed += pack_body(topic, payload, properties, deadline_ms)
    wanted = (qos, retain, identifiers, topic, payload, properties, deadline_ms, was_retained)
    assert fields_of(unpack_entry(packed)) == wanted


@pytest.mark.parametrize("size", [0, 31, 32, 255, 256, 1023, 1024, 65_535, 65_536])
def test_entries_are_what_msgpack_makes_of_them(size: int) -> None:
    for topic, payload, properties in (
        ("t" * size, b"", b""),
        ("", bytes(size), b""),
        ("", b"", bytes(size)),
    ):
        packed = pack_head(1, True, ()) + pack_body(topic, payload, properties, 0)
        assert packed == msgpack.packb((1, 5, None, topic, payload, properties, 0), use_bin_type=False)


@given(
    qos=st.integers(0, 2),
    no_local=st.booleans(),
    as_published=st.booleans(),
    handling=st.integers(0, 2),
    identifier=st.integers(0, 268_435_455),
)
def test_options(qos: int, no_local: bool, as_published: bool, handling: int, identifier: int) -> None:
    packed = records.pack_options(qos, no_local, as_published, handling, identifier)
    assert records.unpack_options(packed) == records.Options(
        qos, no_local, as_published, handling, identifier
    )


@given(topic=TEXT, payload=st.binary(max_size=300), expiry=st.none() | st.integers(0, 2**32 - 1))
def test_wills(topic: str, payload: bytes, expiry: int | None) -> None:
    packed = records.pack_will(topic, payload, 2, True, b"\x01\x00", expiry, "c-é")
    assert records.unpack_will(packed) == records.StoredWill(
        topic, payload, 2, True, b"\x01\x00", expiry, "c-é"
    )


@given(payload=st.binary(max_size=300), deadline_ms=DEADLINES)
def test_retained(payload: bytes, deadline_ms: int) -> None:
    packed = records.pack_retained(payload, 1, b"p", deadline_ms)
    assert records.unpack_retained(packed) == records.Retained(payload, 1, b"p", deadline_ms)


def test_a_record_of_another_version_is_refused() -> None:
    with pytest.raises(records.UnknownRecord):
        unpack_entry(msgpack.packb([2, 0, None, "t", b"", b"", 0], use_bin_type=False))
    with pytest.raises(records.UnknownRecord):
        records.unpack_options(msgpack.packb([2, 0, 0]))
    with pytest.raises(records.UnknownRecord):
        records.unpack_will(msgpack.packb([2, "t", b"", 0, b"", None, "c"], use_bin_type=False))
    with pytest.raises(records.UnknownRecord):
        records.unpack_retained(msgpack.packb([2, b"", 0, b"", 0], use_bin_type=False))


def test_what_a_newer_node_adds_is_ignored() -> None:
    newer = msgpack.packb([1, 1, None, "t", b"p", b"", 5, "more", 7], use_bin_type=False)
    assert fields_of(unpack_entry(newer)) == (1, False, (), "t", b"p", b"", 5, False)
    assert records.unpack_options(msgpack.packb([1, 1, 0, 9])).qos == 1
    will = msgpack.packb([1, "t", b"", 0, b"", None, "c", 9], use_bin_type=False)
    assert records.unpack_will(will).client_id == "c"
    assert records.unpack_retained(msgpack.packb([1, b"p", 0, b"", 0, 9], use_bin_type=False)).payload == b"p"
