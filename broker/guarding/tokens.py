"""Tokens that clients send as their password."""

from collections.abc import Sequence

from broker.auth import Link
from broker.auth.json_web_token import SOURCE, JsonWebTokens
from broker.auth.key_set import Key, KeySet, read_keys
from broker.auth.watched import WatchedFile
from broker.client import Hub, disconnect_those
from broker.guarding.parts import Parts, load_now


def token_link(parts: Parts) -> Link:
    """Follows its file and its URL."""
    auth, counters = parts.settings.auth, parts.counters
    file_keys: Sequence[Key] = ()
    if auth.jwt_keys is not None:
        file = WatchedFile("jwt_keys", auth.jwt_keys, read_keys, counters.auth_reloads)
        file_keys = load_now(file)
        parts.watches.append(lambda hub: file.run(keys.replace_file_keys))
    keys = KeySet(file_keys, auth.jwt_keys_url, auth.jwt_keys_refresh_seconds, counters.auth_reloads)
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

    async def end_withdrawn(hub: Hub) -> None:
        while True:
            await keys.until_changed()
            cache.clear()
            disconnect_those(hub, lambda who: who.source == SOURCE and not keys.has(who.proof))

    parts.watches.append(end_withdrawn)
    return Link(SOURCE, tokens, cache)
