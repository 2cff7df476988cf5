"""Tokens that clients send as their password."""

from collections.abc import Sequence

from broker.auth import Link
from broker.auth.json_web_token import SOURCE, JsonWebTokens
from broker.auth.key_set import Key, KeySet, read_keys
from broker.auth.watched import WatchedFile
from broker.client import Hub
from broker.guarding.parts import Parts, load_now


def token_link(parts: Parts) -> Link:
    """Follows its file and its URL."""
    auth, counters = parts.settings.auth, parts.counters
    keys = KeySet((), auth.jwt_keys_url, auth.jwt_keys_refresh_seconds, counters.auth_reloads)
    if auth.jwt_keys is not None:
        file = WatchedFile("jwt_keys", auth.jwt_keys, read_keys, counters.auth_reloads)
        keys.file_keys = load_now(file)

        async def follow(hub: Hub) -> None:
            def apply(read: Sequence[Key]) -> None:
                keys.file_keys = read
                cache.clear()

            await file.run(apply)

        parts.watches.append(follow)
    if auth.jwt_keys_url is not None:
        parts.watches.append(lambda hub: keys.run())
    tokens = JsonWebTokens(
        keys,
        issuer=auth.jwt_issuer,
        audience=auth.jwt_audience,
        username_claim=auth.jwt_username_claim,
        leeway_seconds=auth.jwt_leeway_seconds,
    )
    cache = parts.cache()
    return Link(SOURCE, tokens, cache)
