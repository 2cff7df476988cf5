"""Tokens that somebody made to get in, or to make the node fail. None does either."""

import base64
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.auth import Credentials, Denied, Identity, Verdict
from broker.auth.json_web_token import JsonWebTokens
from broker.auth.key_set import Key, KeySet, parse_jwks
from broker.mqtt import ReasonCode
from broker.observability.metrics import Tally

SECRET = b"0123456789abcdef" * 4
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
BAD = Denied(ReasonCode.BAD_USER_NAME_OR_PASSWORD)
FUTURE = int(time.time()) + 3600
KEYS = (
    Key("h", "HS256", SECRET),
    Key("r", "RS256", RSA.public_key()),
    Key("e", "ES256", EC.public_key()),
    Key(None, "HS512", SECRET),
)
TOKENS = JsonWebTokens(
    KeySet(KEYS, None, 300, Tally()), issuer=None, audience=None, username_claim="sub", leeway_seconds=0
)


def _ask(token: bytes) -> Verdict:
    work = TOKENS.authenticate(Credentials("c1", "any", token, "", "tcp"))
    with pytest.raises(StopIteration) as end:
        work.send(None)  # nothing is waited for
    verdict: Verdict = end.value.value
    return verdict


def _part(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _signed(header: bytes, payload: bytes, secret: bytes = SECRET, digest: str = "sha256") -> bytes:
    """As whoever has the secret could, whatever a library thinks of it."""
    signed = _part(header) + b"." + _part(payload)
    return signed + b"." + _part(hmac.digest(secret, signed, digest))


def _header(**more: object) -> bytes:
    return json.dumps({"alg": "HS256", "kid": "h"} | more).encode()


def _claims(**more: object) -> bytes:
    return json.dumps({"sub": "ann", "exp": FUTURE} | more).encode()


def test_a_good_one_is_taken() -> None:
    assert _ask(_signed(_header(), _claims())) == Identity("ann", deadline=float(FUTURE), source="jwt")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 0, [], ["HS256"], {}])
@pytest.mark.parametrize("kid", ["h", "r", None])
def test_no_token_chooses_its_algorithm(algorithm: object, kid: str | None) -> None:
    header = json.dumps({"alg": algorithm} | ({} if kid is None else {"kid": kid})).encode()
    for token in (_signed(header, _claims()), _part(header) + b"." + _part(_claims()) + b"."):
        assert _ask(token) == BAD


@pytest.mark.parametrize("key", [RSA, EC])
@pytest.mark.parametrize("kid", ["r", "e", "h", None])
def test_a_public_key_is_no_secret(key: "rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey", kid: str) -> None:
    public = key.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, pem.strip(), pem.replace(b"\n", b"\r\n"), der, b""):
        for algorithm, digest in (("HS256", "sha256"), ("HS512", "sha512"), ("RS256", "sha256")):
            assert _ask(_signed(_header(alg=algorithm, kid=kid), _claims(), secret, digest)) == BAD


def test_a_key_that_a_token_brings_does_not_count() -> None:
    """`jwk`, and where to look for keys, are not looked at: the signature is checked with ours."""
    theirs = rsa.generate_private_key(65537, 2048)
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(theirs.public_key()))
    for more in (
        {"jwk": jwk},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/certificate"},
        {"x5c": ["AAAA"]},
    ):
        headers: dict[str, Any] = {"kid": "r"} | more
        token = jwt.encode({"sub": "ann", "exp": FUTURE}, theirs, "RS256", headers)
        assert _ask(token.encode()) == BAD
        token = jwt.encode({"sub": "ann", "exp": FUTURE}, RSA, "RS256", headers)
        assert isinstance(_ask(token.encode()), Identity)


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["exp"], "exp": FUTURE},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"crit": "b64"},
        {"b64": False},
        {"kid": 5},
        {"kid": ["h"]},
        {"kid": {}},
        {"kid": "../../../../dev/null"},
        {"kid": "h' OR '1'='1"},
        {"kid": "h\u0000"},
        {"kid": "\ud800"},
        {"kid": ""},
        {"kid": "k" * 8000},
        {"enc": "A256GCM", "alg": "RSA-OAEP"},
    ],
)
def test_headers(more: dict[str, object]) -> None:
    assert _ask(_signed(_header(**more), _claims())) == BAD


@pytest.mark.parametrize(
    "end",
    ["1", '"2030"', "null", "true", "[]", "{}", "NaN", "Infinity", "-Infinity", "1e400", "-5", "-1e308", "0",
     "9" * 400, '"9e9"', "9" * 5000],
)  # fmt: skip
def test_ends(end: str) -> None:
    assert _ask(_signed(_header(), b'{"sub": "ann", "exp": ' + end.encode() + b"}")) == BAD


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", '"x"', "[]", "9" * 400])
def test_beginnings(name: str, value: str) -> None:
    payload = b'{"sub": "ann", "exp": %d, "%s": %s}' % (FUTURE, name.encode(), value.encode())
    assert _ask(_signed(_header(), payload)) == BAD


