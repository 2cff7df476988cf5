"""The Lua library in Redis: its text, name and version.

One file per function in `lua/`, put together here in a fixed order: helpers first, the dispatcher last. The
name carries the version of the schema (`keys.schema` holds it in Redis): a node never meets functions which
know other records.
"""

from functools import cache
from importlib import resources
from typing import Final

SCHEMA_VERSION: Final = 1
LIBRARY_NAME: Final = f"moorline_{SCHEMA_VERSION}"
WRITE_FUNCTION: Final = "moorline_write"
FREE_FUNCTION: Final = "moorline_free"

_FILES: Final = (
    "lib",
    "wills",
    "session",
    "claim",
    "detach",
    "subscribe",
    "unsubscribe",
    "change_log",
    "rows",
    "interest",
    "log_since",
    "scrub",
    "fence",
    "enqueue",
    "ack",
    "share",
    "exclusive",
    "release",
    "complete",
    "receive",
    "routed",
    "release_received",
    "settle_tokens",
    "raise_hi",
    "page",
    "retain",
    "retained_count",
    "retained_page",
    "replay",
    "delay",
    "due",
    "done",
    "letter",
    "join",
    "beat",
    "leave",
    "dead_nodes",
    "members",
    "bury",
    "reap",
    "inbox",
    "bell",
    "dispatch",
)


@cache
def library_source() -> str:
    """The text for FUNCTION LOAD REPLACE. Loading it again changes nothing."""
    folder = resources.files(__package__) / "lua"
    parts = [(folder / f"{name}.lua").read_text(encoding="utf-8") for name in _FILES]
    return f"#!lua name={LIBRARY_NAME}\n" + "\n".join(parts)
