"""Shared Subscriptions [4.8.2]. More of them is in tests/cluster/test_shared.py."""

import pytest

from broker.mqtt import Properties, Puback, Publish, Pubrec, Pubrel
from tests.conformance.clauses import v5
from tests.conformance.flow import Flow
from tests.node.wire import WireClient

REFUSED = 0x80
WAIT_SECONDS = 0.3


def _member(flow: Flow, suffix: str, *, is_far: bool, qos: int = 2, keeps: bool = True) -> WireClient:
    member = (flow.far if is_far else flow.near)(suffix, keeps=keeps)
    assert member.subscribe(f"$share/g/{flow.name('#')}", qos=qos).reason_codes == [qos]
    return member


@v5("4.8.2-1", "4.8.2-2", "4.8.2-3")
@pytest.mark.parametrize("granted", [0, 1])
def test_granted_qos_counts(flow: Flow, granted: int) -> None:
    """Each message goes to one member, at no more than it was granted."""
    members = [_member(flow, str(each), is_far=bool(each), qos=granted) for each in range(2)]
    publisher = flow.near("publisher")
    for number in range(6):
        publisher.publish(flow.name("t"), str(number).encode(), 2)
    got: list[Publish] = []
    for _ in range(100):
        for member in members:
            packet = member.poll(0.02)
            if isinstance(packet, Publish):
                got.append(packet)
                if packet.qos:
                    member.send(Puback(packet.packet_id))
        if len(got) == 6:
            break
    assert sorted(message.payload for message in got) == [str(each).encode() for each in range(6)]
    assert all(message.qos == granted for message in got)


@v5("4.8.2-4")
def test_begun_qos_2_is_completed_with_its_member(flow: Flow) -> None:
    """One whose PUBLISH it has, and one whose PUBREC has come; on the other half."""
    member = _member(flow, "member", is_far=True)
    publisher = flow.near("publisher")
    for payload in (b"1", b"2"):
        publisher.publish(flow.name("t"), payload, 2)
    first, second = member.expect(Publish), member.expect(Publish)
    member.send(Pubrec(first.packet_id))
    assert member.expect(Pubrel).packet_id == first.packet_id
    other = _member(flow, "other", is_far=False)
    member.close()
    other.assert_silence(WAIT_SECONDS)
    back = flow.near("member", keeps=True)
    assert back.expect(Pubrel).packet_id == first.packet_id
    again = back.message()
    assert (again.packet_id, again.payload, again.dup) == (second.packet_id, b"2", True)


@v5("4.8.2-5")
def test_begun_qos_2_ends_with_the_session(flow: Flow) -> None:
    member = _member(flow, "member", is_far=True)
    publisher = flow.near("publisher")
    publisher.publish(flow.name("t"), b"begun", 2)
    member.expect(Publish)
    other = _member(flow, "other", is_far=False)
    member.disconnect(properties=Properties(session_expiry_interval=0))
    publisher.publish(flow.name("t"), b"next", 2)
    assert other.message().payload == b"next"
    other.assert_silence(WAIT_SECONDS)


@v5("4.8.2-6")
@pytest.mark.parametrize("qos", [1, 2])
def test_refused_message_goes_to_nobody(flow: Flow, qos: int) -> None:
    member = _member(flow, "member", is_far=True, qos=qos)
    publisher = flow.near("publisher")
    publisher.publish(flow.name("t"), b"refused", qos)
    packet_id = member.expect(Publish).packet_id
    other = _member(flow, "other", is_far=False, qos=qos)
    member.send(Puback(packet_id, REFUSED) if qos == 1 else Pubrec(packet_id, REFUSED))
    assert member.ping() == []
    member.unsubscribe(f"$share/g/{flow.name('#')}")
    publisher.publish(flow.name("t"), b"next", qos)
    assert other.message().payload == b"next"
    other.assert_silence(WAIT_SECONDS)


@v5("3.10.4-1", "3.10.4-2")
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("keeps", [False, True])
def test_who_unsubscribes_is_given_nothing_more(flow: Flow, qos: int, keeps: bool) -> None:
    """From UNSUBACK on all is for the others; a plain filter of the group's name is another subscription."""
    leaving = _member(flow, "leaving", is_far=True, qos=qos, keeps=keeps)
    staying = _member(flow, "staying", is_far=False, qos=qos, keeps=keeps)
    staying.unsubscribe(f"g/{flow.name('#')}")
    leaving.unsubscribe(f"$share/g/{flow.name('#')}")
    publisher = flow.near("publisher")
    for number in range(6):
        publisher.publish(flow.name("t"), str(number).encode(), qos)
    assert sorted(staying.payloads(6)) == [str(each).encode() for each in range(6)]
    assert leaving.ping() == []
