"""What clients noticed, from records made by hand."""

from tests.cluster.checker import Violations
from tests.cluster.record import FaultBegan, FaultEnded
from tests.cluster.tale import Tale, subscribed
from tests.containers.figures import figures, page


def _rolled() -> Tale:
    tale = subscribed()
    tale.connect("p")
    tale.record.add(FaultBegan(tale.now(), "", "roll", ""))
    tale.lose("s")
    tale.publish(1)
    tale.connect("s", present=True)
    tale.lose("s")
    tale.connect("s", present=True)
    tale.deliver(1)
    tale.record.add(FaultEnded(tale.now(), "", "roll", ""))
    tale.lose("p")
    tale.connect("p", present=True)
    return tale


def test_only_what_happens_in_a_phase_counts_for_it() -> None:
    (phase,) = figures(_rolled().events).phases
    assert phase.reconnects == {"s": 2}
    assert phase.most_reconnects == 2


def test_the_median_is_that_of_all_clients() -> None:
    (phase,) = figures(_rolled().events).phases
    assert phase.median_reconnects(2) == 1
    assert phase.median_reconnects(3) == 0


def test_silence_is_from_publish_to_delivery() -> None:
    """Ticks of a tenth of a second: PUBLISH, CONNECT, CONNACK, lost, CONNECT, CONNACK, delivery."""
    (phase,) = figures(_rolled().events).phases
    assert [round(delay, 1) for delay in phase.delays] == [0.6]
    assert [round(away, 1) for away in phase.away] == [0.3, 0.2]


def test_the_page_has_a_row_for_each_phase_and_the_seed() -> None:
    text = page(figures(_rolled().events), Violations([]), "abc", "moorline 1")
    assert "| roll | 1 s | 1 | 1 / 2 | 0.30 s | 0.60 s |" in text
    assert "seed `abc`" in text
    assert "| **acknowledged messages lost** | 0 |" in text
