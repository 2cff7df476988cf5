"""Rules that have to look at many filters: others have their turns meanwhile."""

from collections.abc import Iterator

import pytest

from broker.mqtt import Pingreq, Pingresp, Suback, Subscribe, SubscriptionRequest
from tests.limits.conftest import Limited
from tests.node.harness import running_node

FILTERS = 400
NOT_AUTHORIZED = 0x87
RULES = """
[[rules]]
effect = "deny"
filters = [{denied}]

[[rules]]
effect = "allow"
filters = ["#"]
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    """Rules by which a filter takes half a millisecond."""
    directory = tmp_path_factory.mktemp("guarded")
    denied = ", ".join(f'"+/+/{"+/" * (number % 8)}x{number}/+/y{number}"' for number in range(200))
    (directory / "rules.toml").write_text(RULES.format(denied=denied))
    environment = {"MOORLINE_AUTH__RULES_FILE": str(directory / "rules.toml")}
    with running_node(directory, environment=environment) as node:
        yield Limited(node, {})


def test_others_have_their_turns(guarded: Limited, name: str) -> None:
    with guarded.wire() as client, guarded.wire() as honest:
        client.connect(name)
        honest.connect(f"{name}-honest")
        requests = [SubscriptionRequest(f"x/{number}/+", 0) for number in range(FILTERS)]
        client.send(Subscribe(1, requests, None), Pingreq())
        rounds = 0
        while (answer := client.poll(0.001)) is None:
            honest.ping()
            rounds += 1
        assert rounds >= 5
        if isinstance(answer, Pingresp):  # which waits for no store, but for the rules
            answer = client.next()
        assert isinstance(answer, Suback)
        assert answer.reason_codes == [0] * FILTERS


def test_the_answer_is_the_same(guarded: Limited, name: str) -> None:
    with guarded.wire() as client:
        client.connect(name)
        suback = client.subscribe("x/1", "a/b/x0/+/y0", "x/2", "+/+/+/+/y0", "x/3", "x/4")
        assert suback.reason_codes == [0, NOT_AUTHORIZED, 0, NOT_AUTHORIZED, 0, 0]
        client.ping()
        assert client.publish("x/5", b"", 1) < 0x80
