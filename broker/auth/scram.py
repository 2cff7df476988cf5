"""SCRAM-SHA-256 [RFC 5802, RFC 7677] as an Authentication Method: the client proves that it knows the
password, and the server that it knows the keys made of it; neither is sent.

    client  n,,n=ann,r=<nonce>                           with CONNECT, or the AUTH that begins again
    server  r=<nonce, and ours>,s=<salt>,i=<iterations>
    client  c=biws,r=<both nonces>,p=<proof>
    server  v=<signature>                                with CONNACK, or the AUTH that ends it

All of it is some hashes of short texts, less than 0.1 ms, so it is done on the event loop; the iterations are
the client's. Who asks for a user that there isn't gets the salt of one that is made of the name, the same
each time and from each node, and fails with the proof, as with a wrong password.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from broker.auth.enhanced import Continue, Exchange, Failure, Outcome, Success
from broker.auth.saslprep import saslprep
from broker.auth.scram_keys import METHOD, SALT_BYTES
from broker.auth.user import NAME_LENGTH, ScramKeys, StoredUser, is_user_name
from broker.errors import MoorlineError
from broker.mqtt import ReasonCode

_NONCE_BYTES: Final = 18
_MESSAGE_BYTES: Final = 4096
_NONCE_LENGTH: Final = 256

# [RFC 5802: 7]. What comes behind these attributes is for extensions, which we may leave aside.
_FIRST: Final = re.compile(
    r"(?P<gs2>(?P<binding>n|y|p=[A-Za-z0-9.-]+),(?:a=(?P<authzid>[^,\0]+))?,)"
    r"(?P<bare>(?P<mandatory>m=[^,\0]*,)?n=(?P<name>[^,\0]+),r=(?P<nonce>[!-+\--~]+)(?:,[A-Za-z]=[^,\0]+)*)"
)
_FINAL: Final = re.compile(
    r"(?P<unsigned>c=(?P<channel>[A-Za-z0-9+/=]+),r=(?P<nonce>[!-+\--~]+)(?:,[A-Za-z]=[^,\0]+)*)"
    r",p=(?P<proof>[A-Za-z0-9+/=]+)"
)
_NAME_ESCAPE: Final = re.compile(r"=(2C|3D)?")

Find = Callable[[str], Awaitable[StoredUser | None]]
"""A user by its name. Raises MoorlineError if that can't be known now."""


class ScramError(Exception):
    """The exchange has failed; the text is a `server-error-value` [RFC 5802: 7], which the client is told."""


@dataclass(frozen=True, slots=True)
class Found:
    """A user, and what an identity of it has as its `source`."""

    stored: StoredUser
    source: str


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """What the client begins with. `name` is prepared; `gs2_header` and `bare` as they came."""

    gs2_header: str
    bare: str
    name: str
    nonce: str


@dataclass(frozen=True, slots=True)
class ClientFinal:
    """What it ends with. `unsigned`: without the proof."""

    unsigned: str
    channel_binding: bytes
    nonce: str
    proof: bytes


def parse_client_first(data: bytes) -> ClientFirst:
    """Raises ScramError."""
    found = _FIRST.fullmatch(_text(data))
    if found is None:
        raise ScramError("other-error")
    if found["binding"].startswith("p="):
        raise ScramError("channel-binding-not-supported")
    if found["mandatory"]:
        raise ScramError("extensions-not-supported")
    if len(found["nonce"]) > _NONCE_LENGTH:
        raise ScramError("other-error")
    name = _name(found["name"])
    if found["authzid"] is not None and _name(found["authzid"]) != name:
        raise ScramError("other-error")  # nobody may act for somebody else
    return ClientFirst(found["gs2"], found["bare"], name, found["nonce"])


def parse_client_final(data: bytes) -> ClientFinal:
    """Raises ScramError."""
    found = _FINAL.fullmatch(_text(data))
    if found is None:
        raise ScramError("other-error")
    return ClientFinal(
        found["unsigned"], _decoded(found["channel"]), found["nonce"], _decoded(found["proof"])
    )


@dataclass(frozen=True, slots=True)
class ScramSource:
    """Some who may come in. `name`: of the authenticator that asks them for their passwords. `iterations`: of
    the keys that they have, as far as that is known."""

    name: str
    find: Find
    iterations: Callable[[], int | None]

    @property
    def identity_source(self) -> str:
        """Of who has come in by these keys."""
        return f"{METHOD} {self.name}"


