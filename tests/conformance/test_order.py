"""Message ordering [4.6]."""

import pytest

from broker.mqtt import Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.conformance.clauses import v3, v5
from tests.conformance.flow import Flow

COUNT = 30


@v5("4.6.0-5", "4.6.0-6")
@v3("4.6.0-5", "4.6.0-6")
@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_order_of_one_publisher(flow: Flow, qos: int, keeps: bool) -> None:
    """All sent in one piece."""
    subscriber = flow.far("subscriber", keeps=keeps)
    subscriber.subscribe(flow.name("t"), qos=qos)
    publisher = flow.near("publisher")
    flow.open_way(publisher, subscriber, flow.name("t"))
    numbers = range(1, COUNT + 1)
    publisher.send(
        *[
            Publish(flow.name("t"), str(each).encode(), qos, False, False, each if qos else 0)
            for each in numbers
        ]
    )
    assert subscriber.payloads(COUNT) == [str(each).encode() for each in numbers]


@v5("4.6.0-5", "4.6.0-6")
@v3("4.6.0-1", "4.6.0-6")
@pytest.mark.parametrize("qos", [1, 2])
def test_order_over_a_resume(flow: Flow, qos: int) -> None:
    """Some were sent and are sent again, some have waited, some come later."""
    subscriber = flow.far("subscriber", keeps=True)
    subscriber.subscribe(flow.name("t"), qos=qos)
    publisher = flow.near("publisher")
    expected = [str(each).encode() for each in range(9)]
    for payload in expected[:3]:
        publisher.publish(flow.name("t"), payload, qos)
    for payload in expected[:3]:
        assert subscriber.expect(Publish).payload == payload
    subscriber.close()
    for payload in expected[3:6]:
        publisher.publish(flow.name("t"), payload, qos)
    back = flow.near("subscriber", keeps=True)
    for payload in expected[6:]:
        publisher.publish(flow.name("t"), payload, qos)
    assert back.payloads(9) == expected


@v5("4.6.0-2", "4.6.0-3")
@v3("4.6.0-2", "4.6.0-3")
@pytest.mark.parametrize("keeps", [False, True])
def test_order_of_answers(flow: Flow, keeps: bool) -> None:
    """PUBACK and PUBREC each in the order of their PUBLISH, whether it is taken or not; and then PUBCOMP."""
    subscriber = flow.far("subscriber")
    subscriber.subscribe(flow.name("#"), qos=0)
    publisher = flow.near("publisher", keeps=keeps)
    ids = [3, 1, 4, 15, 9, 2, 6, 5]
    topics = {4: "$SYS/4", 9: "$SYS/9", 2: "$delayed/never/2"}
    publisher.send(
        *[
            Publish(topics.get(each, flow.name(str(each))), b"", 1 + each % 2, False, False, each)
            for each in ids
        ]
    )
    answers = [publisher.next() for _ in ids]
    assert _ids(answers, Puback) == [each for each in ids if each % 2 == 0]
    assert _ids(answers, Pubrec) == [each for each in ids if each % 2]
    received = [each for each in ids if each % 2 and each not in topics]
    publisher.send(*[Pubrel(each) for each in received])
    assert _ids([publisher.next() for _ in received], Pubcomp) == received


@v5("4.6.0-4")
@v3("4.6.0-4")
def test_order_of_pubrel(flow: Flow) -> None:
    """In the order in which PUBREC came, which is the client's choice."""
    subscriber = flow.far("subscriber")
    subscriber.subscribe(flow.name("t"), qos=2)
    publisher = flow.near("publisher")
    for _ in range(3):
        publisher.publish(flow.name("t"), b"", 2)
    ids = [subscriber.expect(Publish).packet_id for _ in range(3)]
    chosen = [ids[2], ids[0], ids[1]]
    subscriber.send(*[Pubrec(each) for each in chosen])
    assert [subscriber.expect(Pubrel).packet_id for _ in chosen] == chosen


def _ids(answers: list[Packet], kind: type[Puback] | type[Pubrec] | type[Pubcomp]) -> list[int]:
    return [each.packet_id for each in answers if isinstance(each, kind)]
