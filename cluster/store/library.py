"""The Lua library in Redis: its text, name, version and revision.

One file per function in `lua/`, put together here in a fixed order: helpers first, the dispatcher last.

Theory of operation, for two releases on one Redis. The *version* of the schema (`keys.schema` holds it in
Redis) is in the name of the library: a node never meets functions which know other records. Within a version
the text has *revisions*. One library is loaded, and serves nodes of older releases, too: it registers its two
functions once for each revision of callers from OLDEST_CALLER on, and a node calls those of its own revision.
So a node whose functions are there may use them, whoever has loaded them; and a node that meets an older
library finds that its functions are missing, as after a loss of the library, and loads its own. An older one
never replaces a newer one (`server.ensure_library`).
"""

import re
from functools import cache
from importlib import resources
from typing import Final

SCHEMA_VERSION: Final = 1
LIBRARY_REVISION: Final = 17
"""To be raised with every change of a text in `lua/`: see `tests/upgrade/revisions`."""
OLDEST_CALLER: Final = 1
"""Nodes of this revision and later are served; at least that of the release before."""
LIBRARY_NAME: Final = f"moorline_{SCHEMA_VERSION}"

_FILES: Final = (
    "lib",
    "wills",
    "session_index",
    "session",
    "claim",
    "detach",
    "session_count",
    "session_ids",
    "session_brief",
    "session_end",
    "subscribe",
    "unsubscribe",
    "change_log",
    "adopt",
    "rows",
    "interest",
    "log_since",
    "scrub",
    "fence",
    "queue_bytes",
    "enqueue",
    "ack",
    "share",
    "share_brief",
    "exclusive",
    "release",
    "complete",
    "receive",
    "routed",
    "release_received",
    "settle_tokens",
    "raise_hi",
    "page",
    "queue_peek",
    "retain",
    "retained_count",
    "retained_page",
    "retained_browse",
    "replay",
    "delay",
    "due",
    "done",
    "letter",
    "letters",
    "join",
    "beat",
    "leave",
    "dead_nodes",
    "members",
    "bury",
    "reap",
    "reclaim",
    "turn",
    "users",
    "rules",
    "bans",
    "events",
    "explain",
    "inbox",
    "bell",
    "session_export",
    "session_import",
    "dispatch",
)


_APART: Final = frozenset({"bans", "detach", "due", "inbox", "page", "replay", "retained_browse", "users"})
"""Files whose locals no other file needs: one function of Lua, as all of this is, has room for 200."""
_REVISION: Final = re.compile(r"-- revision (\d+)$", re.MULTILINE)


def function_name(kind: str, revision: int = LIBRARY_REVISION) -> str:
    """Of "write" or "free", for callers of a revision; `lua/dispatch.lua` builds the same. They are unique on
    a server, so the version of the schema is in there; not in those of revision 1, which are older than
    this."""
    return f"moorline_{kind}" if revision == 1 else f"moorline_{kind}_{SCHEMA_VERSION}_{revision}"


@cache
def library_text() -> str:
    """What is in `lua/`: a change of it needs another revision."""
    folder = resources.files(__package__) / "lua"
    texts = [(folder / f"{name}.lua").read_text(encoding="utf-8") for name in _FILES]
    return "\n".join(
        f"do\n{text}end\n" if name in _APART else text for name, text in zip(_FILES, texts, strict=True)
    )


def library_source(revision: int = LIBRARY_REVISION) -> str:
    """The text for FUNCTION LOAD. Loading it again changes nothing."""
    return (
        f"#!lua name={LIBRARY_NAME}\n-- revision {revision}\n"
        f"local SCHEMA, REVISION, OLDEST_CALLER = {SCHEMA_VERSION}, {revision}, {OLDEST_CALLER}\n"
        f"{library_text()}"
    )


def revision_of(source: str) -> int:
    """Which revision a library is of; 1 if it does not say so, as in the time before they were counted."""
    head = "\n".join(source.split("\n", 2)[:2])
    found = _REVISION.search(head)
    return int(found.group(1)) if found else 1
