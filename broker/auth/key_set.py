"""The keys that tokens are checked with: from a file, or from a URL that is read again now and then.

Each key has one algorithm, and no token chooses another: neither `none`, nor a secret made of a public key. A
file is a JWKS, or TOML:

    [[keys]]
    kid = "2026"                # as in the header of tokens; without: for those that name no key
    algorithm = "ES256"
    public_key_file = "key.pem" # or secret_file, for HS256, HS384 and HS512; beside this file
"""

import json
import tomllib
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Final
from urllib.error import HTTPError

import anyio
import anyio.to_thread
import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.observability.logs import get_logger
from broker.observability.metrics import Tally

SYMMETRIC: Final = ("HS256", "HS384", "HS512")
ASYMMETRIC: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip

_OF_CURVE: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
_OF_TYPE: Final = {"RSA": "RS256", "oct": "HS256"}
_SECRET_BYTES_MINIMUM: Final = {"HS256": 32, "HS384": 48, "HS512": 64}  # [RFC 7518: 3.2]
_KEYS_MAXIMUM: Final = 100
_TOO_DEEP: Final = "nested too deeply"
_DOCUMENT_BYTES_MAXIMUM: Final = 1 << 20
_FETCH_SECONDS: Final = 4.0
_UNKNOWN_KEY_SECONDS: Final = 10.0  # between two readings as tokens name keys that nobody knows

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """One key, for one algorithm. `kid` None: for tokens that name none."""

    kid: str | None
    algorithm: str
    key: Any  # what PyJWT takes for this algorithm


def find_key(keys: Sequence[Key], kid: str | None) -> Key | None:
    """The one that a token names; if it names none, the one without a name, or the only one."""
    if kid is None and len(keys) == 1:
        return keys[0]
    return next((key for key in keys if key.kid == kid), None)


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kid: str | None = None
    algorithm: Annotated[str, Field(pattern="^(" + "|".join((*SYMMETRIC, *ASYMMETRIC)) + ")$")]
    public_key_file: Path | None = None
    secret_file: Path | None = None


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    keys: tuple[_Entry, ...] = Field(min_length=1, max_length=_KEYS_MAXIMUM)


def read_keys(path: Path) -> Sequence[Key]:
    """The keys of a file. ValueError has a line for each mistake, and no part of a key."""
    try:
        return _read_keys(path)
    except RecursionError:
        raise ValueError(f"{path}: {_TOO_DEEP}") from None


def _read_keys(path: Path) -> Sequence[Key]:
    try:
        text = path.read_text()
        if text.lstrip().startswith("{"):
            return parse_jwks(text, allows_secrets=True)
        table = _Table.model_validate(tomllib.loads(text))
        keys = [_key(entry, path.parent) for entry in table.keys]
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from None
    except ValidationError as error:
        mistakes = [
            f"{path}: {'.'.join(map(str, each['loc']))}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise ValueError("\n".join(mistakes)) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return _distinct(keys)


def parse_jwks(text: str | bytes, *, allows_secrets: bool) -> Sequence[Key]:
    """The keys of a JWKS that are for signatures. ValueError says what is wrong."""
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not listed or len(listed) > _KEYS_MAXIMUM:
        raise ValueError(f"no JWKS with 1 to {_KEYS_MAXIMUM} keys")
    keys = []
    for number, each in enumerate(listed):
        if not isinstance(each, dict):
            raise ValueError(f"keys.{number}: not a key")
        if each.get("use", "sig") == "sig":
            keys.append(_from_jwk(number, each, allows_secrets))
    return _distinct(keys)


def _from_jwk(number: int, jwk: dict[str, Any], allows_secrets: bool) -> Key:
    names = [jwk.get(field) or "" for field in ("alg", "crv", "kty")]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"keys.{number}: alg, crv or kty is not a text")
    algorithm = names[0] or _OF_CURVE.get(names[1]) or _OF_TYPE.get(names[2])
    is_secret = jwk.get("kty") == "oct"
    if algorithm is None or algorithm not in (SYMMETRIC if is_secret else ASYMMETRIC):
        raise ValueError(f"keys.{number}: not a key for an algorithm that is known here")
    if is_secret and not allows_secrets:
        raise ValueError(f"keys.{number}: a secret has no place where others can read it")
    kid = jwk.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise ValueError(f"keys.{number}: kid is not a text")
    try:
        key = jwt.PyJWK({**jwk, "alg": algorithm}).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        raise ValueError(f"keys.{number}: not a key for {algorithm}") from None
    if is_secret:
        _check_secret(algorithm, key)
    return Key(kid, algorithm, key)


