"""Our own pod, as the API has it now: listed once, then watched from the version of the list.

A watch ends all the time. By its own limit, or when the connection drops: it goes on from the last version.
With 504, or with 410 when its version is older than what the server remembers: list again, after a pause that
grows.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import Final

import anyio

from cluster.kubernetes.api import Api, Call, Event
from cluster.kubernetes.backoff import Backoff
from cluster.kubernetes.environment import PodIdentity
from cluster.kubernetes.errors import ApiError
from cluster.kubernetes.pod import Pod, parse_pod

WATCH_SECONDS: Final = 240
"""After which, or up to a third less, the server is to end it: so a connection that died in silence is
noticed."""
_SHORT_SECONDS: Final = 1.0
"""A watch that ended sooner did not work."""

logger = logging.getLogger(__name__)


class PodWatch:
    """`on_pod` is told each version of our pod, and None when it is not there."""

    def __init__(self, api: Api, identity: PodIdentity, on_pod: Callable[[Pod | None], None]) -> None:
        self._api = api
        self._identity = identity
        self._on_pod = on_pod
        self._version = ""
        self._backoff = Backoff()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._list()
                while True:
                    await self._follow()
            except ApiError as error:
                logger.debug("watching the pod: %s", error)
                await anyio.sleep(self._backoff.after_failure(error.retry_after_seconds))

    async def _list(self) -> None:
        answer = await self._api.request(self._call("list"))
        pods = [self._ours(item) for item in answer.get("items") or ()]
        self._on_pod(next(filter(None, pods), None))
        self._version = str((answer.get("metadata") or {}).get("resourceVersion", ""))

    async def _follow(self) -> None:
        """One watch, to its end. Raises ApiError."""
        started = time.monotonic()
        seconds = int(WATCH_SECONDS * (1 - random.random() / 3))
        await self._api.watch(self._call("watch", resourceVersion=self._version), seconds, self._take)
        if time.monotonic() - started < _SHORT_SECONDS:
            await anyio.sleep(self._backoff.after_failure())
        else:
            self._backoff.reset()

    def _take(self, event: Event) -> None:
        self._version = event.version or self._version
        if event.kind == "DELETED":
            self._on_pod(None)
        elif event.kind in ("ADDED", "MODIFIED"):  # not of a bookmark, which has a version only
            self._on_pod(self._ours(event.object))

    def _ours(self, content: dict[str, object]) -> Pod | None:
        """None for another pod that has got our name."""
        pod = parse_pod(content)
        return pod if not self._identity.uid or pod.uid == self._identity.uid else None

    def _call(self, verb: str, **query: str) -> Call:
        selector = {"fieldSelector": f"metadata.name={self._identity.name}"}
        return Call(verb, "pods", self._identity.namespace, query=selector | query)
