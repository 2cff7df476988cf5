"""Several nodes in one command, under test."""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import psutil
import redis
from prometheus_client.parser import text_string_to_metric_families

from cluster.store import keys
from tests.node.harness import NodeProcess
from tests.node.wire import HOUR, WireClient, connected

NAMES = {"crew-1", "crew-2"}
TWO = ("--workers", "2", "--node-name", "crew")


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Asks again and again."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def workers_of(crew: NodeProcess) -> dict[str, psutil.Process]:
    """The processes of the workers, by their names."""
    found = {}
    for child in psutil.Process(crew.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            command = child.cmdline()
            if command[-2:-1] == ["worker"]:
                found[command[-1]] = child
    return found


def family_of(crew: NodeProcess) -> list[psutil.Process]:
    """Everything that has to be gone when it ends."""
    return psutil.Process(crew.pid).children(recursive=True)


def node_of(crew: NodeProcess, client_id: str) -> str:
    """The worker that took this client's last connection."""
    events = [event for event in crew.events("connected") if event["client_id"] == client_id]
    return str(events[-1]["node_id"])


def connected_to(crew: NodeProcess, name: str, prefix: str) -> tuple[str, WireClient]:
    """A client with a persistent session on this worker, and its id; the kernel chooses, so we try."""
    for attempt in range(100):
        client_id = f"{prefix}{attempt}"
        client = connected(crew.port, client_id, properties=HOUR)
        wait_until(partial(_is_logged, crew, client_id))
        if node_of(crew, client_id) == name:
            return client_id, client
        client.close()
    raise AssertionError(f"no connection reaches {name}")


def samples_of(crew: NodeProcess, name: str) -> dict[str, float]:
    """The values of a metric, by worker; "" is the parent's own."""
    return {
        sample.labels.get("worker", ""): sample.value
        for family in text_string_to_metric_families(crew.get("/metrics").text)
        for sample in family.samples
        if sample.name == name
    }


def restarts_of(crew: NodeProcess, worker: str) -> float:
    """How often it has been started again."""
    return samples_of(crew, "moorline_worker_restarts_total").get(worker, 0.0)


def wait_for_replacement(crew: NodeProcess, worker: str, restarts: float) -> None:
    """Until the worker has been started again, which it was so often before, and all are up."""
    wait_until(lambda: restarts_of(crew, worker) == restarts + 1)
    wait_until(lambda: samples_of(crew, "moorline_worker_up") == dict.fromkeys(NAMES, 1.0))


def members_of(client: redis.Redis) -> set[str]:
    """Incarnations."""
    return {name.decode() for name in cast(list[bytes], client.zrange(keys.nodes("mq:"), 0, -1))}


def _is_logged(crew: NodeProcess, client_id: str) -> bool:
    return any(event["client_id"] == client_id for event in crew.events("connected"))
