"""A server that takes spans (OTLP, JSON over HTTP), and fails as it is told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECONDS = 10.0


class Collector:
    """`spans` are those that were taken; `statuses` what the next requests are answered, then 200."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.resources: list[dict[str, object]] = []
        self.headers: list[dict[str, str]] = []
        self.statuses: list[int] = []
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def serve(self) -> None:
        """Until it is shut down."""
        self._server.serve_forever(0.05)

    def close(self) -> None:
        """No more."""
        self._server.shutdown()
        self._server.server_close()

    def take(self, headers: dict[str, str], content: bytes) -> int:
        """A request; the status of the answer."""
        with self._changed:
            self.headers.append(headers)
            self._changed.notify_all()
            if self.statuses:
                return self.statuses.pop(0)
            for each in json.loads(content)["resourceSpans"]:
                self.resources.append(plain(each["resource"]["attributes"]))
                self.spans += [span for scope in each["scopeSpans"] for span in scope["spans"]]
            self._changed.notify_all()
        return 200

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """It may look at what has come."""
        with self._changed:
            assert self._changed.wait_for(condition, SECONDS), self.spans

    def of(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of a trace, as they began."""
        found = [span for span in self.spans if span["traceId"] == trace_id]
        return sorted(found, key=lambda span: int(span["startTimeUnixNano"]))


def plain(attributes: list[dict[str, Any]]) -> dict[str, object]:
    """Attributes by name."""
    return {each["key"]: next(iter(each["value"].values())) for each in attributes}


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            status = collector.take({name.lower(): value for name, value in self.headers.items()}, content)
            self.send_response(status)
            if status == 307:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *_: object) -> None:
            """Nothing."""

    return Handler


@contextmanager
def collecting() -> Iterator[Collector]:
    """One that runs."""
    collector = Collector()
    thread = threading.Thread(target=collector.serve)
    thread.start()
    try:
        yield collector
    finally:
        collector.close()
        thread.join(SECONDS)
