"""An HTTP server that a webhook posts to, in a thread of its own; it answers what a test wants, may be slow,
or away."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Posted:
    """One request and what it was answered."""

    key: str | None
    headers: dict[str, str]
    document: dict[str, Any]
    status: int


def _ok(_: dict[str, Any]) -> int:
    return 200


class Hook:
    """Keeps its port when it is away."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.posted: list[Posted] = []
        self.answer: Callable[[dict[str, Any]], int] = _ok
        self.delay_seconds = 0.0
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self._open: set[socket.socket] = set()
        self.come()

    def reset(self) -> None:
        """As it was in the beginning."""
        self.posted.clear()
        self.answer = _ok
        self.delay_seconds = 0.0
        self.come()

    @property
    def url(self) -> str:
        """Where messages are posted to."""
        scheme = "http" if self._context is None else "https"
        return f"{scheme}://localhost:{self.port}/hook"

    def come(self) -> None:
        """It answers, if it does not."""
        if self._server is not None:
            return
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                self.request.settimeout(10.0)
                super().setup()
                hook._open.add(self.connection)

            def finish(self) -> None:
                hook._open.discard(self.connection)
                with contextlib.suppress(OSError):  # as nobody reads any more
                    super().finish()

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError, ssl.SSLError):  # it went, or does not trust us
                    super().handle()

            def do_POST(self) -> None:
                document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(hook.delay_seconds)
                status = hook.answer(document)
                key = self.headers["Idempotency-Key"]
                hook.posted.append(Posted(key, dict(self.headers), document, status))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nowhere."""

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        if self._context is not None:
            listening = self._server.socket
            self._server.socket = self._context.wrap_socket(
                listening, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def go(self) -> None:
        """Nobody listens there any more."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            for connection in list(self._open):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def taken(self) -> list[Posted]:
        """What it has said yes to."""
        return [posted for posted in self.posted if posted.status == 200]

    def wait_for(self, count: int, seconds: float = 10.0) -> list[Posted]:
        """Waits until so many different messages were taken; all that were."""
        self.wait_until(lambda: len({posted.key for posted in self.taken()}) >= count, seconds)
        return self.taken()

    def wait_until(self, holds: Callable[[], bool], seconds: float = 10.0) -> None:
        """Waits for something about what has been posted."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"{len(self.taken())} were taken, last {self.posted[-1:]}"
            time.sleep(0.01)


@contextlib.contextmanager
def hooked(context: ssl.SSLContext | None = None) -> Iterator[Hook]:
    """A server that is there."""
    hook = Hook(context)
    try:
        yield hook
    finally:
        hook.go()
