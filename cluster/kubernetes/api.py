"""The Kubernetes API: one request at a time is asked and answered here, or a watch followed.

The only importer of the official client, and of that only what connects and authenticates: its models of all
resources would cost 20 MB and half a second, and we read a few fields of two. Objects are the JSON that they
are.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import anyio
import urllib3
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import OpenApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import load_incluster_config
from kubernetes.config.kube_config import load_kube_config

from broker.errors import StartError
from cluster.kubernetes.errors import (
    ApiAway,
    ApiError,
    Conflict,
    Expired,
    Forbidden,
    NotFound,
    Refused,
    TooManyRequests,
)
from cluster.kubernetes.threads import Threads, TooManyThreads

THREADS: Final = 6
"""A watch, the three that may be asked at a time, and two that hang and have been given up."""
LINE_BYTES: Final = 8 << 20
"""Of one event of a watch, or of an answer: objects are below 2 MB."""
CHUNK_BYTES: Final = 1 << 16

Json = dict[str, Any]
"""An object as the API has it; which fields it has is for `pod` and `lease` to know."""

_METHODS: Final = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
}
_ERRORS: Final[dict[int, type[ApiError]]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Expired,
    422: Conflict,
    429: TooManyRequests,
}
TEXT_MAXIMUM: Final = 300
RETRY_AFTER_MAXIMUM_SECONDS: Final = 300.0

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """A request, in the words of RBAC. `resource`: `pods`, `pods/status`, `leases`; `name` unless it is about
    all of a namespace."""

    verb: str
    resource: str
    namespace: str
    name: str = ""
    body: Json | None = None
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """Of the resource; empty for the core."""
        return "coordination.k8s.io" if self.resource == "leases" else ""

    @property
    def path(self) -> str:
        """Of the URL."""
        root = f"/apis/{self.group}/v1" if self.group else "/api/v1"
        resource, _, part = self.resource.partition("/")
        parts = [root, "namespaces", self.namespace, resource, self.name, part]
        return "/".join(each for each in parts if each)

    @property
    def rule(self) -> str:
        """What a Role must grant for it."""
        return (
            f'apiGroups: ["{self.group}"], resources: ["{self.resource}"], verbs: ["{self.verb}"]'
            f" in namespace {self.namespace}"
        )


@dataclass(frozen=True, slots=True)
class Event:
    """Of a watch: ADDED, MODIFIED, DELETED, BOOKMARK, whose object has no more than a version."""

    kind: str
    object: Json

    @property
    def version(self) -> str:
        """From where a watch may go on."""
        return str(self.object.get("metadata", {}).get("resourceVersion", ""))


def connect(kubeconfig: Path | None) -> ApiClient:
    """By the pod's service account, or as a file says. Raises StartError if that can't be read."""
    configuration = Configuration()
    # Else it tries again by itself, and sleeps in its thread for as long as Retry-After says.
    configuration.retries = urllib3.Retry(0, respect_retry_after_header=False, redirect=3)
    try:
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # its own
        else:
            load_kube_config(  # type: ignore[no-untyped-call]  # its own
                str(kubeconfig), client_configuration=configuration, persist_config=False
            )
    except (ConfigException, OSError, ValueError) as error:
        raise StartError(f"no connection to the Kubernetes API: {error}") from error
    return ApiClient(configuration)


class Api:
    """`count` is called with verb and code of each request that has ended."""

    def __init__(self, client: ApiClient, timeout_seconds: float, count: Callable[[str, str], None]) -> None:
        self.client = client
        self._timeout_seconds = timeout_seconds
        self._count = count
        self.threads = Threads(THREADS)
        self._outage: _Outage | None = None
        self._forbidden: set[str] = set()

    async def request(self, call: Call) -> Json:
        """The object of the answer. Raises ApiError within the timeout, whatever the server does."""
        return await self._run(call, partial(self._perform, call), self._timeout_seconds)

    async def watch(self, call: Call, seconds: int, on_event: Callable[[Event], None]) -> None:
        """Follows a watch until the server ends it, after `seconds` at most, or the connection is lost: then
        go on from the version of the last event. `on_event` is called in the event loop. Raises ApiError."""
        loop = asyncio.get_running_loop()

        def take(event: Event) -> None:
            self._note_success(call)  # which else comes with its end, minutes later
            on_event(event)

        def follow() -> None:
            for event in self._events(call, seconds):
                loop.call_soon_threadsafe(take, event)

        await self._run(call, follow, seconds + 2 * self._timeout_seconds)

    async def _run(self, call: Call, work: Callable[[], T], timeout_seconds: float) -> T:
        started = time.monotonic()
        try:
            with anyio.fail_after(timeout_seconds):
                answer = await self.threads.run(work)
        except ApiError as error:
            self._note_failure(call, error, started)
            raise
        except TimeoutError:
            late = ApiAway(f"no answer within {timeout_seconds:g} s", "timeout")
            self._note_failure(call, late, started)
            raise late from None
        except TooManyThreads:
            busy = ApiAway("requests that were given up still wait for their answers", "busy")
            self._note_failure(call, busy, started)
            raise busy from None
        self._count(call.verb, "200")
        self._note_success(call)
        return answer

    def _note_failure(self, call: Call, error: ApiError, started: float) -> None:
        self._count(call.verb, error.code)
        if isinstance(error, ApiAway):
            if self._outage is None:
                logger.warning("the Kubernetes API fails; the broker goes on without it: %s", error)
                self._outage = _Outage(call.verb, started)
            self._outage.failures += 1
        elif isinstance(error, Forbidden) and call.rule not in self._forbidden:
            self._forbidden.add(call.rule)
            logger.error("the Kubernetes API refuses: the Role must grant %s (%s)", call.rule, error)

    def _note_success(self, call: Call) -> None:
        self._forbidden.discard(call.rule)
        outage = self._outage
        if outage is not None and outage.verb == call.verb:
            self._outage = None
            seconds = round(time.monotonic() - outage.since, 1)
            logger.info("the Kubernetes API is back", extra={"seconds": seconds, "failures": outage.failures})

    # In a thread

    def _perform(self, call: Call) -> Json:
        answer = self._answer(call, self._timeout_seconds)
        try:
            return _parsed(_body(answer, time.monotonic() + self._timeout_seconds))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiAway(_shortened(str(error)), "error") from error

    def _events(self, call: Call, seconds: int) -> Iterator[Event]:
        query = dict(call.query) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        ends = time.monotonic() + seconds + self._timeout_seconds
        answer = self._answer(replace(call, query=query), seconds + self._timeout_seconds)
        try:
            for line in _lines(answer):
                yield _event(line)
                if time.monotonic() > ends:
                    return  # who ignores timeoutSeconds must not have the thread for ever
        except (urllib3.exceptions.HTTPError, OSError):
            return  # dropped in the middle: as if it had ended
        finally:
            answer.close()

    def _answer(self, call: Call, timeout_seconds: float) -> urllib3.BaseHTTPResponse:
        """Of status 2xx, its body not yet read. `timeout_seconds`: of silence. Raises ApiError."""
        try:
            request = self.client.param_serialize(
                _METHODS[call.verb],
                call.path,
                query_params=list(call.query.items()),
                header_params={"Accept": "application/json", "Content-Type": _content_type(call)},
                body=call.body,
                auth_settings=["BearerToken"],
            )
            answer = self.client.call_api(*request, _request_timeout=(self._timeout_seconds, timeout_seconds))
            if answer.status >= 300:
                raise _error(answer.status, answer.response.data, answer.headers.get("Retry-After", ""))
        except (urllib3.exceptions.HTTPError, OpenApiException, ConfigException, OSError) as error:
            raise ApiAway(_shortened(str(error)), "error") from error
        return cast(urllib3.BaseHTTPResponse, answer.response)


@dataclass(slots=True)
class _Outage:
    """Since the first request that failed, until one with its verb succeeds."""

    verb: str
    since: float
    failures: int = 0


def _content_type(call: Call) -> str:
    """A strategic merge patch merges conditions by their type."""
    return "application/strategic-merge-patch+json" if call.verb == "patch" else "application/json"


def _error(status: int, body: bytes, retry_after: str) -> ApiError:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace")
    kind = _ERRORS.get(status, ApiAway if status >= 500 else Refused)
    error = kind(f"{status}: {_shortened(message)}", str(status))
    if retry_after.isascii() and retry_after.isdecimal():  # the API server sends no dates
        error.retry_after_seconds = min(float(retry_after), RETRY_AFTER_MAXIMUM_SECONDS)
    return error


def _parsed(body: bytes) -> Json:
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise Refused(f"no JSON object: {_shortened(body.decode(errors='replace'))}", "nonsense")
    return content


def _body(answer: urllib3.BaseHTTPResponse, ends: float) -> bytes:
    """Whole. Raises ApiAway if it is not there in time, as nobody waits for it any more then."""
    body = b""
    for chunk in answer.stream(CHUNK_BYTES):
        body += chunk
        if time.monotonic() > ends or len(body) > LINE_BYTES:
            answer.close()
            raise ApiAway("an answer without an end", "timeout")
    return body


def _event(line: bytes) -> Event:
    """Raises the error that an event of type ERROR tells."""
    content = _parsed(line)
    kind, about = content.get("type"), content.get("object")
    if not isinstance(kind, str) or not isinstance(about, dict):
        raise Refused(f"no event: {_shortened(str(content))}", "nonsense")
    if kind == "ERROR":
        raise _error(int(about.get("code") or 500), json.dumps(about).encode(), "")
    return Event(kind, about)


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Whole lines only: what a lost connection has cut is not one."""
    buffer = b""
    for chunk in answer.stream(amt=None):
        *lines, buffer = (buffer + chunk).split(b"\n")
        yield from filter(None, lines)
        if len(buffer) > LINE_BYTES:
            raise Refused("an event without an end", "nonsense")


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT_MAXIMUM else text[:TEXT_MAXIMUM] + "..."
