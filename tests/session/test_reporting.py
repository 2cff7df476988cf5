"""Sessions that tell who has acknowledged what, and what was dropped."""

import pytest

from broker.session import Delivery, Message, QueuedOutbound, Reports, Session, Taken
from broker.session.direct import DirectOutbound
from broker.session.session import Intake, QueueState, SendingLimits
from tests.session.wire import Link, Silent, entry

REFUSED = 0x83


class Told:
    """A node that wants to know; `link.drops` are its reports."""

    def __init__(self) -> None:
        self.dropped: list[tuple[str, str, str, int, bytes]] = []
        self.taken: list[Taken] = []
        self.link = Link()
        self.reports = Reports(lambda *drop: self.dropped.append(drop), self.taken.append)

    def session(self, queue: QueueState | None, *, maximum_packet_size: int = 0) -> Session:
        """As a node makes it."""
        link = self.link
        return Session(
            "client",
            7,
            3,
            5,
            self.reports,
            link.outbox,
            Intake(Silent(), 5, 10, 1 << 20, link.resumable),
            link.clock,
            SendingLimits(10, maximum_packet_size, 2, True),
            queue,
            60_000,
            link.changed,
        )

    def queued(self, *, maximum_packet_size: int = 0) -> QueuedOutbound:
        """Of a new persistent session."""
        session = self.session(QueueState(1, 0, 0, 10, (), (), True), maximum_packet_size=maximum_packet_size)
        assert session.queued is not None
        return session.queued

    def direct(self, *, maximum_packet_size: int = 0) -> DirectOutbound:
        """Of one that ends with its connection."""
        session = self.session(None, maximum_packet_size=maximum_packet_size)
        assert session.direct is not None
        return session.direct


CORRELATION = b"\x09\x00\x01c"


def _message(topic: str = "t", properties: bytes = b"") -> Message:
    return Message(topic, b"payload", 2, False, properties)


def test_an_acknowledgement_counts_when_its_report_is_stored() -> None:
    told = Told()
    outbound = told.queued()
    outbound.take(entry(1, topic="a"))
    assert told.taken == []
    assert outbound.puback(1)
    (taken,) = told.taken
    assert (taken.client_id, taken.topic, taken.qos) == ("client", "a", 1)
    assert repr(taken) == "Taken('client', 'a', qos=1)"
    assert (outbound.take_acknowledged(), outbound.quota) == ([], 9)
    taken.stored()
    assert (outbound.take_acknowledged(), outbound.quota) == ([1, 1], 10)
    assert not outbound.puback(1)


def test_a_pubrec_counts_when_its_report_is_stored_however_often_it_comes() -> None:
    told = Told()
    outbound = told.queued()
    outbound.take(entry(1, qos=2))
    assert outbound.pubrec(1, 0)
    assert outbound.pubrec(1, 0)
    assert outbound.take_releasing() == []
    (taken,) = told.taken
    taken.stored()
    releasing = outbound.take_releasing()
    assert releasing == [1, 1]
    outbound.stored_pubrecs(releasing)
    assert outbound.pubcomp(1)
    assert outbound.take_completed() == [1]
    assert len(told.taken) == 1


def test_what_a_client_refuses_is_not_told() -> None:
    told = Told()
    outbound = told.queued()
    outbound.take(entry(1, qos=2))
    assert outbound.pubrec(1, REFUSED)
    direct = told.direct()
    direct.deliver(_message(), 2, False)
    assert direct.pubrec(1, REFUSED)
    assert told.taken == []
    assert outbound.take_acknowledged() == [1, 1]


def test_an_unknown_pubrec_is_not_told() -> None:
    told = Told()
    assert not told.queued().pubrec(1, 0)
    assert not told.direct().pubrec(1, 0)
    assert told.taken == []


def test_a_handshake_of_an_earlier_connection_is_not_told_again() -> None:
    told = Told()
    session = told.session(QueueState(1, 1, 1, 10, (1,), (), False))
    assert session.queued is not None
    assert session.queued.pubcomp(1)
    assert told.taken == []


def test_a_direct_session_tells_at_once() -> None:
    told = Told()
    outbound = told.direct()
    outbound.deliver(_message("one", b"\x09\x00\x01c"), 1, False)
    outbound.deliver(_message("two"), 2, False)
    assert outbound.puback(1)
    assert outbound.pubrec(2, 0)
    assert outbound.pubcomp(2)
    assert [(taken.topic, taken.qos, taken.properties) for taken in told.taken] == [
        ("one", 1, b"\x09\x00\x01c"),
        ("two", 2, b""),
    ]
    told.taken[0].stored()
    assert outbound.quota == 10


@pytest.mark.parametrize("is_queued", [False, True])
def test_what_does_not_fit_is_dropped_and_told(is_queued: bool) -> None:
    told = Told()
    if is_queued:
        queued = told.queued(maximum_packet_size=5)
        queued.take(Delivery(_message("large", CORRELATION), 1, False, (), 1, 1))
        assert queued.take_acknowledged() == [1, 1]
    else:
        told.direct(maximum_packet_size=5).deliver(_message("large", CORRELATION), 1, False)
    assert told.dropped == [("client", "large", "packet_too_large", 1, CORRELATION)]
    assert told.reports.counts == {"packet_too_large": 1}
    assert len(told.reports.take_letters()) == 1
    assert told.taken == []


def test_what_a_backlog_loses_is_told_with_its_properties() -> None:
    told = Told()
    outbound = told.direct()
    for number in range(13):  # a window of ten, then a backlog of two
        outbound.deliver(_message(f"t{number}", b"\x09\x00\x01%d" % (number % 10)), 2, False)
    assert told.dropped == [("client", "t10", "queue_full", 2, b"\x09\x00\x010")]
