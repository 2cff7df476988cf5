"""Moments as they are written for people and programs."""

from datetime import UTC, datetime


def moment_text(milliseconds: int) -> str:
    """To the millisecond, from milliseconds since 1970."""
    return (
        datetime.fromtimestamp(milliseconds / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
