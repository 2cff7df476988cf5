"""Between one node and Redis: a proxy that can cut, swallow and delay, and can stop the node at one of its
calls.

Theory of operation. Each connection of the node has one upstream connection. Bytes from the node are cut into
commands, bytes from Redis are counted as replies (hiredis), so the proxy knows which reply answers which
command; on connections with pushed messages (SUBSCRIBE) it does not try. A `Trap` says which call to wait
for: when that comes, the proxy calls `spring` (which stops the node) and holds the command, or lets Redis
carry it out and holds the reply. What is held goes on with `release`, or is thrown away if the node's
connection ends before: a node that was killed never sent it.

All runs in the loop of the test, so the stop is certain to come before anything else of that connection is
moved on.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, cast

import hiredis

from tests.cluster.resp import Splitter, incarnation, operations

BACKGROUND: Final = frozenset({"beat", "due", "dead_nodes", "join", "log_since"})
"""Operations that nodes do by themselves all the time: a trap does not count them unless it names them."""
_NO_REPLY: Final = object()


@dataclass
class Trap:
    """Springs at the `count`-th call that does one of `operations` (empty: any but the background's), before
    Redis gets it, or `after` it was carried out and before the node has the reply."""

    count: int
    spring: Callable[[], None]
    after: bool = False
    operations: frozenset[str] = frozenset()
    containing: bytes = b""  # in the call, anywhere
    seen: list[str] = field(default_factory=list)
    sprung: asyncio.Event = field(default_factory=asyncio.Event)

    def wants(self, command: bytes) -> bool:
        """Whether this call is the one. Counts."""
        if self.sprung.is_set() or len(self.seen) >= self.count or self.containing not in command:
            return False
        found = [name for name in operations(command) if self._counts(name)]
        if found:
            self.seen.append("+".join(dict.fromkeys(found)))
        return bool(found) and len(self.seen) == self.count

    def _counts(self, name: str) -> bool:
        return name in self.operations if self.operations else name not in BACKGROUND


class _Upstream(asyncio.Protocol):
    """The side of Redis."""

    def __init__(self, link: "_Link") -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link.upstream_made(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._link.from_redis(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.end()


class _Link(asyncio.Protocol):
    """The side of the node, and what is between the two."""

    def __init__(self, proxy: "Proxy") -> None:
        self._proxy = proxy
        self._node: asyncio.Transport | None = None
        self._redis: asyncio.Transport | None = None
        self._splitter = Splitter()
        self._replies = hiredis.Reader(notEnoughData=_NO_REPLY)
        self._counts_replies = True
        self._sent = 0  # commands
        self._answered = 0
        self._wanted_reply = 0  # the number of the command whose reply springs the trap; 0: none
        self._to_redis: deque[bytes] = deque()
        self._to_node: deque[bytes] = deque()
        self._holds = False
        self._is_over = False
        self._incarnation = ""

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._node = cast(asyncio.Transport, transport)
        self._proxy.links.add(self)
        if self._proxy.is_cut:
            self.end()
            return
        self._proxy.spawn(self._open())

    def data_received(self, data: bytes) -> None:
        for command in self._splitter.feed(data):
            self._counts_replies = self._counts_replies and b"SUBSCRIBE" not in command[:24]
            if not self._incarnation:
                self._incarnation = incarnation(command)
                self._proxy.incarnation = self._incarnation or self._proxy.incarnation
            self._to_redis.append(command)
        self._move_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()

    # Bytes

    async def _open(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: _Upstream(self), "127.0.0.1", self._proxy.redis_port
            )
        except OSError:
            self.end()

    def upstream_made(self, transport: asyncio.Transport) -> None:
        """Redis has accepted."""
        self._redis = transport
        if self._is_over:
            transport.abort()
        self._move_on()

    def from_redis(self, data: bytes) -> None:
        """Counts the replies; the trap springs if the wanted one is there."""
        self._to_node.append(data)
        if self._counts_replies:
            self._replies.feed(data)
            while self._replies.gets() is not _NO_REPLY:
                self._answered += 1
        if self._wanted_reply and self._answered >= self._wanted_reply:
            self._wanted_reply = 0
            self._spring()
        self._move_on()

    def release(self) -> None:
        """What is held goes on."""
        self._holds = False
        self._move_on()

    def end(self) -> None:
        """Both sides are closed; what is held is thrown away."""
        self._is_over = True
        self._proxy.links.discard(self)
        for transport in (self._node, self._redis):
            if transport is not None:
                transport.abort()

    def _move_on(self) -> None:
        if self._holds or self._is_over or self._proxy.is_black_hole:
            return
        while self._to_redis and self._redis is not None:
            trap = self._proxy.trap
            if trap is not None and trap.wants(self._to_redis[0]):
                if not trap.after:
                    self._spring()
                    return
                self._wanted_reply = self._sent + 1
            self._sent += 1
            self._pass(self._redis, self._to_redis.popleft())
        while self._to_node and self._node is not None and not self._wanted_reply:
            self._pass(self._node, self._to_node.popleft())

    def _spring(self) -> None:
        self._holds = True
        self._proxy.spring()

    def _pass(self, transport: asyncio.Transport, data: bytes) -> None:
        if not self._proxy.latency_seconds:
            transport.write(data)
        else:
            asyncio.get_running_loop().call_later(self._proxy.latency_seconds, _write, transport, data)


def _write(transport: asyncio.Transport, data: bytes) -> None:
    if not transport.is_closing():
        transport.write(data)


class Proxy:
    """Listens on a port of its own for one node."""

    def __init__(self, redis_port: int) -> None:
        self.redis_port = redis_port
        self.port = 0
        self.incarnation = ""  # of the node, from its calls
        self.links: set[_Link] = set()
        self.is_cut = False
        self.is_black_hole = False
        self.latency_seconds = 0.0
        self.trap: Trap | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """What the node is told."""
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listens."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Link(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Ends everything."""
        if self._server is not None:
            self._server.close()
        for link in list(self.links):
            link.end()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Resets all connections, and every new one."""
        self.is_cut = True
        self.reset()

    def swallow(self) -> None:
        """Takes everything and moves nothing on."""
        self.is_black_hole = True

    def reset(self) -> None:
        """Ends the connections there are; what is held is thrown away."""
        for link in list(self.links):
            link.end()

    def mend(self) -> None:
        """Works again, without delay and without a trap."""
        self.is_cut = self.is_black_hole = False
        self.latency_seconds = 0.0
        self.trap = None
        self.release()

    def mend_soon(self) -> None:
        """`mend`, from another thread than the proxy's."""
        if self._server is not None:
            self._server.get_loop().call_soon_threadsafe(self.mend)

    def release(self) -> None:
        """What was held goes on."""
        for link in list(self.links):
            link.release()

    def spring(self) -> None:
        """The trap's call has come."""
        trap = self.trap
        if trap is not None and not trap.sprung.is_set():
            trap.spring()
            trap.sprung.set()

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Runs what opens a connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextmanager
def running_proxy(redis_port: int) -> Iterator[Proxy]:
    """In a thread with a loop of its own, for tests without one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    proxy = Proxy(redis_port)
    try:
        asyncio.run_coroutine_threadsafe(proxy.start(), loop).result()
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
