"""The tokens of the admin address: a line `name role sha256:hash` for each, made by `moorline token`.

A token is 256 random bits, so one round of SHA-256 is enough: there is nothing to guess. It has a beginning
by which those who look for secrets in texts can know it.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from broker.files import numbered_lines

TOKENS_MAXIMUM: Final = 100
"""Each request is compared with all of them."""

_BEGINNING: Final = "moorline_"
_RANDOM_BYTES: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_HASH: Final = re.compile(r"sha256:([0-9a-f]{64})")


class Role(IntEnum):
    """What a token is good for; each includes those before it."""

    READ = 1
    OPERATE = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()


ROLES: Final = {str(role): role for role in Role}


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token."""

    name: str
    role: Role
    digest: bytes

    def to_line(self) -> str:
        """For the file, with the line's end."""
        return f"{self.name} {self.role} sha256:{self.digest.hex()}\n"


def is_token_name(name: str) -> bool:
    """Whether it can be in the file."""
    return _NAME.fullmatch(name) is not None


def make_token(name: str, role: Role) -> tuple[str, Token]:
    """The token itself, which is kept nowhere, and what is known of it."""
    text = _BEGINNING + secrets.token_urlsafe(_RANDOM_BYTES)
    return text, Token(name, role, _digest(text.encode()))


def find_token(tokens: Iterable[Token], given: bytes) -> Token | None:
    """Whose it is. Takes as long for one as for another."""
    digest = _digest(given)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found


def read_tokens(path: Path) -> Sequence[Token]:
    """ValueError has a line for each mistake, and no part of the file."""
    tokens: dict[str, Token] = {}
    mistakes = []
    for number, line in numbered_lines(path):
        try:
            token = _token_of(line)
            if token.name in tokens:
                raise ValueError("a token of this name was there before")
            tokens[token.name] = token
        except ValueError as error:
            mistakes.append(f"{path}, line {number}: {error}")
    if len(tokens) > TOKENS_MAXIMUM:
        mistakes.append(f"{path}: more than {TOKENS_MAXIMUM} tokens")
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return tuple(tokens.values())


def _token_of(line: str) -> Token:
    parts = line.split()
    if len(parts) != 3:
        raise ValueError("not NAME ROLE sha256:HASH")
    name, role, hashed = parts
    found = _HASH.fullmatch(hashed)
    if not is_token_name(name):
        raise ValueError("no name of a token: up to 64 letters, digits, and . _ - @")
    if role not in ROLES:
        raise ValueError(f"the role is not one of {', '.join(ROLES)}")
    if found is None:
        raise ValueError("no sha256: and 64 hexadecimal digits after the role")
    return Token(name, ROLES[role], bytes.fromhex(found[1]))


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