def _key(entry: _Entry, directory: Path) -> Key:
    is_symmetric = entry.algorithm in SYMMETRIC
    file = entry.secret_file if is_symmetric else entry.public_key_file
    if file is None or (entry.secret_file is not None and entry.public_key_file is not None):
        wanted = "secret_file" if is_symmetric else "public_key_file"
        raise ValueError(f"a key for {entry.algorithm} has a {wanted}, and nothing else")
    data = (directory / file).read_bytes()
    if is_symmetric:
        data = data.strip()
        _check_secret(entry.algorithm, data)
    try:
        key = jwt.get_algorithm_by_name(entry.algorithm).prepare_key(data)
    except (jwt.PyJWTError, ValueError, TypeError):
        raise ValueError(f"{file}: not a key for {entry.algorithm}") from None
    return Key(entry.kid, entry.algorithm, key)


def _check_secret(algorithm: str, secret: bytes) -> None:
    if len(secret) < _SECRET_BYTES_MINIMUM[algorithm]:
        raise ValueError(f"a secret of less than {_SECRET_BYTES_MINIMUM[algorithm]} bytes can be guessed")


def _distinct(keys: Sequence[Key]) -> Sequence[Key]:
    if not keys:
        raise ValueError("no key for signatures")
    if len({key.kid for key in keys}) < len(keys):
        raise ValueError("two keys have the same kid, or none")
    return keys


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Where keys are to be found is what the settings say."""

    def redirect_request(self, *_: object) -> None:
        """None: the answer is an error."""


def fetch(url: str) -> bytes:
    """The document at `url`. Raises OSError or ValueError; takes its time, so not in the event loop."""
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(url, timeout=_FETCH_SECONDS) as answer:
            document: bytes = answer.read(_DOCUMENT_BYTES_MAXIMUM + 1)
    except HTTPError as error:  # it is the answer, too
        error.close()
        raise
    except HTTPException as error:
        raise ValueError(f"not an answer of HTTP: {error!r}") from None
    if len(document) > _DOCUMENT_BYTES_MAXIMUM:
        raise ValueError(f"more than {_DOCUMENT_BYTES_MAXIMUM} bytes")
    return document


class KeySet:
    """Keys of both kinds of sources, the newest that are known."""

    def __init__(
        self,
        file_keys: Sequence[Key],
        url: str | None,
        refresh_seconds: float,
        reloads: Tally,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._file_keys = file_keys
        self._url = url
        self._url_keys: Sequence[Key] = ()
        self._refresh_seconds = refresh_seconds
        self._reloads = reloads
        self._clock = clock
        self._fetched_at = float("-inf")
        self._lock = anyio.Lock()
        self._changed = anyio.Event()

    def replace_file_keys(self, keys: Sequence[Key]) -> None:
        """Those of the file are others now."""
        self._file_keys = keys
        self._changed.set()

    def has(self, key: object) -> bool:
        """Whether it has not been withdrawn."""
        return key in self._file_keys or key in self._url_keys

    async def until_changed(self) -> None:
        """Waits until there are others. For one that asks at a time."""
        await self._changed.wait()
        self._changed = anyio.Event()

    async def find(self, kid: str | None) -> Key | None:
        """The key that a token names. One that nobody knows may be new: then the URL is read again, but not
        for each token that says so."""
        key = self._known(kid)
        if key is None and self._url is not None and self._is_time(_UNKNOWN_KEY_SECONDS):
            async with self._lock:
                if self._is_time(_UNKNOWN_KEY_SECONDS):
                    await self._refresh(self._url)
            key = self._known(kid)
        return key

    async def run(self) -> None:
        """Reads the URL now and then, for ever."""
        while self._url is not None:
            async with self._lock:
                await self._refresh(self._url)
            await anyio.sleep(self._refresh_seconds)

    def _known(self, kid: str | None) -> Key | None:
        return find_key([*self._file_keys, *self._url_keys], kid)

    def _is_time(self, seconds: float) -> bool:
        return self._clock() - self._fetched_at >= seconds

    async def _refresh(self, url: str) -> None:
        self._fetched_at = self._clock()
        try:
            document = await anyio.to_thread.run_sync(fetch, url, abandon_on_cancel=True)
            keys = parse_jwks(document, allows_secrets=False)
        except (OSError, ValueError) as error:
            self._reloads.add("jwt_keys_url_refused")
            logger.error("no keys for tokens, those before hold: %s", error)
        else:
            self._reloads.add("jwt_keys_url")
            if keys != self._url_keys:
                self._url_keys = keys
                self._changed.set()
