"""Which batches are timed, and from when."""

from broker.routing import Timing
from broker.session import Drops


class Timed:
    """A Timing, and what it has told."""

    def __init__(self) -> None:
        self.drops = Drops()
        self.told: list[tuple[str, float]] = []
        self.probes = 0
        self.timing = Timing(
            self.drops,
            delivered_direct=lambda seconds: self.told.append(("direct", seconds)),
            delivered_stored=lambda seconds: self.told.append(("stored", seconds)),
            acknowledged=lambda seconds: self.told.append(("acknowledged", seconds)),
            probe=lambda ready: self._probe(),
        )

    def _probe(self) -> None:
        self.probes += 1

    def names(self) -> list[str]:
        """What was told since the last time."""
        names = [name for name, _ in self.told]
        self.told = []
        return names

    def batch(self, *, direct: int = 0, meanwhile: int = 0, stored: int = 0, is_settled: bool = True) -> None:
        """One batch, and how much is sent in which part of it."""
        self.timing.begin()
        self.drops.sent[1] += direct
        self.timing.delivered([], is_stored=False)
        self.drops.sent[1] += meanwhile
        self.timing.exchanged()
        self.drops.sent[2] += stored
        self.timing.delivered([], is_stored=True)
        self.timing.end(is_settled, has_more=False)


def test_what_was_sent_is_timed() -> None:
    timed = Timed()
    timed.timing.woken()
    timed.batch(direct=1, stored=1)
    assert timed.probes == 2
    assert all(0 <= seconds < 1 for _, seconds in timed.told)
    assert timed.names() == ["direct", "stored", "acknowledged"]


def test_what_others_were_sent_meanwhile_is_not() -> None:
    timed = Timed()
    timed.timing.woken()
    timed.batch(meanwhile=3)
    assert timed.names() == ["acknowledged"]


def test_not_every_batch_is_timed() -> None:
    """The next one comes within the interval."""
    timed = Timed()
    for _ in range(3):
        timed.timing.woken()
        timed.batch(direct=1)
    assert timed.names() == ["direct", "acknowledged"]


def test_without_a_beginning_nothing_is_timed() -> None:
    timed = Timed()
    timed.batch(direct=1, stored=1)
    timed.timing.woken()
    timed.timing.end(is_settled=False, has_more=False)  # of something that was no message
    timed.batch(direct=1)
    assert timed.names() == []


def test_a_message_that_is_stored_first_is_timed_from_its_arrival() -> None:
    timed = Timed()
    timed.timing.woken()
    timed.timing.end(is_settled=False, has_more=True)  # its token is stored; now it is routed
    timed.batch(stored=1)
    assert timed.names() == ["stored", "acknowledged"]


def test_a_batch_that_takes_two_exchanges_is_timed_to_its_end() -> None:
    timed = Timed()
    timed.timing.woken()
    timed.batch(direct=1, is_settled=False)
    timed.batch(stored=1)
    assert timed.names() == ["direct", "stored", "acknowledged"]