def test_an_end_far_away_is_an_end() -> None:
    verdict = _ask(_signed(_header(), b'{"sub": "ann", "exp": 1e308}'))
    assert isinstance(verdict, Identity)
    assert verdict.deadline == 1e308


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [900, 2000])
def test_deep_ones(opening: bytes, depth: int) -> None:
    """The depth at which the parser gives up, and one that it takes: neither is claims."""
    nested = opening * depth + b"1" + (b"]" if opening == b"[" else b"}") * depth
    for token in (
        _signed(b'{"x": ' + nested + b"}", _claims()),
        _signed(_header(), nested),
        _signed(_header(), b'{"sub": ' + nested + b', "exp": %d}' % FUTURE),
        _signed(_header(), b'{"sub": "ann", "exp": %d, "acl": ' % FUTURE + nested + b"}"),
        _signed(b'{"alg": "HS256", "kid": ' + nested + b"}", _claims()),
    ):
        assert _ask(token) == BAD


def test_large_ones_are_not_looked_at() -> None:
    before = time.process_time()
    for token in (
        _signed(_header(x="x" * 65_536), _claims()),
        _signed(_header(), _claims(x="x" * 65_536)),
        b"eyJ" + b"A" * 65_536 + b"..",
        b"eyJ" + b"." * 65_536,
    ):
        assert _ask(token) in (BAD, None)
    assert time.process_time() - before < 1


@pytest.mark.parametrize("name", ["sub", "groups", "client_id", "acl"])
@pytest.mark.parametrize(
    "value", ["\ud800", ["\ud800"], 5, {}, [[]], True, {"publish": ["\ud800"]}, "a\ud800"]
)
def test_claims_that_are_no_texts(name: str, value: object) -> None:
    token = _signed(_header(), _claims(**{name: value}))
    verdict = _ask(token)
    if name == "acl" and value == {}:
        assert isinstance(verdict, Identity)  # nothing is allowed
    else:
        assert isinstance(verdict, Denied)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=5,
)
CLAIMS = st.dictionaries(
    st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "jti", "groups", "client_id", "acl"]), JSON
)
HEADERS = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jku", "jwk", "cty"]), JSON)


@given(HEADERS, CLAIMS, st.booleans())
@settings(max_examples=100, deadline=None)
def test_whatever_it_says_the_answer_is_one(
    header: dict[str, Any], claims: dict[str, Any], good: bool
) -> None:
    """With a good signature: what a mistaken issuer may write."""
    if good:
        header = {"alg": "HS256", "kid": "h"}
        claims = {"exp": FUTURE, "sub": "ann"} | claims
    token = _signed(json.dumps(header).encode(), json.dumps(claims).encode())
    verdict = _ask(token)
    if isinstance(verdict, Identity):
        assert verdict.deadline is not None
        assert (verdict.username or "").encode()
    else:  # what does not look like a token is for others
        assert isinstance(verdict, Denied) or not token.startswith(b"eyJ")


@given(
    st.dictionaries(st.sampled_from(["kty", "alg", "use", "kid", "crv", "n", "e", "x", "y", "k", "d"]), JSON)
)
@settings(max_examples=100, deadline=None)
def test_whatever_is_in_a_jwks(jwk: dict[str, Any]) -> None:
    try:
        keys = parse_jwks(json.dumps({"keys": [jwk]}), allows_secrets=True)
    except ValueError:
        return
    assert len(keys) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"keys": [' + '{"kty": ' * 5000 + "1" + "}" * 5000 + "]}",
        '{"keys": [{"kty": ["RSA"]}]}',
        '{"keys": [{"kty": "RSA", "crv": {}}]}',
        '{"keys": [{"kty": "RSA", "alg": ["RS256"]}]}',
        '{"keys": [{"kty": "RSA", "n": "AQAB", "e": ""}]}',
        '{"keys": [{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}]}',
        '{"keys": [{"kty": "EC", "crv": "P-256", "alg": "RS256", "x": "AAAA", "y": "AAAA"}]}',
        '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}',
        '{"keys": [{"kty": "RSA", "n": 5, "e": null}]}',
        '{"keys": [{"kty": "RSA", "use": [], "n": "x"}]}',
        '{"keys": ' + "9" * 5000 + "}",
    ],
)
def test_a_jwks_that_is_none(text: str) -> None:
    """From a URL: whatever comes, the keys before hold."""
    with pytest.raises(ValueError, match=r"."):
        parse_jwks(text, allows_secrets=False)
