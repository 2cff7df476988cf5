"""The sentinels: whether they are there, of one mind, and enough for a fail-over."""

from collections.abc import Iterator, Mapping
from typing import Final

import anyio

from broker.doctor.finding import Finding, fail, ok, warn
from broker.doctor.machine import is_local
from cluster.store.election import Election
from cluster.store.endpoint import Endpoint
from cluster.store.errors import AccessDenied, StoreError
from cluster.store.sentinel import PATIENCE_SECONDS, Sentinel, View

_ENOUGH: Final = 3
_SHORTEST_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 10.0

Views = Mapping[Endpoint, View]


async def check_sentinels(place: Endpoint) -> tuple[list[Finding], Endpoint | None]:
    """What is found, and where the primary is, if any of them knows."""
    findings: list[Finding] = []
    views: dict[Endpoint, View] = {}

    async def look(endpoint: Endpoint) -> None:
        sentinel = Sentinel(endpoint)
        try:
            with anyio.fail_after(4 * PATIENCE_SECONDS):
                views[endpoint] = await sentinel.look()
                await sentinel.check_quorum()
        except TimeoutError:
            findings.append(_silent(f"{endpoint}: no answer"))
        except AccessDenied as error:
            if endpoint not in views:  # else it is only CKQUORUM, which nodes don't use
                findings.append(_silent(str(error)))
        except StoreError as error:
            findings.append(_silent(str(error)))
        finally:
            sentinel.close()

    async with anyio.create_task_group() as looking:
        for endpoint in place.sentinels:
            looking.start_soon(look, endpoint)
    if not views:
        advice = "start them, or mend redis.url: hosts, ports, name of the primary, sentinel_password"
        return [*findings, fail("sentinels", "none tells where Redis is", advice)], None
    election = Election(len(place.sentinels))
    chosen = election.count([view.answer for view in views.values()], 0.0)
    assert chosen is not None
    primary = place.at(*chosen.address)
    return [*findings, *_seen(place, primary, views)], primary


def _silent(found: str) -> Finding:
    return warn("sentinels", found, "mend it: with most of them gone there is no fail-over")


def _seen(place: Endpoint, primary: Endpoint, views: Views) -> Iterator[Finding]:
    asked = len(place.sentinels)
    yield ok("sentinels", f"{len(views)} of {asked} answer; they call {primary} {place.master_name!r}")
    yield from _agreement(primary, views)
    yield from _number(asked, views)
    replicas = max(view.replicas for view in views.values())
    if not replicas:
        yield warn("sentinels", "they know no replica: nobody can take over", "start one (replicaof)")
    else:
        yield ok("sentinels", f"replicas that can take over: {replicas}")
    yield from _patience(place.master_name, views)


def _agreement(primary: Endpoint, views: Views) -> Iterator[Finding]:
    others = [
        f"{sentinel} says {view.answer.host}:{view.answer.port}"
        for sentinel, view in views.items()
        if view.answer.address != (primary.host, primary.port)
    ]
    if others:
        advice = "wait for a fail-over to end; give all of them the same announce-hostnames"
        yield warn("sentinels", f"they differ: {', '.join(others)}", advice)
    if any(view.is_down for view in views.values()):
        yield warn("sentinels", f"{primary} is down for some of them", "look at it, and at the way to it")
    if is_local(primary) and not any(map(is_local, views)):
        advice = "announce addresses that others can reach (replica-announce-ip, sentinel announce-ip)"
        yield warn("sentinels", f"{primary} is an address of this machine, not of theirs", advice)


def _number(asked: int, views: Views) -> Iterator[Finding]:
    known = max(view.sentinels for view in views.values())
    quorum = max(view.quorum for view in views.values())
    found = f"{known} sentinels know each other, {quorum} must agree that the primary is gone"
    if known < _ENOUGH:
        yield warn("sentinels", found, "run three on three machines: more than half must be there")
    elif quorum > known or min(view.sentinels for view in views.values()) < known:
        yield warn("sentinels", found, "let all know each other (SENTINEL RESET), and lower the quorum")
    elif asked * 2 <= known:
        yield warn("sentinels", f"{found}; redis.url names {asked}", "name all of them")
    else:
        yield ok("sentinels", found)


def _patience(name: str, views: Views) -> Iterator[Finding]:
    seconds = max(view.down_after_seconds for view in views.values())
    found = f"they wait {seconds:g} s for a primary that does not answer (down-after-milliseconds)"
    if _SHORTEST_SECONDS <= seconds <= _LONGEST_SECONDS:
        yield ok("sentinels", found)
        return
    harm = (
        "a pause is taken for a death" if seconds < _SHORTEST_SECONDS else "nothing is acknowledged so long"
    )
    advice = f"SENTINEL SET {name} down-after-milliseconds 3000"
    yield warn("sentinels", f"{found}: {harm}", advice)
