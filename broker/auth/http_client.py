"""Posts JSON to one URL, by connections that are kept open. No redirects, no proxies, no cookies: where
passwords go is what the settings say, and nothing else.

h11 knows HTTP. What a client costs here counts when thousands come at once: a request takes a tenth of what
it takes with a library that does all the rest, too.
"""

import asyncio
import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Final, cast
from urllib.parse import urlsplit

import h11

from broker.auth.access import Unavailable
from broker.auth.remote import Unreachable
from broker.files import numbered_lines

_ANSWER_BYTES_MAXIMUM: Final = 65_536
_HEAD_BYTES_MAXIMUM: Final = 16_384
_IDLE_SECONDS: Final = 4.0  # less than servers wait, as a rule
_OK: Final = 200
_NO_CONTENT: Final = 204
_DOWN: Final = frozenset({429, 502, 503, 504})
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*)")
_OURS: Final = frozenset(
    {"host", "connection", "content-length", "content-type", "transfer-encoding", "accept"}
)
_HEADERS_MAXIMUM: Final = 50

Header = tuple[bytes, bytes]


class Closed(Exception):
    """The connection has ended before anything of an answer came."""


class HttpConnection(asyncio.Protocol):
    """One exchange after the other."""

    def __init__(self) -> None:
        self._wire = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES_MAXIMUM)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._has_begun = False
        self._status = 0
        self._body = bytearray()
        self.idle_since = 0.0

    async def exchange(self, request: h11.Request, document: bytes) -> tuple[int, bytes]:
        """Status and body. Raises Unavailable or Closed. Not to be used again if it raises anything."""
        assert self._transport is not None
        self._has_begun, self._status, self._body = False, 0, bytearray()
        self._answer = asyncio.get_running_loop().create_future()
        events = (request, h11.Data(data=document), h11.EndOfMessage())
        self._transport.write(b"".join(self._wire.send(event) or b"" for event in events))
        try:
            return await self._answer
        finally:
            self._answer = None

    @property
    def is_usable(self) -> bool:
        """Whether another exchange may follow."""
        assert self._transport is not None
        is_done = self._wire.our_state is h11.IDLE and not self._transport.is_closing()
        return is_done and monotonic() - self.idle_since < _IDLE_SECONDS

    def close(self) -> None:
        """At once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nothing was asked
            self.close()
        else:
            self._has_begun = True
            self._read(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            if self._has_begun:
                self._read(b"")  # the answer may end so
            else:
                self._fail(Closed())

    def _read(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()
            return
        try:
            self._wire.receive_data(data)
            while (event := self._wire.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    self._status = event.status_code
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > _ANSWER_BYTES_MAXIMUM:
                        self._fail(Unavailable(f"answered with more than {_ANSWER_BYTES_MAXIMUM} bytes"))
                        return
                elif isinstance(event, h11.EndOfMessage):
                    self._end()
                    return
                elif not isinstance(event, h11.InformationalResponse):
                    self._fail(Unreachable("closed the connection within its answer"))
                    return
        except h11.RemoteProtocolError:  # its text may have parts of the answer
            self._fail(Unreachable("answered what is not HTTP"))

    def _end(self) -> None:
        assert self._answer is not None
        if self._wire.their_state is h11.DONE and not self._wire.trailing_data[0]:
            self._wire.start_next_cycle()
            self.idle_since = monotonic()
        else:
            self.close()
        self._answer.set_result((self._status, bytes(self._body)))

    def _fail(self, error: Exception) -> None:
        self.close()
        assert self._answer is not None
        self._answer.set_exception(error)


class HttpClient:
    """For one URL. `headers` may be replaced. How many connections there are is the business of who asks."""

    def __init__(self, url: str, headers: Sequence[Header], context: ssl.SSLContext) -> None:
        parts = urlsplit(url)
        self.headers = headers
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._context = context if parts.scheme == "https" else None
        self._name = parts.netloc.encode()
        self._target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}".encode()
        self._idle: list[HttpConnection] = []

    async def post(self, document: bytes) -> bytes | None:
        """The answer with status 200; None with 204, which has none. Raises Unavailable."""
        status, body = await self.exchange(document)
        if status in _DOWN:
            raise Unreachable(f"answered with status {status}")
        if status not in (_OK, _NO_CONTENT):
            raise Unavailable(f"answered with status {status}")
        return body if status == _OK else None

    async def close(self) -> None:
        """Closes what is kept open."""
        while self._idle:
            self._idle.pop().close()

    async def exchange(self, document: bytes, headers: Sequence[Header] = ()) -> tuple[int, bytes]:
        """Status and body of whatever is answered. `headers` are of this request only. Raises
        Unavailable."""
        while self._idle:
            kept = self._idle.pop()
            if kept.is_usable:
                try:
                    return await self._exchange(kept, document, headers)
                except Closed:  # while the request was on its way, as servers do now and then
                    break
            kept.close()
        try:
            return await self._exchange(await self._connect(), document, headers)
        except Closed:
            raise Unreachable("closed the connection without an answer") from None

    async def _connect(self) -> HttpConnection:
        loop = asyncio.get_running_loop()
        try:
            _, made = await loop.create_connection(HttpConnection, self._host, self._port, ssl=self._context)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that can't be one
            raise Unreachable(f"no connection: {error}") from None
        return made

    async def _exchange(
        self, connection: HttpConnection, document: bytes, more: Sequence[Header]
    ) -> tuple[int, bytes]:
        headers = [
            (b"Host", self._name),
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(document)),
            (b"Accept", b"application/json"),
            *self.headers,
            *more,
        ]
        try:
            answer = await connection.exchange(
                h11.Request(method="POST", target=self._target, headers=headers), document
            )
        except BaseException:
            connection.close()
            raise
        if connection.is_usable:
            self._idle.append(connection)
        return answer


def read_headers(path: Path) -> Sequence[Header]:
    """The headers of a file, a line `Name: value` each. ValueError has a line for each mistake, and no
    value."""
    headers = []
    mistakes = []
    for number, line in numbered_lines(path):
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
