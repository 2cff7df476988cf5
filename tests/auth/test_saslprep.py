"""SASLprep: the examples of RFC 4013, and what is prohibited."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.auth.saslprep import saslprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),  # RFC 4013, section 3
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b\u3000c", "a b c"),
        ("a\u200db", "ab"),
        ("\u0627\u0628", "\u0627\u0628"),
        ("\u0627\u0031\u0628", "\u0627\u0031\u0628"),
        ("", ""),
        ("\u00ad", ""),
    ],
)
def test_prepared(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize(
    "text",
    [
        "\u0007",
        "\u0627\u0031",  # both of RFC 4013, section 3
        "\u0627x\u0628",
        "\ue000",
        "\ufffd",
        "\u2ff0",
        "\u200e",
        "\U000e0001",
        "\ufdd0",
        "\u0221",  # not assigned in Unicode 3.2
        "\U0001f600",
    ],
)
def test_prohibited(text: str) -> None:
    with pytest.raises(ValueError, match=r"direction|begin|allowed"):
        saslprep(text)


@settings(max_examples=50)
@given(st.text(max_size=20))
def test_what_is_prepared_stays(text: str) -> None:
    try:
        prepared = saslprep(text)
    except ValueError:
        return
    assert saslprep(prepared) == prepared


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_ascii_stays(text: str) -> None:
    assert saslprep(text) == text
