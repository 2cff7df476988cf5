"""What is left out where the client said so: Reason Strings, User Properties, packets that are too large
[MQTT 5: 3.1.2.11]."""

import pytest

from broker.mqtt import (
    MQTT_5,
    Disconnect,
    Packet,
    Properties,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
    encode,
)
from tests.conformance.clauses import v5
from tests.conformance.flow import Flow
from tests.conformance.malformed.case import packet
from tests.node.wire import WireClient

SMALL = 32
SPARED = ("3.4.2", "3.5.2", "3.6.2", "3.7.2")
OUT_OF_REASON = [f"{chapter}-{number}" for chapter in SPARED for number in (2, 3)]
OUT_OF_REASON += [f"{chapter}-{number}" for chapter in ("3.9.2", "3.11.2") for number in (1, 2)]


def _answers(flow: Flow, client: WireClient) -> list[Packet]:
    """One of each answer, most of them with something to complain about."""
    far = flow.name("$share/g/+/" * 3)[:60]
    client.send(
        Publish(flow.name("t")[:8], b"", 1, False, False, 1),
        Publish(flow.name("t")[:8], b"", 2, False, False, 2),
        Pubrel(3),
        Pubrec(4),
        Subscribe(5, [SubscriptionRequest("/".join("a" * 200), 1), SubscriptionRequest(far, 1)]),
        Unsubscribe(6, [far, "none"]),
    )
    answers = [client.next() for _ in range(6)]
    assert {answer.packet_type for answer in answers} == {4, 5, 6, 7, 9, 11}
    return answers


@v5(*OUT_OF_REASON, "3.1.2-24", "3.4.2-1", "3.5.2-1", "3.6.2-1", "3.7.2-1")
def test_answers_fit_the_client(flow: Flow) -> None:
    client = flow.near(properties=Properties(maximum_packet_size=SMALL))
    for answer in _answers(flow, client):
        assert len(encode(answer, MQTT_5)) <= SMALL, answer


@v5("3.1.2-29")
def test_no_problem_information_but_at_the_end(flow: Flow) -> None:
    client = flow.near(properties=Properties(request_problem_information=0))
    for answer in _answers(flow, client):
        properties: Properties | None = getattr(answer, "properties", None)
        assert properties is None or (properties.reason_string, properties.user_property) == (None, ()), (
            answer
        )
    client.send_bytes(packet(0x00))
    (last,) = client.wait_closed()
    assert isinstance(last, Disconnect)


@v5("3.1.2-24", "3.1.2-25")
def test_answer_that_does_not_fit_ends_the_connection(flow: Flow) -> None:
    """A SUBACK can't be made shorter, and can't be left out in silence."""
    client = flow.near(properties=Properties(maximum_packet_size=SMALL))
    client.send(Subscribe(1, [SubscriptionRequest(flow.name(str(each)), 0) for each in range(SMALL)]))
    (last,) = client.wait_closed()
    assert isinstance(last, Disconnect)
    assert last.reason_code == 0x95
    assert len(encode(last, MQTT_5)) <= SMALL


@v5("3.1.2-29", "3.3.2-17")
def test_user_properties_of_messages_stay(flow: Flow) -> None:
    """Request Problem Information 0 is not about what others publish."""
    subscriber = flow.far("subscriber", properties=Properties(request_problem_information=0))
    subscriber.subscribe(flow.name("t"), qos=1)
    sent = Properties(user_property=(("k", "v"),))
    flow.near("publisher").publish(flow.name("t"), b"x", 1, properties=sent)
    assert subscriber.message().properties == sent


@v5("3.9.3-2", "3.8.4-7")
@pytest.mark.parametrize("levels", [128, 129])
def test_deep_filters_are_refused(flow: Flow, levels: int) -> None:
    client = flow.near()
    client.send(Subscribe(1, [SubscriptionRequest("/".join("a" * levels), 1)]))
    assert client.expect(Suback).reason_codes == [1 if levels <= 128 else 0x8F]


@v5("4.4.0-2", "4.9.0-3")
def test_answer_to_nothing_is_harmless(flow: Flow) -> None:
    """PUBACK for what was never sent."""
    client = flow.near()
    client.send(Puback(7))
    assert client.ping() == []
