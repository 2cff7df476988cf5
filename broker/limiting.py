"""Makes what keeps a node within its limits, as the settings want it."""

import resource
from collections.abc import Callable, Coroutine
from typing import Final

from broker.auth.ban import Target
from broker.auth.ban_list import BanList
from broker.client import AUTOMATIC, Banning, BanRules, Hub, Pressure, TopicLimits
from broker.listeners import Admission, AdmissionLimits
from broker.observability.bans import BanCounters
from broker.observability.health import Health
from broker.observability.memory import MemoryMark, cgroup_mark, resident_bytes
from broker.observability.offences import Offences
from broker.settings import BanSettings, LimitSettings
from cluster.bans import BanBook

CGROUP_SHARE: Final = 0.85

_FILE_RESERVE: Final = 64  # files of a node that are not clients: Redis, listeners, admin, the event loop


def connections_maximum(limits: LimitSettings) -> int:
    """As many as the limit of open files allows, unless it is said; after asking for as many files as this
    process is allowed to ask for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    files = hard if hard != resource.RLIM_INFINITY else 1 << 30
    return limits.connections_maximum or files - _FILE_RESERVE


def make_admission(limits: LimitSettings, maximum: int, offences: Offences) -> Admission:
    """For `maximum` connections in all."""
    return Admission(admission_limits(limits, maximum), offences)


def admission_limits(limits: LimitSettings, maximum: int) -> AdmissionLimits:
    """For `maximum` connections in all."""
    return AdmissionLimits(
        maximum,
        limits.connections_per_address,
        limits.half_open_connections or max(1, maximum // 2),
        limits.connects_per_second,
        limits.connects_per_second_per_address,
        limits.burst_seconds,
    )


def topic_limits(limits: LimitSettings) -> TopicLimits | None:
    """None where any topic will do."""
    if not limits.topic_levels and not limits.topic_bytes:
        return None
    return TopicLimits(limits.topic_levels, limits.topic_bytes)


def make_pressure(limits: LimitSettings, hub: Hub, admission: Admission, health: Health) -> Pressure:
    """Closes the node to those who come while memory is short."""

    def on_change(trouble: str) -> None:
        admission.is_closed = bool(trouble)
        health.memory(trouble)

    on_change("")  # what an earlier incarnation said
    return Pressure(hub, _mark(limits), on_change)


def _mark(limits: LimitSettings) -> MemoryMark | None:
    limit_bytes = limits.memory_high_water_bytes
    if limit_bytes == "auto":
        return cgroup_mark(CGROUP_SHARE)
    return MemoryMark(limit_bytes, resident_bytes) if limit_bytes else None


def make_banning(
    settings: BanSettings,
    bans: BanList,
    counters: BanCounters,
    spawn: Callable[[Coroutine[object, object, None]], None],
    book: BanBook,
) -> Banning:
    """Of `bans`; those that come by themselves go to the book, for all nodes."""

    async def impose(target: Target, reason: str, seconds: float) -> None:
        await book.add(target, reason=reason, by=AUTOMATIC, seconds=seconds, is_automatic=True)

    return Banning(bans, ban_rules(settings), counters, spawn, impose)


def ban_rules(settings: BanSettings) -> BanRules:
    """When somebody is banned by itself."""
    return BanRules(
        settings.guess_limit,
        settings.guess_window_seconds,
        settings.guess_ban_seconds,
        settings.flap_limit,
        settings.flap_window_seconds,
        settings.flap_ban_seconds,
        settings.exempt,
    )
