"""What a session tells those who look at it: exchanges that are open, and how long acknowledgements take."""

import pytest

from broker.session import Delivery, Drops
from broker.session.drops import PROBES_MAXIMUM
from broker.session.inbound import Inbound
from tests.session.wire import Link, message

SENT, STORING, RELEASED = range(3)
RECEIVED, ROUTED, RELEASING = range(3)


def test_the_acknowledgement_of_what_was_sent_last_is_timed() -> None:
    link = Link()
    outbound = link.direct(window=4)
    outbound.deliver(message(b"a"), 1, False)
    outbound.deliver(message(b"b"), 1, False)
    link.clock.now_ms = 1000
    assert outbound.probe()
    assert not outbound.puback(3)
    link.clock.now_ms = 1025
    assert outbound.puback(1)
    assert link.drops.take_probed() == []
    assert outbound.puback(2)
    assert not outbound.puback(2)
    assert link.drops.take_probed() == [25]
    assert link.drops.take_probed() == []
    assert outbound.quota == 4


@pytest.mark.parametrize("qos", [0, 2])
def test_only_qos_1_is_timed(qos: int) -> None:
    link = Link()
    outbound = link.direct(window=4)
    assert not outbound.probe()
    outbound.deliver(message(b"a"), 1, False)
    link.take()
    if qos == 0:
        outbound.deliver_at_most_once(message(b"b"), False)
    else:
        outbound.deliver(message(b"b"), qos, False)
    assert not outbound.probe()


def test_a_client_may_acknowledge_what_has_not_left() -> None:
    """Then there is nothing to time, or nothing of that kind."""
    link = Link()
    outbound = link.direct(window=4)
    outbound.deliver(message(b"a"), 2, False)
    outbound.deliver(message(b"b"), 1, False)
    assert outbound.puback(2)
    assert not outbound.probe()
    assert outbound.exchanges() == [(SENT, 1, 1)]
    assert outbound.pubrec(1, 0x80)
    assert not outbound.probe()


def test_what_is_timed_is_no_other_exchange() -> None:
    """A PUBREC does not end it, and neither does a PUBCOMP."""
    link = Link()
    outbound = link.direct(window=4)
    outbound.deliver(message(b"a"), 1, False)
    assert outbound.probe()
    assert not outbound.pubrec(1, 0)
    assert not outbound.pubcomp(1)
    assert outbound.exchanges() == []
    assert outbound.puback(1)


def test_probes_are_bounded() -> None:
    drops = Drops()
    for number in range(PROBES_MAXIMUM + 1):
        drops.begin_probe("client", number, 0)
    drops.end_probe("client", 0, 5)  # forgotten
    drops.end_probe("client", PROBES_MAXIMUM, 7)
    assert drops.take_probed() == [7]


def test_open_exchanges_to_the_client() -> None:
    link = Link()
    outbound = link.direct(window=8)
    for payload in (b"a", b"b", b"c"):
        outbound.deliver(message(payload), 2, False)
    outbound.deliver(message(b"d"), 1, False)
    assert outbound.exchanges() == [(SENT, 1, 1), (SENT, 2, 2), (SENT, 3, 3)]
    outbound.pubrec(1, 0)
    assert outbound.exchanges() == [(SENT, 2, 2), (SENT, 3, 3), (RELEASED, 1, 1)]
    outbound.pubcomp(1)
    outbound.pubrec(2, 0x80)
    assert outbound.exchanges() == [(SENT, 3, 3)]
    assert link.drops.completed_out == 1


def test_open_exchanges_of_a_persistent_session() -> None:
    link = Link()
    outbound = link.queued(window=8, n=1, sent=1, hi=8, released=[1])
    assert outbound.exchanges() == [(RELEASED, 1, 1)]
    outbound.pubcomp(1)
    assert outbound.exchanges() == []  # its end is being stored
    assert link.drops.completed_out == 1


def test_a_pubrec_that_is_being_stored() -> None:
    link = Link()
    outbound = link.queued(window=8, hi=8)
    outbound.take(Delivery(message(b"a"), 2, False, (), outbound.gen, 1))
    outbound.pubrec(1, 0)
    assert outbound.exchanges() == [(STORING, 1, 1)]


def test_open_exchanges_from_the_client() -> None:
    inbound = Inbound(None)
    assert not inbound.has_exchanges()
    inbound.restore(9, b"token", is_routed=False)
    inbound.restore(8, b"", is_routed=True)
    inbound.begin(1)
    assert inbound.has_exchanges()
    assert inbound.exchanges() == [(ROUTED, 8), (RECEIVED, 1), (RECEIVED, 9)]
    inbound.begin(9)
    inbound.settle(1)
    assert inbound.exchanges() == [(ROUTED, 8), (ROUTED, 1), (RECEIVED, 9)]


def test_an_exchange_is_found_again_until_it_ends() -> None:
    link = Link()
    outbound = link.direct(window=8)
    for qos in (2, 1):
        outbound.deliver(message(b"a"), qos, False)
    assert outbound.has_exchange(1, 1)
    assert not outbound.has_exchange(1, 2)
    assert not outbound.has_exchange(2, 2)  # at QoS 1
    outbound.pubrec(1, 0)
    assert outbound.has_exchange(1, 1)
    outbound.pubcomp(1)
    assert not outbound.has_exchange(1, 1)
    inbound = Inbound(None)
    inbound.restore(9, b"token", is_routed=False)
    inbound.begin(1)
    assert inbound.has_exchange(9, RECEIVED)
    assert not inbound.has_exchange(9, ROUTED)
    assert inbound.has_exchange(1, RECEIVED)
    assert not inbound.has_exchange(2, RECEIVED)
    inbound.settle(1)
    assert inbound.has_exchange(1, ROUTED)


def test_drops_at_qos_0_are_counted_apart() -> None:
    drops = Drops()
    drops.add(1, "a", "t", "expired", 0)
    drops.add(1, "a", "t", "expired", 2)
    assert (drops.counts, drops.at_qos0) == ({"expired": 2}, {"expired": 1})


def test_refusals_are_counted_by_packet_and_reason() -> None:
    drops = Drops()
    drops.refuse(4, 0x97)
    drops.refuse(4, 0x97)
    drops.refuse(5, 0x87)
    assert drops.refused == {(4, 0x97): 2, (5, 0x87): 1}
