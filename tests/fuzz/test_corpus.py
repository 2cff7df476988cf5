"""Every input that fuzzing has found worth keeping, and the seeds; without atheris."""

import pytest

from broker.mqtt import MalformedPacket
from tests.fuzz import inputs
from tests.fuzz.target import TARGETS, one_input


def test_no_input_of_the_corpus_fails() -> None:
    found = inputs.seeds() + inputs.saved()
    assert {data[:1] for data in found} == TARGETS.keys()
    for data in found:
        one_input(data)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (b"D", "tests.fuzz.target.Decoder"),
        (b"C", "tests.fuzz.target.Connection"),
        (b"R", "cluster.store.inbox_records.unpack"),
        (b"P", "tests.fuzz.edge.parse_header"),
        (b"W", "tests.fuzz.edge.websocket_protocol"),
        (b"J", "broker.auth.json_web_token.JsonWebTokens.authenticate"),
        (b"S", "broker.auth.json_web_token.JsonWebTokens.authenticate"),
        (b"K", "tests.fuzz.tokens.parse_jwks"),
        (b"H", "tests.fuzz.tokens.read_verdict"),
    ],
)
def test_another_error_is_noticed(monkeypatch: pytest.MonkeyPatch, name: bytes, place: str) -> None:
    monkeypatch.setattr(place, _overflow)
    with pytest.raises(OverflowError):
        one_input(name + b"\0\0\0\0")


def test_a_difference_between_whole_and_cut_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = b"\xc0\x00"

    class Forgetful:
        version = 5

        def __init__(self, *_: object) -> None:
            pass

        def feed(self, chunk: bytes, out: list[object]) -> None:
            if chunk != whole:
                raise MalformedPacket("cut")

    monkeypatch.setattr("tests.fuzz.target.Decoder", Forgetful)
    with pytest.raises(AssertionError):
        one_input(b"D\x03\0\0" + whole)


def _overflow(*_: object, **__: object) -> None:
    raise OverflowError
