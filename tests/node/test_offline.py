"""Messages for clients that are away outlive the node and its private Redis, both killed by kill -9.

`MOORLINE_OFFLINE_MESSAGES` is the number of messages for each of the 20 sessions, 1,000 if not set.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.node.harness import running_node
from tests.node.model import Publisher, Subscriber, receive_no_more

SESSIONS = 20
MESSAGES = int(os.environ.get("MOORLINE_OFFLINE_MESSAGES", "1000"))
SECONDS = 20 + SESSIONS * MESSAGES / 500
THREADS = 4


def _payloads(session: int) -> list[bytes]:
    return [b"%02d %06d" % (session, i) for i in range(MESSAGES)]


def _receive_rest(subscriber: Subscriber) -> None:
    subscriber.receive(MESSAGES)


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("qos", [1, 2])
def test_offline_messages_survive(tmp_path: Path, qos: int) -> None:
    """0 lost, in order; at QoS 2 none twice. The node dies while they are stored, when all are stored, and
    while they are fetched."""
    with running_node(tmp_path, environment={"MOORLINE_SESSION__QUEUE_LIMIT": "100000"}) as node:
        subscribers = [Subscriber(node, f"session-{number}") for number in range(SESSIONS)]
        for number, subscriber in enumerate(subscribers):
            subscriber.sender_repeats = True
            subscriber.subscribe(f"offline/{number}", qos)
            subscriber.lose()
        messages = [
            (f"offline/{number}", payload)
            for payloads in zip(*[_payloads(number) for number in range(SESSIONS)], strict=True)
            for number, payload in enumerate(payloads)
        ]
        half = len(messages) // 2
        with Publisher(node, "publisher") as publisher:
            publisher.publish(messages[:half], qos, window=500)
            node.kill_all()
            node.start()
            publisher.publish(messages[half:], qos, window=500)
        node.kill_all()
        node.start()
        for number in range(0, SESSIONS, 2):  # half of the sessions have begun when the node dies again
            subscribers[number].receive(MESSAGES // 4)
        node.kill_all()
        for subscriber in subscribers:
            subscriber.lose()  # some may have had all they wait for, and would not notice
        node.start()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(_receive_rest, subscribers))
        receive_no_more(*subscribers)
        for number, subscriber in enumerate(subscribers):
            assert subscriber.received == _payloads(number)


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_new"])
def test_full_queue(tmp_path: Path, policy: str) -> None:
    """A queue keeps its limit, drops by its policy."""
    environment = {"MOORLINE_SESSION__QUEUE_LIMIT": "50", "MOORLINE_SESSION__QUEUE_POLICY": policy}
    with (
        running_node(tmp_path, environment=environment) as node,
        Subscriber(node, "away") as away,
        Publisher(node, "publisher") as publisher,
    ):
        away.subscribe("t", 1)
        away.lose()
        publisher.publish([("t", b"%03d" % i) for i in range(80)], 1)
        kept = range(30, 80) if policy == "drop_oldest" else range(50)
        away.receive(50)
        away.receive_no_more()
        assert away.received == [b"%03d" % i for i in kept]
        publisher.publish([("t", b"later")], 1)
        away.receive(51)
        assert away.received[-1] == b"later"
