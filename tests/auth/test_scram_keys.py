"""Keys for SCRAM as they stand in a file."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.auth.scram_keys import format_keys, keys_of_user, make_keys, parse_keys
from broker.auth.user import ScramKeys

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
# As PostgreSQL 16 has them for this password and salt: SELECT rolpassword FROM pg_authid
TEXT = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
    ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def test_written_and_read() -> None:
    keys = make_keys("pencil", 4096, SALT)
    assert format_keys(keys) == TEXT
    assert parse_keys(TEXT) == keys
    fresh = make_keys("pencil", 5000)
    assert fresh.salt != make_keys("pencil", 5000).salt
    assert parse_keys(format_keys(fresh)) == fresh


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no keys for"),
        ("x" + TEXT, "no keys for"),
        (TEXT + ":", "no keys for"),
        (TEXT.replace("256", "1"), "no keys for"),
        (TEXT.replace("$W", "$?"), "no keys for"),
        (TEXT.replace("4096", "4095"), "4096 to 1000000 iterations"),
        (TEXT.replace("4096", "1000001"), "4096 to 1000000 iterations"),
        (TEXT.replace("4096", "9" * 5000), "no keys for"),
        (TEXT.replace("4096", "\u0664096"), "no keys for"),
        (TEXT.replace("W22Z", "W22ZW22Z"), "16 and 32 bytes"),
        (TEXT.replace("gQ==", "gQ="), "16 and 32 bytes"),
        (TEXT.replace("$WG5d", "$"), "16 and 32 bytes"),
        (TEXT.replace(":wfPL", ":"), "16 and 32 bytes"),
    ],
)
def test_what_is_no_key(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_keys(text)
    assert "PLwcE6" not in str(caught.value)


@given(st.text(max_size=200))
def test_nothing_else_is_raised(text: str) -> None:
    for each in (text, f"SCRAM-SHA-256$4096:{text}", TEXT[:-20] + text):
        try:
            assert isinstance(parse_keys(each), ScramKeys)
        except ValueError:
            continue


def test_names_and_passwords_that_scram_does_not_have() -> None:
    assert keys_of_user("ann", "x", 4096) is not None
    assert keys_of_user("ann\u00ad", "x", 4096) is None  # whoever asks for it asks for "ann"
    assert keys_of_user("\u0221", "x", 4096) is None
    assert keys_of_user("ann", "\u0221", 4096) is None
