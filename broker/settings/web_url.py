"""URLs of servers that a node asks, or tells something, by HTTP."""

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

_PRINTABLE: Final = re.compile(r"[!-~]+")


def web_url(url: str, password_place: str) -> SplitResult:
    """Its parts. ValueError if it can't be used, which says nothing of what is in it. `password_place`: the
    setting for what must not stand in a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text has parts of it
        raise ValueError("not a URL") from None
    if not parts.hostname or parts.scheme not in ("https", "http"):
        raise ValueError("begins neither with https:// nor with http:// and the name of a machine")
    if _PRINTABLE.fullmatch(url) is None or port == 0:
        raise ValueError("no URL in ASCII, or one with port 0")
    if parts.username is not None:
        raise ValueError(f"a password has its place in {password_place}")
    return parts
