"""The group of settings for what is kept of what has happened to clients."""

from pydantic import Field

from broker.settings.group import DAY_SECONDS, Group


class HistorySettings(Group):
    """What has happened to each client of late, for [explain](explain.md)."""

    enabled: bool = Field(
        default=True,
        description="Whether events of clients (connected, disconnected, refused, subscribed, ...) are kept"
        " in Redis. Off: `session explain` says how a client is, and not how it came to that.",
    )
    events: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Events kept of a client, 100 bytes of Redis for each. Too small: a client that connects"
        " again and again hides what was before. Too large: 1,000 of them take 100 KB of each such client.",
    )
    seconds: int = Field(
        default=DAY_SECONDS,
        ge=60,
        le=30 * DAY_SECONDS,
        description="Seconds for which they are kept, from the last one on. Too small: what happened at night"
        " is gone in the morning. Too large: more memory, as clients that never come back stay known.",
    )
    clients: int = Field(
        default=200_000,
        ge=1,
        le=100_000_000,
        description="Clients of which each node may begin to keep events within `history.seconds`; those of"
        " others, and of clients that always had some, go on. Too small: of new clients nothing is kept. Too"
        " large: who connects with ever new Client Identifiers fills Redis, 0.3 KB each.",
    )
