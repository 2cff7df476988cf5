"""A stand-in for the Kubernetes API: as much of pods and leases as a client can notice, over real HTTP.

Faithful in what our code depends on: one resourceVersion for all, opaque to clients; list with selectors;
watch from a version, with bookmarks, 410 for what has been compacted, ends by timeoutSeconds; create, update
by optimistic concurrency, strategic merge patches (conditions by type), the uid of a patch as a precondition,
status as a subresource that nothing else changes; deletion with a grace period. What a server may do to its
clients is asked for by `faults`.
"""

import asyncio
import copy
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]
START_SECONDS = 40.0
POLL_SECONDS = 0.02
HANG_SECONDS = 60.0
KINDS = {"pods": ("v1", "Pod"), "leases": ("coordination.k8s.io/v1", "Lease")}
MERGE_KEYS = {"conditions": "type", "readinessGates": "conditionType", "containers": "name"}
TOKEN = "let-me-in"  # a secret of this test only


class StatusError(Exception):
    """What is answered in place of an object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": reason, "message": message,
        }  # fmt: skip


@dataclass
class Faults:
    """What the server does wrong, from now on. Verbs are those of RBAC, a resource may carry its
    subresource."""

    forbidden: set[tuple[str, str]] = field(default_factory=set)
    too_many: int = 0
    """So many requests get 429."""
    retry_after_seconds: int = 1
    unavailable: bool = False
    hang: bool = False
    """Requests are read and never answered."""
    dribble: bool = False
    """An answer comes byte by byte, for ever."""
    nonsense: bool = False
    """Another server answers, with a page for people."""
    watch_ends: int = 0
    """So many watches are cut after their next event, in the middle of a line."""


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    verb: str
    resource: str
    name: str
    at: float
    body: Json | None
    code: int


@dataclass
class _Change:
    version: int
    kind: str
    resource: str
    object: Json


class Cluster:
    """The objects, by resource, namespace and name. All of it is used from the server's loop, or under
    `lock`."""

    def __init__(self) -> None:
        self.version = 1000
        self.compacted = 1000
        """Changes up to here are forgotten."""
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.changes: list[_Change] = []
        self.lock = threading.RLock()

    def create(self, resource: str, namespace: str, given: Json) -> Json:
        """AlreadyExists is a 409 too."""
        name = given["metadata"]["name"]
        if (resource, namespace, name) in self.objects:
            raise StatusError(409, "AlreadyExists", f'{resource} "{name}" already exists')
        api_version, kind = KINDS[resource]
        made = copy.deepcopy(given) | {"apiVersion": api_version, "kind": kind}
        made["metadata"] |= {
            "namespace": namespace,
            "uid": f"uid-{self.version}-{name}",
            "creationTimestamp": _now(),
        }
        if resource == "pods":
            made["status"] = {"phase": "Pending"}  # whoever creates it can't say
        return self._store("ADDED", resource, made)

    def get(self, resource: str, namespace: str, name: str) -> Json:
        """404 if it is not there."""
        try:
            return self.objects[resource, namespace, name]
        except KeyError:
            raise StatusError(404, "NotFound", f'{resource} "{name}" not found') from None

    def update(self, resource: str, namespace: str, name: str, given: Json) -> Json:
        """409 unless it was made from the version that is there now."""
        now = self.get(resource, namespace, name)
        version = given["metadata"].get("resourceVersion")
        if version is not None and version != now["metadata"]["resourceVersion"]:
            raise StatusError(409, "Conflict", f'Operation cannot be fulfilled on {resource} "{name}"')
        changed = copy.deepcopy(given)
        changed["metadata"] = now["metadata"] | {
            key: value for key, value in given["metadata"].items() if key in ("labels", "annotations")
        }
        return self._store("MODIFIED", resource, changed)

    def patch(self, resource: str, namespace: str, name: str, patch: Json, part: str = "") -> Json:
        """A strategic merge patch; nothing happens if it changes nothing."""
        now = self.get(resource, namespace, name)
        uid = patch.get("metadata", {}).get("uid")
        if uid is not None and uid != now["metadata"]["uid"]:
            raise StatusError(422, "Invalid", f'Pod "{name}" is invalid: metadata.uid: field is immutable')
        changed = _merged(now, patch)
        if part:
            changed = now | {part: changed[part]}
        else:
            changed["status"] = now.get("status")
        if changed == now:
            return now
        metadata = changed["metadata"]
        if (
            metadata.get("deletionTimestamp")
            and now["metadata"].get("finalizers")
            and not metadata.get("finalizers")
        ):
            return self.finish(resource, namespace, name)
        return self._store("MODIFIED", resource, changed)

    def delete(self, resource: str, namespace: str, name: str) -> Json:
        """A pod is only marked at first, for the time that its node takes; `finish` takes it away."""
        now = self.get(resource, namespace, name)
        if resource != "pods":
            return self.finish(resource, namespace, name)
        return self._store("MODIFIED", resource, _with(now, deletionTimestamp=_now()))

    def finish(self, resource: str, namespace: str, name: str) -> Json:
        """It is gone."""
        gone = self.objects.pop((resource, namespace, name))
        self.version += 1
        gone = _with(gone, resourceVersion=str(self.version))
        self.changes.append(_Change(self.version, "DELETED", resource, gone))
        return gone

    def compact(self) -> None:
        """Forgets all changes so far: who watches from an older version gets 410."""
        self.version += 1
        self.compacted = self.version
        self.changes.clear()

    def _store(self, kind: str, resource: str, changed: Json) -> Json:
        self.version += 1
        changed["metadata"]["resourceVersion"] = str(self.version)
        metadata = changed["metadata"]
        self.objects[resource, metadata["namespace"], metadata["name"]] = changed
        self.changes.append(_Change(self.version, kind, resource, changed))
        return changed


class StandIn:
    """The server, in a thread of its own. `cluster` may be changed by tests: `with standin.cluster.lock`."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.faults = Faults()
        self.asked: list[Asked] = []
        self.watches = 0
        self.bookmark_seconds = 0.2
        self.port = 0

    @property
    def url(self) -> str:
        """Without TLS."""
        return f"http://127.0.0.1:{self.port}"

    def write_kubeconfig(self, path: Path) -> Path:
        """As a person would have it."""
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
        }  # fmt: skip
        path.write_text(json.dumps(config))
        return path

    def requests(self, verb: str, resource: str = "") -> list[Asked]:
        """Those so far."""
        return [each for each in self.asked if each.verb == verb and resource in ("", each.resource)]

    # The application

    def app(self) -> Starlette:
        """For a server."""
        core, groups = "/api/v1/namespaces/{namespace}", "/apis/coordination.k8s.io/v1/namespaces/{namespace}"
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return Starlette(
            routes=[
                Route(f"{root}/{{resource}}{rest}", self._answer, methods=methods)
                for root in (core, groups)
                for rest in ("", "/{name}", "/{name}/{part}")
            ]
        )

    async def _answer(self, request: Request) -> Response:
        path = {"name": "", "part": ""} | request.path_params
        resource = path["resource"] + (f"/{path['part']}" if path["part"] else "")
        verb = _verb(request, path["name"])
        body = json.loads(content) if (content := await request.body()) else None
        code = 200
        try:
            await self._misbehave(verb, resource, request)
            with self.cluster.lock:
                response = self._perform(verb, path, body, request)
        except StatusError as error:
            code = error.code
            headers = {"Retry-After": str(self.faults.retry_after_seconds)} if code == 429 else None
            response = JSONResponse(error.status, code, headers)
        self.asked.append(Asked(verb, resource, path["name"], time.monotonic(), body, code))
        return response

    async def _misbehave(self, verb: str, resource: str, request: Request) -> None:
        faults = self.faults
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            raise StatusError(401, "Unauthorized", "Unauthorized")
        if faults.hang:
            await asyncio.sleep(HANG_SECONDS)
            raise StatusError(504, "Timeout", "it took too long")
        if faults.unavailable:
            raise StatusError(503, "ServiceUnavailable", "the server is shutting down")
        if faults.too_many > 0:
            faults.too_many -= 1
            raise StatusError(429, "TooManyRequests", "too many requests, please try again later")
        if (verb, resource) in faults.forbidden:
            raise StatusError(403, "Forbidden", f'User "u" cannot {verb} resource "{resource}"')

    def _perform(self, verb: str, path: dict[str, str], body: Json | None, request: Request) -> Response:
        cluster, resource = self.cluster, path["resource"]
        place = (resource, path["namespace"], path["name"])
        if verb == "list":
            return self._list(resource, path["namespace"], request)
        if verb == "watch":
            return self._watch(resource, path["namespace"], request)
        if verb == "get":
            return self._object(cluster.get(*place))
        if verb == "delete":
            return self._object(cluster.delete(*place))
        assert body is not None, f"{verb} without a body"
        if verb == "create":
            return self._object(cluster.create(resource, path["namespace"], body), 201)
        if verb == "update":
            return self._object(cluster.update(*place, body))
        kind = request.headers["content-type"]
        if kind != "application/strategic-merge-patch+json":
            raise StatusError(415, "UnsupportedMediaType", f"{kind} is not supported here")
        return self._object(cluster.patch(*place, body, path["part"]))

    def _object(self, content: Json, status: int = 200) -> Response:
        if self.faults.nonsense:
            return HTMLResponse("<h1>Please log in</h1>\n")
        if not self.faults.dribble:
            return JSONResponse(content, status)

        async def drip() -> AsyncIterator[bytes]:
            while self.faults.dribble:
                yield b" "
                await asyncio.sleep(POLL_SECONDS)

        return StreamingResponse(drip(), media_type="application/json")

    def _list(self, resource: str, namespace: str, request: Request) -> Response:
        matches = _selector(request)
        items = [
            item
            for (of, where, _), item in self.cluster.objects.items()
            if (of, where) == (resource, namespace) and matches(item)
        ]
        version = str(self.cluster.version)
        return self._object({"kind": "List", "metadata": {"resourceVersion": version}, "items": items})

    def _watch(self, resource: str, namespace: str, request: Request) -> Response:
        since = int(request.query_params.get("resourceVersion") or self.cluster.version)
        seconds = float(request.query_params.get("timeoutSeconds") or 300)
        events = self._events(resource, namespace, _selector(request), since, seconds)
        bookmarks = request.query_params.get("allowWatchBookmarks") == "true"
        if self.faults.nonsense:
            return self._object({})
        return StreamingResponse(self._lines(events, bookmarks), media_type="application/json")

    async def _lines(self, events: AsyncIterator[Json], bookmarks: bool) -> AsyncIterator[bytes]:
        self.watches += 1
        try:
            async for event in events:
                if event["type"] == "BOOKMARK" and not bookmarks:
                    continue
                line = json.dumps(event).encode() + b"\n"
                if event["type"] != "BOOKMARK" and self.faults.watch_ends > 0:
                    self.faults.watch_ends -= 1
                    yield line[: len(line) // 2]
                    return
                yield line
        finally:
            self.watches -= 1

    async def _events(
        self, resource: str, namespace: str, matches: Callable[[Json], bool], since: int, seconds: float
    ) -> AsyncIterator[Json]:
        ends = time.monotonic() + seconds
        bookmark_at = time.monotonic() + self.bookmark_seconds
        while time.monotonic() < ends and not self.faults.unavailable:
            with self.cluster.lock:
                is_expired = since < self.cluster.compacted
                changes = [change for change in self.cluster.changes if change.version > since]
                version = self.cluster.version
            if is_expired:
                expired = StatusError(410, "Expired", f"too old resource version: {since} ({version})")
                yield {"type": "ERROR", "object": expired.status}
                return
            for change in changes:
                is_there = change.resource == resource and change.object["metadata"]["namespace"] == namespace
                if is_there and matches(change.object):
                    yield {"type": change.kind, "object": change.object}
            since = max(since, version)
            if time.monotonic() >= bookmark_at:
                bookmark_at = time.monotonic() + self.bookmark_seconds
                metadata = {"resourceVersion": str(since), "creationTimestamp": None}
                yield {
                    "type": "BOOKMARK",
                    "object": {"kind": "Pod", "apiVersion": "v1", "metadata": metadata},
                }
            await asyncio.sleep(POLL_SECONDS)


def _verb(request: Request, name: str) -> str:
    if request.method == "GET" and request.query_params.get("watch") == "true":
        return "watch"
    if request.method == "GET":
        return "get" if name else "list"
    return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[request.method]


def _selector(request: Request) -> Callable[[Json], bool]:
    """Equality only, as everybody uses it."""
    fields = _pairs(request.query_params.get("fieldSelector", ""))
    labels = _pairs(request.query_params.get("labelSelector", ""))

    def matches(content: Json) -> bool:
        metadata = content["metadata"]
        known = {"metadata.name": metadata["name"], "metadata.namespace": metadata["namespace"]}
        own = metadata.get("labels", {})
        return all(known[key] == value for key, value in fields.items()) and all(
            own.get(key) == value for key, value in labels.items()
        )

    return matches


def _with(content: Json, **metadata: str) -> Json:
    """A copy with other metadata."""
    return content | {"metadata": content["metadata"] | metadata}


def _pairs(selector: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in selector.split(",") if part)


def _merged(now: Any, patch: Any, name: str = "") -> Any:
    """A strategic merge: objects by field, null deletes, lists with a merge key by that key."""
    if isinstance(patch, dict):
        result = dict(now) if isinstance(now, dict) else {}
        for key, value in patch.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = _merged(result.get(key), value, key)
        return result
    if isinstance(patch, list) and name in MERGE_KEYS:
        key = MERGE_KEYS[name]
        items = {item[key]: item for item in now or ()}
        for item in patch:
            items[item[key]] = _merged(items.get(item[key]), item)
        return list(items.values())
    return copy.deepcopy(patch)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """It runs beside the tests."""
        yield


@contextmanager
def running_standin() -> Iterator[StandIn]:
    """One that answers; ended afterwards."""
    standin = StandIn()
    config = uvicorn.Config(
        standin.app(), port=0, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=0
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        assert time.monotonic() < deadline, "the stand-in does not start"
        time.sleep(POLL_SECONDS)
    standin.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield standin
    finally:
        standin.faults = Faults(unavailable=True)
        server.should_exit = True
        server.force_exit = True
        thread.join(START_SECONDS)
