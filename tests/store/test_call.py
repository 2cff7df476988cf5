"""How calls go over the wire and what comes back. What Redis itself makes of them is tested with the lane."""

import msgpack  # type: ignore[import-untyped]  # it has neither stubs nor a marker
import pytest

from cluster.store.call import LARGE_BYTES, Call, pack_command, unpack_replies
from cluster.store.errors import CallFailed, ItemError
from cluster.store.library import function_name
from tests.store.servers import encoder


def test_encodes_a_call_as_one_command() -> None:
    call = Call("write", [["echo", 5, "x"]], [b"\xff"], slot=5)
    parts: list[bytes] = []
    encoder().append_to(parts, call)
    arguments = encoder().arguments(call)
    assert len(arguments) == 7
    assert arguments[:-1] == (b"FCALL", function_name("write").encode(), b"1", b"mq:{5}:", b"mq:", b"n1")
    assert b"".join(parts) == pack_command(*arguments)
    assert msgpack.unpackb(arguments[-1], raw=True) == [[b"\xff"], [[b"echo", 5, b"x"]]]


def test_large_bodies_are_arguments_of_their_own() -> None:
    bodies = [b"x" * LARGE_BYTES, b"y" * LARGE_BYTES]
    call = Call("write", [["echo", 5, 0]], bodies, slot=5)
    parts: list[bytes] = []
    encoder().append_to(parts, call)
    arguments = encoder().arguments(call)
    assert msgpack.unpackb(arguments[6], raw=True) == [[], [[b"echo", 5, 0]]]
    assert list(arguments[7:]) == bodies
    assert b"".join(parts) == pack_command(*arguments)


def test_what_is_large_in_a_request_becomes_a_body() -> None:
    call = Call("write", bodies=[b"another"])
    small, large = b"x" * (LARGE_BYTES - 1), b"y" * LARGE_BYTES
    assert call.place(small) == small
    assert call.place(large) == [1]
    assert call.bodies == [b"another", large]


def test_blob_has_no_type_that_the_servers_msgpack_does_not_know() -> None:
    blob = encoder().arguments(Call("free", [["echo", 0, b"\x00" * 300]]))[-1]
    assert b"\xc4" not in blob  # bin 8
    assert b"\xc5" not in blob  # bin 16


def test_function_and_slot_have_heads_of_their_own() -> None:
    reused = encoder()
    for function, slot in (("write", 1), ("free", 1), ("write", 2), ("write", 1)):
        parts: list[bytes] = []
        call = Call(function, slot=slot)
        reused.append_to(parts, call)
        assert b"".join(parts) == pack_command(*encoder().arguments(call))


def test_packs_text_numbers_and_bytes() -> None:
    assert pack_command("SET", b"k", 12) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n12\r\n"


def test_calls_do_not_share_their_lists() -> None:
    first, second = Call("write"), Call("write")
    first.requests.append(["a"])
    first.bodies.append(b"b")
    assert second.requests == []
    assert second.bodies == []
    assert repr(first) == "Call('write', 1 requests, 1 bodies, slot='m')"


def test_failed_request_has_an_error_in_its_place() -> None:
    replies = unpack_replies(msgpack.packb([1, {"err": "ERR no"}, {"other": 1}, [{"err": "x"}]]), 4)
    assert replies[0] == 1
    assert isinstance(replies[1], ItemError)
    assert str(replies[1]) == "ERR no"
    assert replies[2:] == [{b"other": 1}, [{b"err": b"x"}]]


@pytest.mark.parametrize(
    "answer", [b"", b"\xc1", b"\x92\x01", b"\x01\x01", msgpack.packb(1), msgpack.packb([1, 2])]
)
def test_refuses_what_is_no_answer(answer: bytes) -> None:
    with pytest.raises(CallFailed):
        unpack_replies(answer, 1)


def test_incomplete_answer_has_other_count() -> None:
    with pytest.raises(CallFailed, match="2 requests"):
        unpack_replies(msgpack.packb([1]), 2)
