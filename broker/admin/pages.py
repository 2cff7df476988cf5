"""The dashboard's files: a first page at `/`, and below `/dashboard/` what it is made of.

The first page is asked for anew each time; it names all else by a digest of everything, so that browsers may
keep that for ever and a new release is seen at once. While nodes of two releases are behind one address, a
file of the other release is answered with ours, not to be kept.

Files are read, and compressed in a thread, when they are first asked for.
"""

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from broker.admin.door import FILES

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
"""Content-Security-Policy: nothing from other hosts, nothing inline. `ws:` is for the MQTT client, which goes
to the listeners of any node."""

_FIRST: Final = "index.html"
_DIGEST_MARK: Final = b"{digest}"
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "json": "application/json",
}


@dataclass(frozen=True, slots=True)
class _File:
    """As it goes out: as it is, and smaller."""

    kind: str
    plain: bytes
    packed: bytes

    def answer(self, request: Request, **headers: str) -> Response:
        """Whichever the browser can read."""
        headers = {"Vary": "Accept-Encoding", **headers}
        content = self.plain
        if "gzip" in request.headers.get("accept-encoding", ""):
            content = self.packed
            headers["Content-Encoding"] = "gzip"
        return Response(content, headers=headers, media_type=self.kind)


class Pages:
    """Every file there is, by its path; there is no other way to a file."""

    def __init__(self) -> None:
        self._files = _all_below(files("broker.admin") / "dashboard")
        self._packed: dict[str, _File] = {}
        self.digest = ""
        """Of all files; there once one was asked for."""

    async def first(self, request: Request) -> Response:
        """`/`."""
        file = await self._file(_FIRST)
        tag = f'"{self.digest}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return file.answer(request, **headers)

    async def file(self, request: Request) -> Response:
        """`/dashboard/<digest>/<path>`."""
        path = request.path_params["path"]
        if path not in self._files or path == _FIRST:
            return Response("no such file", 404, media_type="text/plain")
        file = await self._file(path)
        is_ours = request.path_params["digest"] == self.digest
        keep = "public, max-age=31536000, immutable" if is_ours else "no-store"
        return file.answer(request, **{"Cache-Control": keep})

    async def _file(self, path: str) -> _File:
        if path not in self._packed:
            self._packed[path] = await anyio.to_thread.run_sync(self._pack, path)
        return self._packed[path]

    def _pack(self, path: str) -> _File:
        if not self.digest:
            self.digest = _digest(self._files)
        plain = self._files[path].read_bytes()
        if path == _FIRST:
            plain = plain.replace(_DIGEST_MARK, self.digest.encode())
        return _File(_TYPES[path.rpartition(".")[2]], plain, gzip.compress(plain, 9, mtime=0))


def page_routes() -> Sequence[BaseRoute]:
    """For the admin address."""
    pages = Pages()
    return [
        Route("/", pages.first, methods=["GET"]),
        Route(FILES + "{digest}/{path:path}", pages.file, methods=["GET"]),
    ]


def _all_below(directory: Traversable, before: str = "") -> dict[str, Traversable]:
    found: dict[str, Traversable] = {}
    for entry in directory.iterdir():
        if entry.is_dir():
            found |= _all_below(entry, f"{before}{entry.name}/")
        elif entry.name.rpartition(".")[2] in _TYPES:
            found[before + entry.name] = entry
    return found


def _digest(all_files: dict[str, Traversable]) -> str:
    digest = hashlib.sha256()
    for path in sorted(all_files):
        content = all_files[path].read_bytes()
        digest.update(f"{path} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]
