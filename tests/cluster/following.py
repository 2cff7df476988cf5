"""Follows a stream of the admin API in a thread, and keeps what it says."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import httpx

from tests.node.harness import NodeProcess
from tests.tools import NO_TLS

SECONDS: Final = 10.0

Event = tuple[str, dict[str, Any]]


class Following:
    """What has come so far: the kind of each event, and what it says."""

    def __init__(self, response: httpx.Response) -> None:
        self.headers = response.headers
        self.events: list[Event] = []
        self.ids: list[str] = []
        self.has_ended = False
        self._response = response
        self._changed = threading.Condition()

    def read(self) -> None:
        """To the end, or until the response is closed."""
        kind = ""
        try:
            for line in self._response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "id":
                    self.ids.append(value)
                elif name == "data":
                    self._add((kind, json.loads(value)))
        except httpx.HTTPError:
            return
        with self._changed:
            self.has_ended = True
            self._changed.notify_all()

    def _add(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What those of one kind say."""
        return [said for each, said in self.events if each == kind]

    def wait_until(self, condition: Callable[[], bool], seconds: float = SECONDS) -> None:
        """Until it holds; it may look at what has come."""
        with self._changed:
            assert self._changed.wait_for(condition, seconds), self.events

    def wait_for(self, kind: str, **fields: object) -> dict[str, Any]:
        """The first of this kind that says so."""

        def found() -> list[dict[str, Any]]:
            return [said for said in self.of(kind) if fields.items() <= said.items()]

        self.wait_until(lambda: bool(found()))
        return found()[0]


@contextmanager
def following(node: NodeProcess, path: str, headers: dict[str, str] | None = None) -> Iterator[Following]:
    """A stream below `/api/v1`, from when it is open."""
    url = f"http://127.0.0.1:{node.admin_port}/api/v1{path}"
    with httpx.Client(trust_env=False, verify=NO_TLS, timeout=SECONDS * 2) as client:
        request = client.build_request("GET", url, headers=headers)
        response = client.send(request, stream=True)
        assert response.status_code == 200, response.read()
        follower = Following(response)
        thread = threading.Thread(target=follower.read)
        thread.start()
        try:
            yield follower
        finally:
            sock = response.extensions["network_stream"].get_extra_info("socket")
            _shut(sock)
            thread.join(SECONDS)
            response.close()
    assert not thread.is_alive()


def _shut(sock: socket.socket) -> None:
    """Wakes whoever reads it."""
    with suppress(OSError):  # it has ended
        sock.shutdown(socket.SHUT_RDWR)


def packets(follower: Following, *names: str) -> Sequence[tuple[str, str]]:
    """Direction and kind of the packets, or of those that are named."""
    return [
        (said["direction"], said["packet"])
        for said in follower.of("packet")
        if not names or said["packet"] in names
    ]


def wait_until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """For what nobody tells."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
