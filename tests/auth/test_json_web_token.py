"""Tokens: which are taken, whom they make of a client, and what can't be done with them."""

import asyncio
import base64
import hmac
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.auth import Access, Action, Credentials, Decision, Denied, Identity, Verdict
from broker.auth.json_web_token import JsonWebTokens
from broker.auth.key_set import KeySet, parse_jwks, read_keys
from broker.mqtt import ReasonCode
from broker.observability.metrics import Tally

SECRET = b"0123456789abcdef0123456789abcdef" * 2
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
BAD = Denied(ReasonCode.BAD_USER_NAME_OR_PASSWORD)
FUTURE = int(time.time()) + 3600


def _public(key: "rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey") -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _jwk(kid: str, key: "rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey") -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
    made: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    return made | {"kid": kid}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys")
    (directory / "secret").write_bytes(SECRET + b"\n")
    (directory / "rsa.pem").write_bytes(_public(RSA))
    (directory / "ec.pem").write_bytes(_public(EC))
    file = directory / "keys.toml"
    file.write_text(
        """
        [[keys]]
        kid = "h"
        algorithm = "HS256"
        secret_file = "secret"
        [[keys]]
        kid = "r"
        algorithm = "RS256"
        public_key_file = "rsa.pem"
        [[keys]]
        kid = "e"
        algorithm = "ES256"
        public_key_file = "ec.pem"
        """
    )
    return file


def _tokens(keys: KeySet, issuer: str | None = None, audience: str | None = None) -> JsonWebTokens:
    return JsonWebTokens(keys, issuer=issuer, audience=audience, username_claim="sub", leeway_seconds=0)


def _ask(tokens: JsonWebTokens, token: str | bytes | None, client_id: str = "c1") -> Verdict:
    password = token.encode() if isinstance(token, str) else token
    return asyncio.run(tokens.authenticate(Credentials(client_id, "any", password, "", "tcp")))


def _sign(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", kid: str | None = "h") -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode({"sub": "ann", "exp": FUTURE} | claims, key, algorithm, headers)


@pytest.fixture
def tokens(file: Path) -> JsonWebTokens:
    return _tokens(KeySet(read_keys(file), None, 300, Tally()))


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(SECRET, "HS256", "h"), (RSA, "RS256", "r"), (EC, "ES256", "e")]
)
def test_who_a_token_is_for(tokens: JsonWebTokens, key: Any, algorithm: str, kid: str) -> None:
    identity = _ask(tokens, _sign({"groups": ["staff"]}, key, algorithm, kid))
    assert identity == Identity("ann", frozenset({"staff"}), None, float(FUTURE), "jwt")


def test_what_a_token_allows(tokens: JsonWebTokens) -> None:
    acl = {"publish": ["out/%c"], "subscribe": ["in/%u/#"]}
    identity = _ask(tokens, _sign({"acl": acl, "client_id": "c*"}))
    assert isinstance(identity, Identity)
    assert identity.rules is not None
    for action, topic, expected in (
        (Action.PUBLISH, "out/c1", Decision.ALLOW),
        (Action.PUBLISH, "in/ann/x", Decision.NO_OPINION),
        (Action.SUBSCRIBE, "in/ann/#", Decision.ALLOW),
        (Action.SUBSCRIBE, "in/#", Decision.NO_OPINION),
    ):
        assert identity.rules.decide(Access(identity, "c1", "", action, topic)) is expected


def _without_signature(claims: dict[str, Any]) -> str:
    parts = [{"alg": "none", "typ": "JWT", "kid": "h"}, {"sub": "ann", "exp": FUTURE} | claims]
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in parts)
        + "."
    )


def _confused() -> str:
    """Signed with the public key of another, as if it were a secret: PyJWT refuses to make such a token."""
    head, body, _ = _sign({}, SECRET, "HS256", "r").split(".")
    signed = f"{head}.{body}".encode()
    signature = base64.urlsafe_b64encode(hmac.digest(_public(RSA), signed, "sha256")).rstrip(b"=")
    return f"{head}.{body}.{signature.decode()}"


def _deep() -> str:
    return jwt.PyJWS().encode(b"[" * 5000 + b"]" * 5000, SECRET, "HS256", {"kid": "h"})


