"""A web server with an application's page and MQTT.js: at every name below `localhost`, each an origin of its
own. (Chromium keeps pages that come from nowhere, or from far away, off addresses of this machine.)"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import broker.admin

MODULE = Path(broker.admin.__file__).parent / "dashboard/vendor/mqtt.esm.js"
PAGE = b"<!doctype html><meta charset=utf-8><title>app</title><link rel=icon href=data:,>"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """The module, or the page."""
        is_module = self.path == "/mqtt.js"
        body = MODULE.read_bytes() if is_module else PAGE
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if is_module else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@contextmanager
def running_site() -> Iterator[int]:
    """Its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
