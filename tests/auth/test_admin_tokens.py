"""The file with tokens of the admin address, and whose a token is."""

from pathlib import Path

import pytest

from broker.auth.admin_tokens import TOKENS_MAXIMUM, Role, Token, find_token, make_token, read_tokens

HASH = "sha256:" + "0f" * 32


def test_what_is_made_is_found_again(tmp_path: Path) -> None:
    text, token = make_token("ops", Role.OPERATE)
    _, other = make_token("prometheus", Role.READ)
    file = tmp_path / "tokens"
    file.write_text("# of the nodes\n\n" + other.to_line() + token.to_line())
    tokens = read_tokens(file)
    assert tokens == (other, token)
    assert find_token(tokens, text.encode()) == token
    assert text not in file.read_text()
    assert text not in repr(tokens)


def test_others_are_not_found() -> None:
    text, token = make_token("ops", Role.OPERATE)
    for given in (b"", text.encode()[:-1], text.encode() + b" ", text.upper().encode()):
        assert find_token([token], given) is None
    assert find_token([], text.encode()) is None
    assert make_token("ops", Role.OPERATE)[0] != text


def test_a_role_includes_those_before_it() -> None:
    assert Role.READ < Role.OPERATE < Role.ADMIN
    assert str(Role.OPERATE) == "operate"


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("ops operate", "not NAME ROLE sha256:HASH"),
        (f"ops operate {HASH} x", "not NAME ROLE sha256:HASH"),
        (f"o/ps operate {HASH}", "no name of a token"),
        (f"ops root {HASH}", "the role is not one of read, operate, admin"),
        (f"ops READ {HASH}", "the role is not one of"),
        ("ops read moorline_secret", "no sha256: and 64 hexadecimal digits"),
        (f"first read {HASH}", "a token of this name was there before"),
    ],
)
def test_mistakes_are_told_by_line_and_without_what_stands_there(
    line: str, mistake: str, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"first read {HASH}\n{line}\nlast\n")
    with pytest.raises(ValueError, match=mistake) as refused:
        read_tokens(file)
    second, third = str(refused.value).splitlines()
    assert second.startswith(f"{file}, line 2: ")
    assert third.startswith(f"{file}, line 3: ")
    assert "secret" not in second
    assert HASH not in second


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    with pytest.raises(ValueError, match="No such file"):
        read_tokens(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_tokens(file)
    file.write_text(
        "".join(Token(f"t{i}", Role.READ, bytes(32)).to_line() for i in range(TOKENS_MAXIMUM + 1))
    )
    with pytest.raises(ValueError, match="more than 100 tokens"):
        read_tokens(file)
