"""What the lists of `/api/v1` have in common: how many, from where on, which kind, and yes or no."""

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request

from broker.admin.describe import PAGE, PAGE_MAXIMUM


def limit_of(request: Request) -> int:
    """`limit`. Raises HTTPException."""
    text = request.query_params.get("limit")
    if text is None:
        return PAGE
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= PAGE_MAXIMUM):
        raise HTTPException(422, f"limit: not a number from 1 to {PAGE_MAXIMUM}")
    return int(text)


def choice_of(request: Request, name: str, choices: Sequence[str]) -> str | None:
    """One of these, or None if it isn't there. Raises HTTPException."""
    text = request.query_params.get(name)
    if text is not None and text not in choices:
        raise HTTPException(422, f"{name}: not one of {', '.join(choices)}")
    return text


def flag_of(request: Request, name: str) -> bool:
    """`true` or `false`, which is the default. Raises HTTPException."""
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise HTTPException(422, f"{name}: neither true nor false")
    return text == "true"
