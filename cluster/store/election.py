"""Which of the sentinels' answers counts. Pure.

Every fail-over has a higher configuration epoch than the one before it, and no two have the same: a majority
of the sentinels has agreed to it before anything was done. So the answer of the highest epoch is the newest,
be it that of a single sentinel: the others hear of it within two seconds. Counting heads instead would follow
the old primary for so long.

What we never do is flap. An answer of a lower epoch (the sentinels that know the newer one are away) counts
only if more than half of all sentinels keep to it for longer than they need to tell each other: then a
fail-over has come to nothing, or somebody has set the sentinels up anew. Within an epoch we stay with the
address that we have, as sentinels may write the same one in two ways (by name, by number).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

GO_BACK_SECONDS: Final = 5.0
"""Sentinels tell each other every two seconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one sentinel: where the primary is, since which epoch."""

    host: str
    port: int
    epoch: int

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port


class Election:
    """What counts of the answers of `sentinels` sentinels, round by round."""

    def __init__(self, sentinels: int) -> None:
        self._sentinels = sentinels
        self._lower_since: float | None = None
        self.chosen: Answer | None = None
        """None before the first answer."""

    def count(self, answers: Sequence[Answer], now: float) -> Answer | None:
        """Takes those of one round; what is chosen after it."""
        if not answers:
            return self.chosen
        newest = max(answer.epoch for answer in answers)
        chosen = self.chosen
        if chosen is None or newest >= chosen.epoch or self._may_go_back(len(answers), now):
            self._lower_since = None
            self.chosen = _most_given([answer for answer in answers if answer.epoch == newest], chosen)
        return self.chosen

    def _may_go_back(self, answers: int, now: float) -> bool:
        if answers * 2 <= self._sentinels:
            self._lower_since = None
            return False
        if self._lower_since is None:
            self._lower_since = now
        return now - self._lower_since >= GO_BACK_SECONDS


def _most_given(answers: Sequence[Answer], chosen: Answer | None) -> Answer:
    counts = Counter(answers)
    if chosen is not None:
        same = Answer(chosen.host, chosen.port, answers[0].epoch)
        if same in counts:
            return same
    return max(counts, key=lambda answer: (counts[answer], answer.address))
