"""Users and rules in Redis."""

from collections.abc import Collection
from typing import Final

import anyio.to_thread
from anyio.abc import TaskStatus

from broker.auth import Link
from broker.auth.rules import Rule, Rules, parse_rules
from broker.auth.scram import ScramSource
from broker.auth.sql import SOURCE as SQL
from broker.auth.stored_users import SOURCE, StoredUsers
from broker.client import Hub, renew_users
from broker.guarding.parts import Follow, Parts
from broker.guarding.rule_sources import RuleSources
from broker.observability.logs import get_logger
from cluster.roster import Followers, Roster
from cluster.store.store import Store

_NOBODY_MAY: Final = Rules([Rule(effect="deny", filters=("#", "$SYS/#"))], {})

logger = get_logger(__name__)


def users_link(parts: Parts, roster: Roster) -> Link:
    """Users by their passwords."""
    parts.scram_sources.append(_scram_source(parts, roster))
    is_last = parts.is_last(SOURCE, {SQL: parts.settings.auth.sql_user_query is not None})
    return Link(SOURCE, StoredUsers(roster.find, parts.hashing(), parts.cache(), hides_unknown=is_last))


def _scram_source(parts: Parts, roster: Roster) -> ScramSource:
    return ScramSource(SOURCE, roster.find, lambda: parts.settings.auth.scram_iterations)


def follow_stored(parts: Parts, roster: Roster, rule_sources: RuleSources) -> Follow:
    """Holds clients to what is in Redis now; `started` when SCRAM has its secret, too."""
    auth = parts.settings.auth
    sources = (SOURCE, _scram_source(parts, roster).identity_source)

    async def follow(hub: Hub, store: Store, *, task_status: TaskStatus[None]) -> None:
        async def on_users(names: Collection[str] | None) -> None:
            await renew_users(hub, sources, names, roster.find_all)

        async def on_rules(text: str | None) -> None:
            await _take_rules(text, parts, rule_sources, hub)

        followers = Followers(
            on_users if auth.redis_users else None, on_rules if auth.redis_rules else None, auth.scram
        )
        await roster.run(store, followers, task_status=task_status)

    return follow


async def _take_rules(text: str | None, parts: Parts, sources: RuleSources, hub: Hub) -> None:
    """Rules that can't be read, of a newer release perhaps, change nothing; if there are none yet, nobody
    may do anything."""
    try:
        rules = Rules((), {}) if text is None else await anyio.to_thread.run_sync(parse_rules, text)
    except ValueError as error:
        parts.counters.auth_reloads.add("redis_rules_refused")
        logger.error("rules in Redis not taken, those before hold:\n%s", error)
        if not sources.has_redis_rules:
            sources.replace_redis(hub, _NOBODY_MAY)
        return
    parts.counters.auth_reloads.add("redis_rules")
    logger.info("rules in Redis read")
    sources.replace_redis(hub, rules)
