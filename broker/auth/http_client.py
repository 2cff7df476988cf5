"""Posts JSON to one URL, by connections that are kept open. No redirects, no proxies, no cookies: where
passwords go is what the settings say, and nothing else.
"""

import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpcore

from broker.auth.access import Unavailable
from broker.auth.remote import Unreachable

_ANSWER_BYTES_MAXIMUM: Final = 65_536
_IDLE_SECONDS: Final = 4.0  # less than servers wait, as a rule
_DOWN: Final = frozenset({429, 502, 503, 504})
_LOST: Final = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)
"""A connection that was kept open too long, perhaps."""
_FAILURES: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*)")
_OURS: Final = frozenset(
    {"host", "connection", "content-length", "content-type", "transfer-encoding", "accept"}
)
_HEADERS_MAXIMUM: Final = 50

Header = tuple[bytes, bytes]

_OWN_HEADERS: Final = [
    (b"Content-Type", b"application/json"),
    (b"Accept", b"application/json"),
    (b"User-Agent", b"moorline"),
]


class HttpClient:
    """For one URL. `headers` may be replaced."""

    def __init__(
        self, url: str, headers: Sequence[Header], context: ssl.SSLContext, connections: int
    ) -> None:
        self.headers = headers
        self._url = httpcore.URL(url)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_IDLE_SECONDS,
        )

    async def post(self, document: bytes) -> bytes | None:
        """The answer with status 200; None with 204, which has none. Raises Unavailable."""
        try:
            try:
                status, body = await self._exchange(document)
            except _LOST:
                status, body = await self._exchange(document)
        except _FAILURES as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from None
        if status in _DOWN:
            raise Unreachable(f"answered with status {status}")
        if status == 204:
            return None
        if status != 200:
            raise Unavailable(f"answered with status {status}")
        return body

    async def close(self) -> None:
        """Closes what is kept open."""
        await self._pool.aclose()

    async def _exchange(self, document: bytes) -> tuple[int, bytes]:
        headers = [*_OWN_HEADERS, *self.headers]
        async with self._pool.stream("POST", self._url, headers=headers, content=document) as answer:
            body = bytearray()
            async for chunk in answer.aiter_stream():
                body += chunk
                if len(body) > _ANSWER_BYTES_MAXIMUM:
                    raise Unavailable(f"answered with more than {_ANSWER_BYTES_MAXIMUM} bytes")
            return answer.status, bytes(body)


def read_headers(path: Path) -> Sequence[Header]:
    """The headers of a file, a line `Name: value` each. ValueError has a line for each mistake, and no
    value."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8") from None
    headers = []
    mistakes = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _HEADER.fullmatch(line.rstrip())
        if found is None:
            mistakes.append(f"{path}, line {number}: not a header")
        elif found[1].lower() in _OURS:
            mistakes.append(f"{path}, line {number}: {found[1]} is set by the node")
        else:
            headers.append((found[1].encode(), found[2].encode()))
    if len(headers) > _HEADERS_MAXIMUM:
        mistakes.append(f"{path}: over {_HEADERS_MAXIMUM} headers")
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return headers
