"""What nodes say of themselves, also those of other releases."""

import pytest

from cluster import node_info
from cluster.node_info import NodeInfo


def test_what_is_said_is_read() -> None:
    info = NodeInfo("n", "1.0", ["127.0.0.1:1883"], "127.0.0.1:8080", 3, 2, 1_700_000_000_000, True)
    assert node_info.unpack(info.pack()) == info
    assert node_info.unpack(NodeInfo().pack()) == NodeInfo()


def test_other_releases_say_less_or_more() -> None:
    assert node_info.unpack(b'{"name": "n", "mood": "good"}') == NodeInfo("n")


@pytest.mark.parametrize("record", [b"", b"no JSON", b"[]", b'{"sessions": "many"}', b"\xff"])
def test_what_can_not_be_understood(record: bytes) -> None:
    assert node_info.unpack(record) is None