class ScramSha256:
    """The Authentication Method. The first of the `sources` that has a user decides, be it that the user has
    no keys there. `secret` makes what is said of users that there aren't; they have the iterations of the
    first source that knows them, or these."""

    def __init__(self, sources: Sequence[ScramSource], secret: Callable[[], bytes], iterations: int) -> None:
        self._sources = sources
        self._secret = secret
        self._iterations = iterations

    def begin(self, client_id: str, username: str | None) -> Exchange:
        """The User Name of the CONNECT says nothing: that in the exchange counts."""
        return ScramExchange(self._find, self._decoy)

    async def _find(self, name: str) -> Found | None:
        for source in self._sources:
            user = await source.find(name)
            if user is not None:
                return Found(user, source.identity_source)
        return None

    def _decoy(self, name: str) -> ScramKeys:
        def made(purpose: bytes) -> bytes:
            return _hmac(self._secret(), purpose + b"\0" + name.encode())

        known = (source.iterations() for source in self._sources)
        iterations = next((each for each in known if each is not None), self._iterations)
        return ScramKeys(iterations, made(b"salt")[:SALT_BYTES], made(b"stored"), made(b"server"))


class ScramExchange:
    """One authentication. `decoy` makes keys for users that can't come in."""

    def __init__(
        self,
        find: Callable[[str], Awaitable[Found | None]],
        decoy: Callable[[str], ScramKeys],
        nonce: Callable[[], str] = lambda: secrets.token_urlsafe(_NONCE_BYTES),
    ) -> None:
        self._find = find
        self._decoy = decoy
        self._nonce = nonce
        self._first: ClientFirst | None = None
        self._server_first = ""
        self._asked: Found | None = None
        self._keys: ScramKeys | None = None

    async def step(self, client_data: bytes | None) -> Outcome:
        try:
            if self._first is None or self._keys is None:
                return await self._begin(parse_client_first(client_data or b""))
            return await self._end(self._first, self._keys, parse_client_final(client_data or b""))
        except ScramError as error:
            return self._failure(f"e={error}", ReasonCode.NOT_AUTHORIZED)
        except MoorlineError:  # the log says why, once for all clients
            return self._failure("users can't be looked up now", ReasonCode.SERVER_UNAVAILABLE)

    async def _begin(self, first: ClientFirst) -> Outcome:
        self._first = first
        found = await self._find(first.name) if is_user_name(first.name) else None
        keys = self._decoy(first.name)  # for everybody, as it takes its time
        if found is not None and found.stored.user.scram is not None:
            self._asked, keys = found, found.stored.user.scram
        self._keys = keys
        salt = base64.b64encode(keys.salt).decode()
        self._server_first = f"r={first.nonce}{self._nonce()},s={salt},i={keys.iterations}"
        return Continue(self._server_first.encode(), first.name)

    async def _end(self, first: ClientFirst, keys: ScramKeys, final: ClientFinal) -> Outcome:
        if final.channel_binding != first.gs2_header.encode():
            raise ScramError("channel-bindings-dont-match")
        if final.nonce != self._server_first[2:].partition(",")[0]:
            raise ScramError("other-error")
        signed = f"{first.bare},{self._server_first},{final.unsigned}".encode()
        is_right = _proves(final.proof, keys.stored_key, signed)
        now = await self._find(first.name) if is_right else None
        asked = self._asked
        if asked is None or not asked.stored.user.is_enabled or now != asked:
            return self._failure("e=invalid-proof", ReasonCode.BAD_USER_NAME_OR_PASSWORD)
        verifier = base64.b64encode(_hmac(keys.server_key, signed))
        return Success(asked.stored.name, b"v=" + verifier, asked.stored.identity(asked.source))

    def _failure(self, reason: str, reason_code: ReasonCode) -> Failure:
        return Failure(reason, reason_code, self._first.name if self._first is not None else None)


def _proves(proof: bytes, stored_key: bytes, signed: bytes) -> bool:
    signature = _hmac(stored_key, signed)
    if len(proof) != len(signature):
        return False
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored_key)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _text(data: bytes) -> str:
    if len(data) > _MESSAGE_BYTES:
        raise ScramError("other-error")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ScramError("invalid-encoding") from None


def _name(escaped: str) -> str:
    def unescaped(found: re.Match[str]) -> str:
        if found[1] is None:
            raise ScramError("invalid-username-encoding")
        return "," if found[1] == "2C" else "="

    plain = _NAME_ESCAPE.sub(unescaped, escaped)
    if len(plain) > NAME_LENGTH:  # there is no such user, and to prepare it would take milliseconds
        raise ScramError("other-error")
    try:
        name = saslprep(plain)
    except ValueError:
        raise ScramError("invalid-username-encoding") from None
    if not name:  # nothing was left of it
        raise ScramError("invalid-username-encoding")
    return name


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ScramError("invalid-encoding") from None
