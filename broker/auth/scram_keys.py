"""Keys for SCRAM-SHA-256: how they are made of a password, and how they stand in the password file.

    SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>        [RFC 5803], as PostgreSQL keeps them, too

Who has them can't come in by them, but can try passwords on them, and be taken for the server.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import Final

from broker.auth.saslprep import saslprep
from broker.auth.user import ScramKeys
from broker.settings.auth_redis import SCRAM_ITERATIONS_LEAST, SCRAM_ITERATIONS_MOST

METHOD: Final = "SCRAM-SHA-256"
SALT_BYTES: Final = 16
"""Of all users: with another one somebody could be told from who is not there."""
_KEY_BYTES: Final = 32

_BASE64: Final = "[A-Za-z0-9+/]+={0,2}"
_TEXT: Final = re.compile(
    rf"{METHOD}\$(?P<iterations>[0-9]{{1,9}}):(?P<salt>{_BASE64})\$(?P<stored>{_BASE64}):(?P<server>{_BASE64})"
)


def make_keys(password: str, iterations: int, salt: bytes | None = None) -> ScramKeys:
    """What is kept of a password; takes milliseconds. ValueError if SASLprep does not allow it."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return ScramKeys(iterations, salt, hashlib.sha256(client_key).digest(), server_key)


def keys_of_user(name: str, password: str, iterations: int) -> ScramKeys | None:
    """None for a name or password that SCRAM does not have."""
    try:
        return make_keys(password, iterations) if saslprep(name) == name else None
    except ValueError:
        return None


def format_keys(keys: ScramKeys) -> str:
    """For `parse_keys`."""
    salt, stored, server = (
        base64.b64encode(each).decode() for each in (keys.salt, keys.stored_key, keys.server_key)
    )
    return f"{METHOD}${keys.iterations}:{salt}${stored}:{server}"


def parse_keys(text: str) -> ScramKeys:
    """ValueError says what is wrong, and no part of it."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"no keys for {METHOD}")
    keys = ScramKeys(
        int(found["iterations"]),
        _decoded(found["salt"]),
        _decoded(found["stored"]),
        _decoded(found["server"]),
    )
    mistake = keys_mistake(keys)
    if mistake is not None:
        raise ValueError(mistake)
    return keys


def keys_mistake(keys: ScramKeys) -> str | None:
    """Why they are not to be kept, and no part of them."""
    if not SCRAM_ITERATIONS_LEAST <= keys.iterations <= SCRAM_ITERATIONS_MOST:
        return f"{METHOD} has {SCRAM_ITERATIONS_LEAST} to {SCRAM_ITERATIONS_MOST} iterations"
    lengths = len(keys.salt), len(keys.stored_key), len(keys.server_key)
    if lengths != (SALT_BYTES, _KEY_BYTES, _KEY_BYTES):
        return f"salt and keys for {METHOD} have {SALT_BYTES} and {_KEY_BYTES} bytes"
    return None


def _decoded(text: str) -> bytes:
    """Nothing for what is no Base64."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
