"""A client that pings all the time, in a thread of its own: how long a node takes to answer, at worst."""

import threading
import time
from types import TracebackType
from typing import Self

from broker.mqtt import MQTT_3_1_1
from tests.node.harness import NodeProcess
from tests.node.wire import connected

_PAUSE_SECONDS = 0.05


class Pinger:
    """A context manager. `slowest`: seconds until the answer that took longest; `count`: of answers."""

    def __init__(self, node: NodeProcess) -> None:
        self._client = connected(node.port, "pinger", MQTT_3_1_1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.slowest = 0.0
        self.count = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_SECONDS):
            began = time.monotonic()
            self._client.ping()
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.count += 1
