"""A turn at what one process of all has to do, by a Lease (coordination.k8s.io/v1).

Whose lease it is, is decided by the API server: each update names the version that it was made from, and of
two that were made from the same one is refused. Whether it has expired is decided by us, and clocks of
machines are never compared: a lease is taken from its holder when *we* have seen no change of it for as long
as it says that it lasts. So an early end of a turn is never a mistake of a clock, and a late one costs a
wait.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cluster.kubernetes.api import Api, Call, Json
from cluster.kubernetes.errors import ApiError, Conflict, NotFound

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """A version of the lease, and when we saw it first (monotonic seconds)."""

    version: str
    holder: str
    duration_seconds: float
    at: float

    def is_free(self, us: str, now: float) -> bool:
        """Whether `us` may take it, or has it."""
        return self.holder in ("", us) or now >= self.at + self.duration_seconds


def see(content: Json, before: Seen | None, now: float) -> Seen:
    """The lease as the API has it now. One that has not changed was seen before."""
    version = str(content.get("metadata", {}).get("resourceVersion", ""))
    if before is not None and before.version == version:
        return before
    spec = content.get("spec") or {}
    return Seen(version, spec.get("holderIdentity") or "", float(spec.get("leaseDurationSeconds") or 0), now)


def taken(content: Json, us: str, duration_seconds: int, time_text: str) -> Json:
    """The lease with us as its holder; the version stays, so that a change meanwhile is noticed."""
    spec: dict[str, Any] = dict(content.get("spec") or {})
    if spec.get("holderIdentity") != us:
        spec["acquireTime"] = time_text
        spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
    spec |= {"holderIdentity": us, "leaseDurationSeconds": duration_seconds, "renewTime": time_text}
    return content | {"spec": spec}


def released(content: Json, time_text: str) -> Json:
    """The lease without a holder: the next one need not wait."""
    spec = dict(content.get("spec") or {}) | {"leaseDurationSeconds": 1, "renewTime": time_text}
    del spec["holderIdentity"]  # absent, not empty, as client-go leaves it
    return content | {"spec": spec}


class LeaseTurn:
    """`us` names this process among all who may hold it. To be renewed well within `duration_seconds`."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        us: str,
        duration_seconds: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._us = us
        self._duration_seconds = duration_seconds
        self._clock = clock
        self._seen: Seen | None = None

    async def hold(self) -> bool:
        """Takes the lease or renews it; whether it is ours for the next seconds. While the API is away:
        no."""
        try:
            content = await self._read()
            self._seen = see(content, self._seen, self._clock())
            if not self._seen.is_free(self._us, self._clock()):
                return False
            await self._write(taken(content, self._us, self._duration_seconds, _now()))
        except Conflict:
            return False  # somebody else was faster
        except ApiError as error:
            logger.debug("no lease: %s", error)
            return False
        return True

    async def release(self) -> None:
        """Gives it up, if it is ours."""
        try:
            content = await self._api.request(self._call("get"))
            if (content.get("spec") or {}).get("holderIdentity") == self._us:
                await self._write(released(content, _now()))
        except ApiError as error:
            logger.debug("the lease will expire: %s", error)

    async def _read(self) -> Json:
        """Made without a holder if there is none."""
        try:
            return await self._api.request(self._call("get"))
        except NotFound:
            empty: Json = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": {},
            }
            return await self._api.request(Call("create", "leases", self._namespace, body=empty))

    async def _write(self, content: Json) -> None:
        self._seen = see(await self._api.request(self._call("update", content)), None, self._clock())

    def _call(self, verb: str, body: Json | None = None) -> Call:
        return Call(verb, "leases", self._namespace, self._name, body)


def _now() -> str:
    """MicroTime, for people to read."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
