"""Metrics of bans."""

from broker.observability.bans import BanCounters, ban_metrics


def test_each_counter_reaches_the_page() -> None:
    def samples(counters: BanCounters) -> list[tuple[str, dict[str, str], float]]:
        return [
            (sample.name, sample.labels, sample.value)
            for metric in ban_metrics(counters)
            for sample in metric.samples
        ]

    counters = BanCounters()
    for kind in counters.refused:
        before = samples(counters)
        counters.refused[kind] += 1
        counters.held = {**counters.held, kind: 7}
        assert ("moorline_bans", {"kind": kind}, 7) in samples(counters)
        assert ("moorline_ban_refusals_total", {"kind": kind}, 1) in samples(counters)
        assert before != samples(counters)
    counters.automatic["guessing"] += 2
    counters.disconnected += 3
    counters.delayed += 4
    assert ("moorline_automatic_bans_total", {"reason": "guessing"}, 2) in samples(counters)
    assert ("moorline_automatic_bans_total", {"reason": "flapping"}, 0) in samples(counters)
    assert ("moorline_ban_disconnects_total", {}, 3) in samples(counters)
    assert ("moorline_guesses_delayed_total", {}, 4) in samples(counters)
