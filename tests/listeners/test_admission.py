"""Who may come in, without a socket."""

from broker.auth.address import network_of
from broker.listeners.admission import (
    ADDRESSES_MAXIMUM,
    Admission,
    AdmissionLimits,
    Visit,
)
from broker.observability.metrics import Counters
from broker.observability.offences import Offences


class Clock:
    """Goes on when it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def admission(
    maximum: int = 100,
    per_address: int = 0,
    half_open: int = 50,
    per_second: float = 0.0,
    per_second_per_address: float = 0.0,
) -> tuple[Admission, Counters, Clock]:
    counters, clock = Counters(), Clock()
    limits = AdmissionLimits(maximum, per_address, half_open, per_second, per_second_per_address, 1.0)
    return Admission(limits, Offences(counters, clock), clock), counters, clock


def _entered(visit: Visit | None) -> Visit:
    assert visit is not None
    return visit


def test_an_address_of_ipv6_is_a_64() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::9") == "2001:db8:1:2::"
    assert network_of("2001:db8:1:3::9") != network_of("2001:db8:1:2::9")
    assert network_of("fe80::1%eth0") == "fe80::"
    assert network_of("::ffff:192.0.2.7") == network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("") == ""
    assert network_of("/run/mqtt:1") == "/run/mqtt:1"


def test_places_are_counted_by_node_listener_and_address() -> None:
    node, counters, _ = admission(maximum=5, per_address=2)
    first, second = node.gate("one", 3, 0.0), node.gate("two", 0, 0.0)
    visits = [_entered(first.enter(f"2001:db8:{number}::1")) for number in range(3)]
    assert first.enter("2001:db8:9::1") is None
    assert counters.refused["listeners.one.connections_maximum"] == 1
    visits += [_entered(second.enter("2001:db8:7::1")), _entered(second.enter("2001:db8:7::2"))]
    assert second.enter("2001:db8:8::1") is None
    assert counters.refused["connections_maximum"] == 1
    visits[0].leave()
    visits[0].leave()
    assert second.enter("2001:db8:7::3") is None
    assert counters.refused["connections_per_address"] == 1
    visits[3].leave()
    _entered(second.enter("2001:db8:7::3"))
    assert node.open == 4


def test_who_has_sent_connect_is_not_in_the_way() -> None:
    node, counters, _ = admission(half_open=2)
    gate = node.gate("", 0, 0.0)
    closed: list[int] = []
    visits = []
    for number in range(5):
        visit = _entered(gate.enter("192.0.2.1"))
        visit.when_evicted(lambda number=number: closed.append(number))  # type: ignore[misc]  # as a default
        if number == 0:
            visit.settle()
        visits.append(visit)
    assert closed == [1, 2]
    assert list(node.half_open) == visits[3:]
    assert counters.refused["half_open_connections"] == 2
    visits[3].leave()
    _entered(gate.enter("192.0.2.1"))
    assert closed == [1, 2]


def test_who_is_in_the_middle_of_a_method_makes_room_as_well() -> None:
    node, counters, _ = admission(half_open=2)
    gate = node.gate("", 0, 0.0)
    closed: list[int] = []
    visits = []
    for number in range(2):
        visit = _entered(gate.enter("192.0.2.1"))
        visit.when_evicted(lambda number=number: closed.append(number))  # type: ignore[misc]  # as a default
        visit.authenticate(lambda number=number: closed.append(10 + number))  # type: ignore[misc]  # as above
        visits.append(visit)
    assert (node.authenticating, list(node.half_open)) == (2, visits)
    visits[1].settle()
    visits[1].settle()
    assert (node.authenticating, list(node.half_open)) == (1, visits[:1])
    for _ in range(2):
        _entered(gate.enter("192.0.2.1"))
    assert closed == [10]
    assert counters.refused["half_open_connections"] == 1
    visits[0].leave()
    assert node.authenticating == 0


def test_who_is_evicted_before_it_can_be_closed_is_closed_then() -> None:
    node, _, _ = admission(half_open=1)
    gate = node.gate("", 0, 0.0)
    first = _entered(gate.enter("192.0.2.1"))
    _entered(gate.enter("192.0.2.1"))
    assert first.is_evicted
    closed: list[bool] = []
    first.when_evicted(lambda: closed.append(True))
    assert closed == [True]


def test_a_proxy_tells_the_address_later() -> None:
    node, counters, _ = admission(per_address=1)
    gate = node.gate("", 0, 0.0)
    visits = [_entered(gate.enter()) for _ in range(3)]
    assert visits[0].come_from("192.0.2.1")
    assert not visits[1].come_from("192.0.2.1")
    assert visits[2].come_from("192.0.2.2")
    assert counters.refused["connections_per_address"] == 1
    for visit in visits:
        visit.leave()
    assert _entered(gate.enter()).come_from("192.0.2.1")


def test_the_rate_of_an_address() -> None:
    node, counters, clock = admission(per_second_per_address=2.0)
    gate = node.gate("", 0, 0.0)
    assert [gate.enter("192.0.2.1") is not None for _ in range(3)] == [True, True, False]
    assert gate.enter("192.0.2.2") is not None
    clock.now += 0.5
    assert [gate.enter("192.0.2.1") is not None for _ in range(2)] == [True, False]
    assert counters.refused["connects_per_second_per_address"] == 2


def test_the_rates_of_so_many_addresses_are_kept() -> None:
    node, _, _ = admission(maximum=1 << 30, half_open=1 << 30, per_second_per_address=1.0)
    for number in range(ADDRESSES_MAXIMUM + 10):
        node.refusal_of_address(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(node._rates) == ADDRESSES_MAXIMUM
    assert node.refusal_of_address("10.0.0.0") is None  # forgotten
    assert node.refusal_of_address("10.1.0.9") is not None


def test_where_the_node_has_too_much_to_do_it_takes_none_for_a_while() -> None:
    node, counters, _ = admission(per_second=10.0)
    quick, slow = node.gate("quick", 0, 0.0), node.gate("slow", 0, 1.0)
    assert [quick.pause_seconds() for _ in range(8)] == [0.0] * 8
    assert [slow.pause_seconds() for _ in range(2)] == [0.0, 1.0]
    assert [round(quick.pause_seconds(), 6) for _ in range(2)] == [0.1, 0.2]
    assert counters.throttled["listeners.slow.connects_per_second"] == 1
    assert counters.throttled["connects_per_second"] == 2


def test_nobody_comes_in_while_memory_is_short() -> None:
    node, counters, _ = admission()
    node.is_closed = True
    assert node.gate("", 0, 0.0).enter("192.0.2.1") is None
    assert counters.refused["memory_high_water_bytes"] == 1


def test_other_limits_hold_for_those_who_come_then() -> None:
    node, counters, _ = admission()
    gate = node.gate("one", 0, 0.0)
    before = [_entered(gate.enter("192.0.2.7")) for _ in range(3)]
    node.change(AdmissionLimits(100, 1, 50, 0.0, 0.0, 1.0))
    counted = _entered(gate.enter("192.0.2.7"))
    before[0].leave()  # it was not counted when it came
    assert gate.enter("192.0.2.7") is None
    assert counters.refused["connections_per_address"] == 1
    node.change(AdmissionLimits(2, 0, 50, 0.0, 0.0, 1.0))
    assert gate.enter("192.0.2.8") is None
    counted.leave()
    before[1].leave()
    node.change(AdmissionLimits(100, 1, 50, 1.0, 1.0, 1.0))
    _entered(gate.enter("192.0.2.7"))
    assert gate.pause_seconds() == 0.0
    assert gate.pause_seconds() == 1.0
