"""The node that forwards is killed: another one goes on, and nothing is lost."""

import signal
import time
from pathlib import Path

import pytest

from tests.cluster.conftest import running_nodes
from tests.forwarding.conftest import forward, shown, wait_until
from tests.forwarding.hook import Hook
from tests.node.redis_server import running_redis
from tests.node.wire import connected

MESSAGES = 300
BATCH = 10


@pytest.mark.timeout(60)
@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_nothing_is_lost_and_the_order_is_kept(tmp_path: Path, hook: Hook, fault: str) -> None:
    """What comes twice has the same key, and no other has it."""
    environment = forward("it", kind="webhook", url=hook.url, topics="t/#", batch=BATCH, in_flight=20)
    hook.delay_seconds = 0.003 * BATCH
    with (
        running_redis(tmp_path / "redis") as server,
        running_nodes(tmp_path, server.url, 2, environment) as nodes,
    ):
        wait_until(nodes[0], "it", lambda status: status["state"] == "running")
        having = shown(nodes[0], "it")["node"].split(".")[0]
        victim, other = sorted(nodes, key=lambda node: node.directory.name != having)
        with connected(other.port, "publisher") as publisher:
            for number in range(MESSAGES):
                publisher.publish("t/x", b"%d" % number, 1)
                if number == MESSAGES // 3:
                    hook.wait_for(20 // BATCH)
                    victim.kill() if fault == "kill" else victim.freeze()
                    killed = time.monotonic()
        hook.wait_until(lambda: _payloads(hook)[-1:] == [str(MESSAGES - 1)], seconds=20.0)
        assert time.monotonic() - killed < 15.0
        if fault == "freeze":
            victim.send_signal(signal.SIGCONT)
            wait_until(victim, "it", lambda status: status["state"] == "running")
        assert shown(other, "it")["node"].startswith(other.directory.name)
    messages = [
        message for posted in hook.posted for message in posted.document.get("messages", [posted.document])
    ]
    payloads = {message["id"]: message["payload"] for message in messages}
    assert list(payloads.values()) == [str(number) for number in range(MESSAGES)]
    assert len(payloads) == len({(message["id"], message["payload"]) for message in messages})
    assert len(messages) <= MESSAGES + 40


def _payloads(hook: Hook) -> list[str]:
    last = hook.posted[-1].document if hook.posted else {}
    return [message["payload"] for message in last.get("messages", [last] if last else [])]
