"""Where the nodes may be asked, for those who are no node: a list of URLs, or a name with an address for
each.

Nodes know each other by Redis and need none of this.
"""

import socket
from typing import Final
from urllib.parse import urlsplit

DNS: Final = "dns+"
ADDRESSES_MAXIMUM: Final = 64
"""Of one name; there is no need to try more until one answers."""


class NoSuchName(Exception):
    """The name has no address, or nobody could be asked for it."""


def urls(given: str) -> list[str]:
    """The URLs to try in this order: those of a list with commas; in place of `dns+http://NAME:PORT` one for
    each address that the name has now. Raises NoSuchName, ValueError for what is no such URL."""
    found: list[str] = []
    for part in filter(None, map(str.strip, given.split(","))):
        if part.startswith(DNS):
            found += _resolved(_checked(part.removeprefix(DNS)))
        else:
            found.append(_checked(part))
    if not found:
        raise ValueError("there is no URL")
    return list(dict.fromkeys(found))


def _checked(text: str) -> str:
    """`http://HOST:PORT`, which may also be given without the scheme."""
    url = text if "://" in text else f"http://{text}"
    parts = urlsplit(url)
    has_host = bool(parts.hostname) and parts.port != 0
    if not has_host or parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.query:
        raise ValueError(f"{text!r} is not http://HOST:PORT")
    return f"{parts.scheme}://{parts.netloc}"


def _resolved(url: str) -> list[str]:
    parts = urlsplit(url)
    assert parts.hostname is not None  # it was checked
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        answers = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NoSuchName(f"no address of {parts.hostname}: {error.strerror or error}") from None
    hosts = dict.fromkeys(str(address[0]) for *_, address in answers[:ADDRESSES_MAXIMUM])
    return [f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host in hosts]
