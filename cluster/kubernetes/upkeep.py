"""Keeps what our pod says of us true, and hears when it is being deleted.

Each of the two things that are published has a task of its own: while a request of one hangs the other goes
on. What is to be published is compared with what the pod says now, so what somebody else has overwritten is
restored.

Only a pod that says that it is being deleted is: one that can't be found any more may be a server that has
lost its data, and all nodes would leave in one moment.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import anyio

from cluster.kubernetes.api import Api, Call, Json
from cluster.kubernetes.backoff import Backoff
from cluster.kubernetes.environment import PodIdentity
from cluster.kubernetes.errors import ApiError, Forbidden
from cluster.kubernetes.pod import (
    Pod,
    State,
    cost_patch,
    deletion_cost,
    is_worth_publishing,
    parse_pod,
    serving_patch,
    serving_status,
)
from cluster.kubernetes.watching import PodWatch

LOOK_SECONDS: Final = 0.25
"""Between two looks at ourselves."""
RESTORE_SECONDS: Final = 5.0
"""Between two patches that say the same: whoever overwrites us all the time must not keep us busy."""
FORBIDDEN_SECONDS: Final = 30.0
"""Until the next try of what a Role doesn't grant."""

logger = logging.getLogger(__name__)


class PodUpkeep:
    """`state` tells how this process is; `on_deleted` is called when the pod is being deleted, at least once;
    `on_pod` whenever the pod is another than before."""

    def __init__(
        self,
        api: Api,
        identity: PodIdentity,
        interval_seconds: float,
        state: Callable[[], State],
        on_deleted: Callable[[], None],
        on_pod: Callable[[Pod], None],
    ) -> None:
        self._api = api
        self._identity = identity
        self._interval_seconds = interval_seconds
        self._state = state
        self._on_deleted = on_deleted
        self._on_pod = on_pod
        self._watch = PodWatch(api, identity, self._see)
        self._pod: Pod | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch.run)
            tasks.start_soon(self._publish_cost)
            tasks.start_soon(self._publish_serving)

    def _see(self, pod: Pod | None) -> None:
        self._pod = pod
        if pod is None:
            return
        self._on_pod(pod)
        if pod.is_being_deleted:
            self._on_deleted()

    async def _publish_cost(self) -> None:
        backoff = Backoff()
        published_at = -self._interval_seconds
        while True:
            await anyio.sleep(LOOK_SECONDS)
            cost = deletion_cost(self._state())
            intervals = (time.monotonic() - published_at) / self._interval_seconds
            if self._pod is None or not is_worth_publishing(cost, self._pod.deletion_cost, intervals):
                continue
            if await self._patch("pods", cost_patch(self._identity.uid, cost), backoff):
                published_at = time.monotonic()

    async def _publish_serving(self) -> None:
        backoff = Backoff()
        last_status, not_before = "", 0.0
        while True:
            await anyio.sleep(LOOK_SECONDS)
            state = self._state()
            status = serving_status(state)
            if self._pod is None or not self._pod.has_gate or self._pod.serving == status:
                continue
            if status == last_status and time.monotonic() < not_before:
                continue
            now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            patch = serving_patch(self._identity.uid, state, self._pod.serving, now)
            if await self._patch("pods/status", patch, backoff):
                last_status, not_before = status, time.monotonic() + RESTORE_SECONDS

    async def _patch(self, resource: str, patch: Json, backoff: Backoff) -> bool:
        """Whether it was done; else waits before the next try."""
        call = Call("patch", resource, self._identity.namespace, self._identity.name, patch)
        try:
            answer = await self._api.request(call)
        except ApiError as error:
            logger.debug("patch of %s: %s", resource, error)
            wait_seconds = backoff.after_failure(error.retry_after_seconds)
            await anyio.sleep(FORBIDDEN_SECONDS if isinstance(error, Forbidden) else wait_seconds)
        else:
            backoff.reset()
            self._see(parse_pod(answer))
            return True
        return False