NOT_TAKEN: Sequence[tuple[str, Callable[[], str]]] = [
    ("expired", lambda: _sign({"exp": int(time.time()) - 1})),
    ("not yet", lambda: _sign({"nbf": FUTURE})),
    ("other secret", lambda: _sign({}, b"x" * 32)),
    ("unsigned", lambda: _without_signature({})),
    ("public key as a secret", _confused),
    ("another algorithm", lambda: _sign({}, SECRET, "HS512")),
    ("key of another algorithm", lambda: _sign({}, EC, "ES256", "r")),
    ("unknown key", lambda: _sign({}, kid="?")),
    ("no key", lambda: _sign({}, kid=None)),
    ("no user", lambda: _sign({"sub": None})),
    ("user is a number", lambda: _sign({"sub": 5})),
    ("user is empty", lambda: _sign({"sub": ""})),
    ("audience", lambda: _sign({"aud": "others"})),
    ("groups", lambda: _sign({"groups": "staff"})),
    ("client id is no text", lambda: _sign({"client_id": 5})),
    ("acl is no table", lambda: _sign({"acl": "#"})),
    ("acl has no filters", lambda: _sign({"acl": {"publish": "#"}})),
    ("acl has a bad filter", lambda: _sign({"acl": {"publish": ["a#"]}})),
    ("acl has more", lambda: _sign({"acl": {"all": ["#"]}})),
    ("infinite", lambda: _sign({"exp": float("inf")})),
    ("too long", lambda: _sign({"x": "x" * 20_000})),
    ("deep", _deep),
    ("cut", lambda: _sign({})[:-10]),
]


@pytest.mark.parametrize("make", [make for _, make in NOT_TAKEN], ids=[name for name, _ in NOT_TAKEN])
def test_tokens_that_are_not_taken(tokens: JsonWebTokens, make: Callable[[], str]) -> None:
    assert _ask(tokens, make()) == BAD


def test_a_token_without_an_end_is_not_taken(tokens: JsonWebTokens) -> None:
    assert _ask(tokens, jwt.encode({"sub": "ann"}, SECRET, "HS256", {"kid": "h"})) == BAD


def test_a_token_for_another_client(tokens: JsonWebTokens) -> None:
    token = _sign({"client_id": "sensor-*"})
    assert isinstance(_ask(tokens, token, "sensor-1"), Identity)
    assert _ask(tokens, token, "other") == Denied(ReasonCode.NOT_AUTHORIZED)


def test_issuer_and_audience(file: Path) -> None:
    asked = _tokens(KeySet(read_keys(file), None, 300, Tally()), "us", "mqtt")
    assert isinstance(_ask(asked, _sign({"iss": "us", "aud": ["mqtt", "x"]})), Identity)
    for claims in ({"iss": "us"}, {"aud": "mqtt"}, {"iss": "them", "aud": "mqtt"}):
        assert _ask(asked, _sign(claims)) == BAD


@pytest.mark.parametrize("password", [None, b"", b"secret", b"eyJ", b"a.b.c"])
def test_what_is_no_token_is_for_others(tokens: JsonWebTokens, password: bytes | None) -> None:
    assert _ask(tokens, password) is None


@given(st.lists(st.binary(max_size=40), min_size=3, max_size=3), st.booleans())
@settings(max_examples=200, deadline=None)
def test_whatever_the_bytes_it_is_an_answer(parts: list[bytes], is_encoded: bool) -> None:
    keys = KeySet(parse_jwks(json.dumps({"keys": [_jwk("e", EC)]}), allows_secrets=False), None, 300, Tally())
    if is_encoded:
        parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts]
    assert _ask(_tokens(keys), b"eyJ" + b".".join(parts)) in (BAD, None)


