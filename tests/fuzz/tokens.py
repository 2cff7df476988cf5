"""What is fuzzed of tokens: their bytes, their parts under a good signature, files and documents with keys;
and what an HTTP server answers about a client.
"""

import base64
import hmac
import json
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.auth import Credentials, Denied, Identity, Unavailable, Verdict
from broker.auth.http_hook import read_verdict
from broker.auth.json_web_token import JsonWebTokens
from broker.auth.key_set import Key, KeySet, parse_jwks, read_keys
from broker.observability.metrics import Tally

_SECRET: Final = b"0123456789abcdef" * 4
_PUBLIC: Final = derive_private_key(7, SECP256R1()).public_key()
_KEYS: Final = (Key("h", "HS256", _SECRET), Key("e", "ES256", _PUBLIC), Key(None, "HS512", _SECRET))
_WITH_AUDIENCE: Final = 2
_SECRETS: Final = 1
_FILE: Final = 2
_END: Final = 1 << 33

Result = TypeVar("Result")


def _token(mode: int, sizes: bytes, data: bytes) -> None:
    """Nobody gets in without the secret: at most by what the seeds have signed."""
    verdict = _ask(mode, data)
    assert not isinstance(verdict, Identity) or verdict.username == "ann"


def _signed(mode: int, sizes: bytes, data: bytes) -> None:
    """What somebody with the secret may write, into the claims or the header, too."""
    header, _, payload = data.partition(b"\0") if mode & 1 else (_HEADER, b"", data)
    verdict = _ask(mode, _sign(header, payload))
    if isinstance(verdict, Identity):
        assert isinstance(verdict.deadline, float)
        for name in (verdict.username or "", *verdict.groups):
            name.encode()


def _keys(mode: int, sizes: bytes, data: bytes) -> None:
    try:
        if mode & _FILE:
            _FILES.write(data)
            keys = read_keys(_FILES.keys)
        else:
            keys = parse_jwks(data, allows_secrets=bool(mode & _SECRETS))
    except ValueError:
        return
    assert keys


def _answer(mode: int, sizes: bytes, data: bytes) -> None:
    try:
        verdict = read_verdict(data, _credentials(b""))
    except Unavailable:
        return
    if isinstance(verdict, Identity):
        for name in (verdict.username or "", *verdict.groups):
            name.encode()


class _Files:
    """A file with keys, and what it may name, in a directory of their own."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="moorline-fuzz-")
        directory = Path(self._directory.name)
        self.keys = directory / "keys"
        (directory / "s").write_bytes(_SECRET)
        (directory / "p").write_bytes(_PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def write(self, data: bytes) -> None:
        """The keys."""
        self.keys.write_bytes(data)


def _ask(mode: int, token: bytes) -> Verdict:
    tokens = JsonWebTokens(
        KeySet(_KEYS, None, 300, Tally()),
        issuer=None,
        audience="mqtt" if mode & _WITH_AUDIENCE else None,
        username_claim="sub",
        leeway_seconds=0,
    )
    verdict = _finish(tokens.authenticate(_credentials(token)))
    assert verdict is None or isinstance(verdict, Identity | Denied)
    return verdict


def _finish(work: Coroutine[Any, Any, Result]) -> Result:
    """Without a loop: nothing is waited for."""
    try:
        work.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    raise AssertionError("it waits")


def _credentials(password: bytes) -> Credentials:
    return Credentials("c1", "bob", password, "10.0.0.1", "tcp")


def _sign(header: bytes, payload: bytes) -> bytes:
    signed = _part(header) + b"." + _part(payload)
    return signed + b"." + _part(hmac.digest(_SECRET, signed, "sha256"))


def _part(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


_HEADER: Final = b'{"alg":"HS256","kid":"h"}'
_FILES: Final = _Files()

TOKEN_TARGETS: Final[dict[bytes, Callable[[int, bytes, bytes], None]]] = {
    b"J": _token,
    b"S": _signed,
    b"K": _keys,
    b"H": _answer,
}


def token_seeds() -> list[bytes]:
    """Without what is varied: letter, mode, and the bytes."""
    claims = {"sub": "ann", "exp": _END}
    many = claims | {"groups": ["x"], "client_id": "c*", "acl": {"publish": ["a/%u"], "subscribe": ["b/#"]}}
    listed = claims | {"acl": [{"permission": "deny", "action": "all", "topic": "a/${username}/#"}]}
    payloads = [
        json.dumps(each).encode() for each in (claims, many, listed, claims | {"aud": ["mqtt"], "nbf": 1})
    ]
    headers = [_HEADER, b'{"alg":"none"}', b'{"alg":"HS256","kid":"e","crit":["b64"],"b64":false,"jku":"x"}']
    jwk = b'{"kty":"EC","crv":"P-256","kid":"k","x":"AAAA","y":"AAAA","alg":"ES256","use":"sig"}'
    secret = b'{"kty":"oct","alg":"HS256","k":"%s"}' % _part(_SECRET)
    table = b'[[keys]]\nkid = "a"\nalgorithm = "%s"\n%s = "%s"\n'
    answers = [b'{"result":"%s","expire_at":%d}' % (each, _END) for each in (b"allow", b"deny", b"ignore")]
    answer = {
        "result": "allow",
        "username": "u",
        "groups": ["g"],
        "is_superuser": False,
        "acl": listed["acl"],
    }
    return [
        *(b"J\0" + _sign(header, payload) for header in headers for payload in payloads[:2]),
        *(b"S\0" + payload for payload in payloads),
        b"S\2" + payloads[3],
        *(b"S\1" + header + b"\0" + payloads[0] for header in headers),
        *(
            b"K" + mode + b'{"keys":[' + keys + b"]}"
            for mode in (b"\0", b"\1", b"\2")
            for keys in (jwk, secret)
        ),
        b"K\2" + table % (b"HS256", b"secret_file", b"s") + table % (b"ES256", b"public_key_file", b"p"),
        *(b"H\0" + each for each in (*answers, json.dumps(answer).encode())),
    ]