class _Site(http.server.ThreadingHTTPServer):
    """Serves one document, and counts how often."""

    document: bytes = b""
    count = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Site

    def do_GET(self) -> None:
        self.server.count += 1
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/keys")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.document)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def site() -> Iterator[_Site]:
    with _Site(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_keys_of_a_url_change(site: _Site) -> None:
    """A key that nobody knows is looked for, but not by each token; a withdrawn one goes with the next
    reading; a document with mistakes changes nothing."""
    now = [100.0]
    reloads = Tally()
    keys = KeySet((), f"http://127.0.0.1:{site.server_port}/keys", 300, reloads, lambda: now[0])
    asked = _tokens(keys)

    async def ask(token: str) -> Verdict:
        return await asked.authenticate(Credentials("c", None, token.encode(), "", "tcp"))

    async def run() -> None:
        site.document = json.dumps({"keys": [_jwk("r", RSA)]}).encode()
        old, new = _sign({}, RSA, "RS256", "r"), _sign({}, EC, "ES256", "e")
        verdicts = await asyncio.gather(*(ask(old) for _ in range(5)))
        assert all(isinstance(verdict, Identity) for verdict in verdicts)
        assert site.count == 1
        site.document = json.dumps({"keys": [_jwk("e", EC)]}).encode()
        assert [await ask(new) for _ in range(3)] == [BAD] * 3
        assert site.count == 1
        now[0] += 11
        assert isinstance(await ask(new), Identity)
        assert site.count == 2
        assert await ask(old) == BAD
        site.document = json.dumps({"keys": [{"kty": "oct", "k": "AAAA"}]}).encode()
        now[0] += 11
        assert await ask(old) == BAD
        assert isinstance(await ask(new), Identity)
        assert (reloads["jwt_keys_url"], reloads["jwt_keys_url_refused"]) == (2, 1)

    asyncio.run(run())


@pytest.mark.parametrize("path", ["moved", "large"])
def test_a_url_that_does_not_answer_as_it_should(site: _Site, path: str) -> None:
    site.document = b"x" * ((1 << 20) + 1)
    reloads = Tally()
    keys = KeySet((), f"http://127.0.0.1:{site.server_port}/{path}", 300, reloads)
    assert _ask(_tokens(keys), _sign({}, RSA, "RS256", "r")) == BAD
    assert (site.count, reloads["jwt_keys_url_refused"]) == (1, 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "keys: Field required"),
        ("keys = []", "keys: "),
        ("[[keys]]\nalgorithm = 'none'\nsecret_file = 'secret'", "keys.0.algorithm: "),
        ("[[keys]]\nalgorithm = 'HS256'\npublic_key_file = 'rsa.pem'", "has a secret_file, and nothing else"),
        ("[[keys]]\nalgorithm = 'RS256'\nsecret_file = 'secret'", "has a public_key_file, and nothing else"),
        ("[[keys]]\nalgorithm = 'RS256'\npublic_key_file = 'ec.pem'", "not a key for RS256"),
        ("[[keys]]\nalgorithm = 'HS256'\nsecret_file = 'rsa.pem'", "not a key for HS256"),
        ("[[keys]]\nalgorithm = 'HS256'\nsecret_file = 'short'", "can be guessed"),
        ("[[keys]]\nalgorithm = 'HS256'\nsecret_file = 'nothing'", "No such file"),
        ("[[keys]]\nalgorithm = 'RS256'\npublic_key_file = 'rsa.pem'\n" * 2, "two keys have the same kid"),
        ('{"keys": []}', "no JWKS"),
        ('{"keys": [5]}', "keys.0: not a key"),
        ('{"keys": [{"kty": "RSA"}]}', "keys.0: not a key for RS256"),
        ('{"keys": [{"kty": "RSA", "alg": "HS256", "n": "x", "e": "AQAB"}]}', "known here"),
        ('{"keys": [{"kty": "oct", "alg": "HS256", "k": "AAAA"}]}', "can be guessed"),
        ('{"keys": [{"use": "enc"}]}', "no key for signatures"),
        ("{", "keys.txt: "),
    ],
)
def test_mistakes_in_a_file(file: Path, text: str, reason: str) -> None:
    (file.parent / "short").write_text("short")
    other = file.parent / "keys.txt"
    other.write_text(text)
    with pytest.raises(ValueError, match=r".") as caught:
        read_keys(other)
    assert reason in str(caught.value)


def test_a_private_key_is_no_public_one(file: Path) -> None:
    pem = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (file.parent / "private.pem").write_bytes(pem)
    other = file.parent / "private.toml"
    other.write_text("[[keys]]\nalgorithm = 'RS256'\npublic_key_file = 'private.pem'")
    assert read_keys(other)[0].algorithm == "RS256"
